#include "entry.h"

#include <string.h>

#include "err.h"

_Static_assert(sizeof(vdr_entry) == VDR_ENTRY_FIXED_BYTES, "the fixed part is a format");
_Static_assert(sizeof(vdr_entry_extent) == VDR_ENTRY_EXTENT_BYTES, "an extent is a format");
_Static_assert(sizeof(vdr_piece) == VDR_ENTRY_PIECE_BYTES, "a piece is a format");

int vdr_path_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes) {
    size_t common = a_bytes < b_bytes ? a_bytes : b_bytes;
    size_t i = 0;
    for (; i + 8 <= common; i += 8) {
        if (memcmp(a + i, b + i, 8) != 0) break;
    }
    for (; i < common; i++) {
        if (a[i] != b[i]) {
            int left = a[i] == '/' ? 0 : a[i];
            int right = b[i] == '/' ? 0 : b[i];
            return left - right;
        }
    }
    if (a_bytes == b_bytes) return 0;
    return a_bytes < b_bytes ? -1 : 1;
}

int vdr_path_is_safe(const uint8_t *path, size_t path_bytes) {
    if (path_bytes == 0) return 1;
    if (path_bytes > VDR_ENTRY_PATH_BYTES_MAX || memchr(path, 0, path_bytes) != NULL) return 0;
    const uint8_t *end = path + path_bytes;
    for (const uint8_t *part = path;;) {
        const uint8_t *slash = memchr(part, '/', (size_t)(end - part));
        size_t bytes = (size_t)((slash != NULL ? slash : end) - part);
        if (bytes == 0 || bytes > 255) return 0;
        if (part[0] == '.' && (bytes == 1 || (bytes == 2 && part[1] == '.'))) return 0;
        if (slash == NULL) return 1;
        part = slash + 1;
    }
}

uint64_t vdr_path_hash(uint64_t seed, const uint8_t *path, size_t path_bytes) {
    const uint64_t prime = 0x9E3779B97F4A7C15u;
    uint64_t hash = seed ^ ((uint64_t)path_bytes * prime);
    size_t i = 0;
    while (i < path_bytes) {
        uint64_t word = 0;
        size_t take = path_bytes - i < 8 ? path_bytes - i : 8;
        memcpy(&word, path + i, take);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
        i += take;
    }
    hash *= prime;
    return hash ^ (hash >> 29);
}

int vdr_entry_attributes_valid(const uint8_t *block, size_t block_bytes) {
    size_t at = 0;
    while (at < block_bytes) {
        uint16_t name_bytes;
        uint32_t value_bytes;
        if (block_bytes - at < 6) return 0;
        memcpy(&name_bytes, block + at, 2);
        memcpy(&value_bytes, block + at + 2, 4);
        at += 6;
        if (name_bytes == 0 || name_bytes > 255 || name_bytes > block_bytes - at) return 0;
        if (memchr(block + at, 0, name_bytes) != NULL) return 0;
        at += name_bytes;
        if (value_bytes > block_bytes - at) return 0;
        at += value_bytes;
    }
    return 1;
}

int vdr_entry_fields_valid(const vdr_entry *entry) {
    if (entry->record_bytes < VDR_ENTRY_FIXED_BYTES || entry->record_bytes > VDR_ENTRY_BYTES_MAX) return 0;
    if (entry->record_bytes % 8 != 0) return 0;
    if (entry->type < VDR_TYPE_REGULAR || entry->type > VDR_TYPE_BLOCK) return 0;
    if ((entry->flags & ~VDR_FLAG_KNOWN) != 0 || entry->mode > 07777) return 0;
    if (entry->mtime_ns >= 1000000000u || entry->ctime_ns >= 1000000000u || entry->nlink == 0) return 0;
    if (entry->target_bytes > VDR_ENTRY_TARGET_BYTES_MAX) return 0;
    if (entry->attribute_bytes > VDR_ENTRY_ATTRIBUTE_BYTES_MAX) return 0;
    if (entry->extent_count > VDR_ENTRY_EXTENTS_MAX) return 0;
    if ((entry->type == VDR_TYPE_SYMLINK) != (entry->target_bytes != 0)) return 0;
    if (entry->type != VDR_TYPE_REGULAR) {
        if (entry->size_bytes != 0 || entry->extent_count != 0 || (entry->flags & (VDR_FLAG_LIST | VDR_FLAG_UNSTABLE)) != 0) return 0;
    }
    if (entry->type != VDR_TYPE_CHARACTER && entry->type != VDR_TYPE_BLOCK && (entry->rdev_major | entry->rdev_minor) != 0) return 0;
    if ((entry->flags & VDR_FLAG_LIST) != 0 && entry->extent_count != 1) return 0;
    if ((entry->flags & VDR_FLAG_UNREADABLE) != 0 && entry->extent_count != 0) return 0;
    if (entry->size_bytes > (uint64_t)INT64_MAX) return 0;
    return 1;
}

static int padding_is_zero(const uint8_t *from, const uint8_t *to) {
    for (; from < to; from++) {
        if (*from != 0) return 0;
    }
    return 1;
}

int64_t vdr_entry_check_loose(const uint8_t *record, size_t bytes) {
    if (bytes < VDR_ENTRY_FIXED_BYTES) return VDR_E_CORRUPT;
    const vdr_entry *entry = (const vdr_entry *)(const void *)record;
    if (entry->record_bytes > bytes || !vdr_entry_fields_valid(entry)) return VDR_E_CORRUPT;
    size_t path_at = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_PIECE_BYTES;
    size_t end = path_at + entry->path_bytes + entry->target_bytes + entry->attribute_bytes;
    if (vdr_entry_pad(end) != entry->record_bytes) return VDR_E_CORRUPT;
    if (entry->shared_bytes > VDR_STATE_LARGE || !vdr_path_is_safe(record + path_at, entry->path_bytes)) return VDR_E_CORRUPT;
    if (memchr(record + path_at + entry->path_bytes, 0, entry->target_bytes) != NULL) return VDR_E_CORRUPT;
    if (!vdr_entry_attributes_valid(record + end - entry->attribute_bytes, entry->attribute_bytes)) return VDR_E_CORRUPT;
    if (!padding_is_zero(record + end, record + entry->record_bytes)) return VDR_E_CORRUPT;
    return entry->record_bytes;
}

int64_t vdr_entry_set_pieces(uint8_t *record, size_t capacity, const vdr_piece *pieces, uint32_t count) {
    vdr_entry *entry = (vdr_entry *)(void *)record;
    if (count > VDR_ENTRY_EXTENTS_MAX) return VDR_E_ARGUMENT;
    size_t tail_bytes = (size_t)entry->path_bytes + entry->target_bytes + entry->attribute_bytes;
    size_t old_at = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_PIECE_BYTES;
    size_t new_at = VDR_ENTRY_FIXED_BYTES + (size_t)count * VDR_ENTRY_PIECE_BYTES;
    size_t record_bytes = vdr_entry_pad(new_at + tail_bytes);
    if (record_bytes > capacity) return VDR_E_SPACE;
    memmove(record + new_at, record + old_at, tail_bytes);
    memset(record + new_at + tail_bytes, 0, record_bytes - new_at - tail_bytes);
    if (count != 0) memcpy(record + VDR_ENTRY_FIXED_BYTES, pieces, (size_t)count * VDR_ENTRY_PIECE_BYTES);
    entry->extent_count = count;
    entry->record_bytes = (uint32_t)record_bytes;
    return (int64_t)record_bytes;
}

int64_t vdr_entry_name_packs(uint8_t *records, size_t bytes, const uint8_t *ids, size_t pack_count) {
    int64_t named = 0;
    for (size_t at = 0; at < bytes;) {
        vdr_entry *entry = (vdr_entry *)(void *)(records + at);
        if (entry->shared_bytes == VDR_STATE_PACKED) {
            vdr_piece *piece = (vdr_piece *)(void *)(records + at + VDR_ENTRY_FIXED_BYTES);
            uint32_t pack;
            memcpy(&pack, piece->id, 4);
            if (entry->extent_count != 1 || pack >= pack_count) return VDR_E_ARGUMENT;
            memcpy(piece->id, ids + (size_t)pack * 32, 32);
            entry->shared_bytes = VDR_STATE_DONE;
            named++;
        }
        at += entry->record_bytes;
    }
    return named;
}

int64_t vdr_entry_find_linked(const uint8_t *records, size_t bytes, size_t from) {
    for (size_t at = from; at < bytes;) {
        const vdr_entry *entry = (const vdr_entry *)(const void *)(records + at);
        if (entry->nlink > 1 && entry->type == VDR_TYPE_REGULAR) return (int64_t)at;
        at += entry->record_bytes;
    }
    return (int64_t)bytes;
}

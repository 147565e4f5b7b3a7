#include "segment.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"

#define ID_BYTES 32
#define BODY_CAPACITY (VDR_SEGMENT_BYTES_MAX + VDR_ENTRY_BYTES_MAX)
#define IDS_MAX (VDR_SEGMENT_BYTES_MAX / ID_BYTES + VDR_ENTRY_EXTENTS_MAX)
#define SLOTS 32768 /* a power of two well above IDS_MAX */

_Static_assert(sizeof(vdr_segment_header) == VDR_SEGMENT_HEADER_BYTES, "the header is a format");

enum { GROUP_DATA, GROUP_SEGMENT, GROUP_NODE, GROUPS };

struct vdr_segment_builder {
    uint64_t cut_seed;
    uint32_t entry_count;
    uint32_t path_bytes;
    uint32_t id_count[GROUPS];
    size_t body_bytes;
    int has_path; /* a path was taken before, in this segment or an earlier one */
    uint16_t slots[SLOTS]; /* data ids by hash: number + 1 */
    uint8_t ids[GROUPS][IDS_MAX * ID_BYTES];
    uint8_t path[VDR_ENTRY_PATH_BYTES_MAX + 1];
    _Alignas(8) uint8_t body[BODY_CAPACITY];
};

static int group_of(const vdr_entry *entry, uint32_t level) {
    if ((entry->flags & VDR_FLAG_LIST) == 0) return GROUP_DATA;
    return level == 0 ? GROUP_SEGMENT : GROUP_NODE;
}

static int extents_valid(const vdr_segment_header *header, const vdr_entry *entry) {
    const vdr_entry_extent *extents = (const vdr_entry_extent *)(const void *)((const uint8_t *)entry + VDR_ENTRY_FIXED_BYTES);
    uint64_t total = 0;
    for (uint32_t i = 0; i < entry->extent_count; i++) {
        const vdr_entry_extent *extent = &extents[i];
        if (extent->length_bytes == 0 || extent->length_bytes > (uint64_t)INT64_MAX - total) return 0;
        total += extent->length_bytes;
        if ((entry->flags & VDR_FLAG_LIST) != 0) {
            uint32_t limit = extent->offset_bytes == 0 ? header->segment_ids : header->node_ids;
            if (extent->offset_bytes > 15 || extent->chunk >= limit) return 0;
        } else if (extent->chunk == VDR_ENTRY_HOLE) {
            if (extent->offset_bytes != VDR_ENTRY_HOLE) return 0;
        } else {
            if (extent->chunk >= header->data_ids || extent->length_bytes > VDR_ENTRY_NAMED_BYTES_MAX) return 0;
            if (extent->offset_bytes > VDR_ENTRY_NAMED_BYTES_MAX - extent->length_bytes) return 0;
        }
    }
    return (entry->flags & VDR_FLAG_UNREADABLE) != 0 || total == entry->size_bytes;
}

static int64_t header_check(const vdr_segment_header *header, size_t plain_bytes) {
    if (plain_bytes < VDR_SEGMENT_HEADER_BYTES || memcmp(header->magic, "VMSG", 4) != 0) return VDR_E_CORRUPT;
    if (header->version > VDR_SEGMENT_VERSION) return VDR_E_VERSION;
    if (header->version != VDR_SEGMENT_VERSION || header->level != 0 || header->reserved != 0 || header->reserved2 != 0) return VDR_E_CORRUPT;
    uint64_t ids = (uint64_t)header->data_ids + header->segment_ids + header->node_ids;
    if (VDR_SEGMENT_HEADER_BYTES + ids * ID_BYTES + header->body_bytes != plain_bytes) return VDR_E_CORRUPT;
    if (plain_bytes > VDR_ENTRY_NAMED_BYTES_MAX) return VDR_E_CORRUPT;
    return 0;
}

static size_t body_offset(const vdr_segment_header *header) {
    return VDR_SEGMENT_HEADER_BYTES + ((size_t)header->data_ids + header->segment_ids + header->node_ids) * ID_BYTES;
}

int64_t vdr_segment_check(const uint8_t *plain, size_t plain_bytes) {
    const vdr_segment_header *header = (const vdr_segment_header *)(const void *)plain;
    int64_t bad = plain_bytes < VDR_SEGMENT_HEADER_BYTES ? VDR_E_CORRUPT : header_check(header, plain_bytes);
    if (bad != 0) return bad;
    uint8_t path[VDR_ENTRY_PATH_BYTES_MAX + 1];
    size_t path_bytes = 0;
    size_t at = body_offset(header);
    for (uint32_t i = 0; i < header->item_count; i++) {
        if (plain_bytes - at < VDR_ENTRY_FIXED_BYTES) return VDR_E_CORRUPT;
        const vdr_entry *entry = (const vdr_entry *)(const void *)(plain + at);
        if (entry->record_bytes > plain_bytes - at || !vdr_entry_fields_valid(entry)) return VDR_E_CORRUPT;
        size_t suffix_at = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_EXTENT_BYTES;
        size_t attributes_at = suffix_at + entry->path_bytes + entry->target_bytes;
        size_t end = attributes_at + entry->attribute_bytes;
        if (vdr_entry_pad(end) != entry->record_bytes) return VDR_E_CORRUPT;
        const uint8_t *record = plain + at;
        size_t whole = (size_t)entry->shared_bytes + entry->path_bytes;
        if (entry->shared_bytes > path_bytes || (i == 0 && entry->shared_bytes != 0) || whole > VDR_ENTRY_PATH_BYTES_MAX) return VDR_E_CORRUPT;
        if (i > 0) {
            /* the shared part is equal by definition, so the suffixes decide the order */
            if (vdr_path_compare(path + entry->shared_bytes, path_bytes - entry->shared_bytes, record + suffix_at, entry->path_bytes) >= 0)
                return VDR_E_CORRUPT;
        }
        memcpy(path + entry->shared_bytes, record + suffix_at, entry->path_bytes);
        path_bytes = whole;
        if (!vdr_path_is_safe(path, path_bytes) || !extents_valid(header, entry)) return VDR_E_CORRUPT;
        if (memchr(record + suffix_at + entry->path_bytes, 0, entry->target_bytes) != NULL) return VDR_E_CORRUPT;
        if (!vdr_entry_attributes_valid(record + attributes_at, entry->attribute_bytes)) return VDR_E_CORRUPT;
        for (size_t pad = end; pad < entry->record_bytes; pad++) {
            if (record[pad] != 0) return VDR_E_CORRUPT;
        }
        at += entry->record_bytes;
    }
    return at == plain_bytes ? (int64_t)header->item_count : VDR_E_CORRUPT;
}

void vdr_segment_begin(vdr_segment_cursor *cursor, const uint8_t *plain, size_t plain_bytes) {
    cursor->plain = plain;
    cursor->plain_bytes = plain_bytes;
    cursor->at = body_offset((const vdr_segment_header *)(const void *)plain);
    cursor->index = 0;
    cursor->path_bytes = 0;
    cursor->entry = NULL;
}

int vdr_segment_next(vdr_segment_cursor *cursor) {
    if (cursor->at >= cursor->plain_bytes) return 0;
    const uint8_t *record = cursor->plain + cursor->at;
    const vdr_entry *entry = (const vdr_entry *)(const void *)record;
    size_t suffix_at = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_EXTENT_BYTES;
    memcpy(cursor->path + entry->shared_bytes, record + suffix_at, entry->path_bytes);
    cursor->path_bytes = (uint32_t)entry->shared_bytes + entry->path_bytes;
    cursor->entry = entry;
    cursor->at += entry->record_bytes;
    cursor->index++;
    return 1;
}

int64_t vdr_segment_loosen(const vdr_segment_cursor *cursor, uint8_t *out, size_t capacity) {
    const vdr_entry *entry = cursor->entry;
    const uint8_t *record = (const uint8_t *)entry;
    const vdr_segment_header *header = (const vdr_segment_header *)(const void *)cursor->plain;
    size_t tail_bytes = (size_t)entry->target_bytes + entry->attribute_bytes;
    size_t path_at = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_PIECE_BYTES;
    size_t end = path_at + cursor->path_bytes + tail_bytes;
    if (vdr_entry_pad(end) > capacity) return VDR_E_SPACE;
    memcpy(out, entry, VDR_ENTRY_FIXED_BYTES);
    vdr_entry *loose = (vdr_entry *)(void *)out;
    loose->record_bytes = (uint32_t)vdr_entry_pad(end);
    loose->shared_bytes = VDR_STATE_DONE;
    loose->path_bytes = (uint16_t)cursor->path_bytes;
    const vdr_entry_extent *extents = (const vdr_entry_extent *)(const void *)(record + VDR_ENTRY_FIXED_BYTES);
    vdr_piece *pieces = (vdr_piece *)(void *)(out + VDR_ENTRY_FIXED_BYTES);
    const uint8_t *ids = cursor->plain + VDR_SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < entry->extent_count; i++) {
        size_t number = extents[i].chunk;
        int group = group_of(entry, extents[i].offset_bytes);
        if (group != GROUP_DATA) number += header->data_ids;
        if (group == GROUP_NODE) number += header->segment_ids;
        if (extents[i].chunk == VDR_ENTRY_HOLE) memset(pieces[i].id, 0, ID_BYTES);
        else memcpy(pieces[i].id, ids + number * ID_BYTES, ID_BYTES);
        pieces[i].length_bytes = extents[i].length_bytes;
        pieces[i].offset_bytes = extents[i].offset_bytes;
        pieces[i].reserved = 0;
    }
    memcpy(out + path_at, cursor->path, cursor->path_bytes);
    size_t stored_tail = VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_EXTENT_BYTES + entry->path_bytes;
    memcpy(out + path_at + cursor->path_bytes, record + stored_tail, tail_bytes);
    memset(out + end, 0, loose->record_bytes - end);
    return loose->record_bytes;
}

int64_t vdr_segment_loosen_all(vdr_segment_cursor *cursor, uint8_t *out, size_t capacity) {
    size_t written = 0;
    for (;;) {
        if (cursor->entry == NULL && !vdr_segment_next(cursor)) return (int64_t)written;
        int64_t bytes = vdr_segment_loosen(cursor, out + written, capacity - written);
        if (bytes < 0) return written != 0 ? (int64_t)written : bytes;
        written += (size_t)bytes;
        cursor->entry = NULL;
    }
}

vdr_segment_builder *vdr_segment_builder_open(uint64_t cut_seed) {
    vdr_segment_builder *builder = calloc(1, sizeof *builder);
    if (builder != NULL) builder->cut_seed = cut_seed;
    return builder;
}

void vdr_segment_builder_close(vdr_segment_builder *builder) { free(builder); }

/* Number of a data id in the open segment; ids are uniform, so their own bytes are the hash. */
static uint32_t data_number(vdr_segment_builder *builder, const uint8_t *id) {
    uint32_t hash;
    memcpy(&hash, id, 4);
    uint8_t *ids = builder->ids[GROUP_DATA];
    for (uint32_t slot = hash & (SLOTS - 1);; slot = (slot + 1) & (SLOTS - 1)) {
        uint32_t number = builder->slots[slot];
        if (number == 0) {
            number = builder->id_count[GROUP_DATA]++;
            memcpy(ids + (size_t)number * ID_BYTES, id, ID_BYTES);
            builder->slots[slot] = (uint16_t)(number + 1);
            return number;
        }
        if (memcmp(ids + (size_t)(number - 1) * ID_BYTES, id, ID_BYTES) == 0) return number - 1;
    }
}

static size_t open_bytes(const vdr_segment_builder *builder) {
    size_t ids = (size_t)builder->id_count[0] + builder->id_count[1] + builder->id_count[2];
    return VDR_SEGMENT_HEADER_BYTES + ids * ID_BYTES + builder->body_bytes;
}

static void segment_finish(vdr_segment_builder *builder, uint8_t *out, vdr_segment_info *info, uint8_t *paths) {
    vdr_segment_header header = {
        .magic = {'V', 'M', 'S', 'G'},
        .version = VDR_SEGMENT_VERSION,
        .item_count = builder->entry_count,
        .data_ids = builder->id_count[GROUP_DATA],
        .segment_ids = builder->id_count[GROUP_SEGMENT],
        .node_ids = builder->id_count[GROUP_NODE],
        .body_bytes = (uint32_t)builder->body_bytes,
    };
    *info = (vdr_segment_info){
        .plain_bytes = (uint32_t)open_bytes(builder), .entry_count = builder->entry_count, .last_path_bytes = builder->path_bytes};
    memcpy(out, &header, sizeof header);
    out += sizeof header;
    for (int group = 0; group < GROUPS; group++) {
        memcpy(out, builder->ids[group], (size_t)builder->id_count[group] * ID_BYTES);
        out += (size_t)builder->id_count[group] * ID_BYTES;
        builder->id_count[group] = 0;
    }
    memcpy(out, builder->body, builder->body_bytes);
    memcpy(paths, builder->path, builder->path_bytes);
    memset(builder->slots, 0, sizeof builder->slots);
    builder->body_bytes = 0;
    builder->entry_count = 0;
}

static void entry_append(vdr_segment_builder *builder, const vdr_entry *loose) {
    const uint8_t *path = vdr_entry_loose_path(loose);
    size_t shared = 0;
    if (builder->entry_count > 0) {
        size_t limit = builder->path_bytes < loose->path_bytes ? builder->path_bytes : loose->path_bytes;
        while (shared < limit && builder->path[shared] == path[shared]) shared++;
    }
    uint8_t *out = builder->body + builder->body_bytes;
    memcpy(out, loose, VDR_ENTRY_FIXED_BYTES);
    vdr_entry *entry = (vdr_entry *)(void *)out;
    entry->shared_bytes = (uint16_t)shared;
    entry->path_bytes = (uint16_t)(loose->path_bytes - shared);
    vdr_entry_extent *extents = (vdr_entry_extent *)(void *)(out + VDR_ENTRY_FIXED_BYTES);
    const vdr_piece *pieces = vdr_entry_pieces(loose);
    for (uint32_t i = 0; i < loose->extent_count; i++) {
        int group = group_of(loose, pieces[i].offset_bytes);
        if (group == GROUP_DATA && pieces[i].offset_bytes == VDR_ENTRY_HOLE) {
            extents[i].chunk = VDR_ENTRY_HOLE;
        } else if (group == GROUP_DATA) {
            extents[i].chunk = data_number(builder, pieces[i].id);
        } else {
            extents[i].chunk = builder->id_count[group]++;
            memcpy(builder->ids[group] + (size_t)extents[i].chunk * ID_BYTES, pieces[i].id, ID_BYTES);
        }
        extents[i].offset_bytes = pieces[i].offset_bytes;
        extents[i].length_bytes = pieces[i].length_bytes;
    }
    size_t at = VDR_ENTRY_FIXED_BYTES + (size_t)loose->extent_count * VDR_ENTRY_EXTENT_BYTES;
    memcpy(out + at, path + shared, loose->path_bytes - shared);
    at += loose->path_bytes - shared;
    size_t tail_bytes = (size_t)loose->target_bytes + loose->attribute_bytes;
    memcpy(out + at, path + loose->path_bytes, tail_bytes);
    at += tail_bytes;
    entry->record_bytes = (uint32_t)vdr_entry_pad(at);
    memset(out + at, 0, entry->record_bytes - at);
    builder->body_bytes += entry->record_bytes;
    builder->entry_count++;
    memcpy(builder->path + shared, path + shared, loose->path_bytes - shared);
    builder->path_bytes = loose->path_bytes;
    builder->has_path = 1;
}

int64_t vdr_segment_builder_append(vdr_segment_builder *builder, const uint8_t *records, size_t bytes, size_t *used, int is_end,
                                   uint8_t *out, size_t capacity, vdr_segment_info *infos, size_t info_capacity,
                                   uint8_t *paths, size_t path_capacity) {
    const size_t segment_max = VDR_SEGMENT_BYTES_MAX + VDR_ENTRY_BYTES_MAX;
    size_t written = 0, paths_written = 0, count = 0;
    for (;;) {
        /* room for one finished segment, whatever comes */
        if (capacity - written < segment_max || path_capacity - paths_written < VDR_ENTRY_PATH_BYTES_MAX || count == info_capacity)
            return (int64_t)count;
        if (*used >= bytes) break;
        const vdr_entry *loose = (const vdr_entry *)(const void *)(records + *used);
        int64_t record_bytes = vdr_entry_check_loose(records + *used, bytes - *used);
        if (record_bytes < 0) return record_bytes;
        if (loose->shared_bytes != VDR_STATE_DONE) return VDR_E_ARGUMENT;
        const uint8_t *path = vdr_entry_loose_path(loose);
        if (builder->has_path && vdr_path_compare(builder->path, builder->path_bytes, path, loose->path_bytes) >= 0) return VDR_E_CORRUPT;
        int is_cut = 0;
        /* a bound on what the entry adds, known before its chunks are looked up */
        if (builder->entry_count > 0 && open_bytes(builder) + (size_t)record_bytes > VDR_SEGMENT_BYTES_MAX) {
            is_cut = 1;
        } else {
            entry_append(builder, loose);
            *used += (size_t)record_bytes;
            is_cut = open_bytes(builder) >= VDR_SEGMENT_BYTES_MIN &&
                     (vdr_path_hash(builder->cut_seed, path, loose->path_bytes) & VDR_SEGMENT_CUT_MASK) == 0;
        }
        if (is_cut) {
            segment_finish(builder, out + written, &infos[count], paths + paths_written);
            written += infos[count].plain_bytes;
            paths_written += infos[count].last_path_bytes;
            count++;
        }
    }
    if (is_end && builder->entry_count > 0) {
        segment_finish(builder, out + written, &infos[count], paths + paths_written);
        count++;
    }
    return (int64_t)count;
}

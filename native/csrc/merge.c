#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"

#define LINKS_MAX (1u << 20) /* slots; a link beyond is read as a file of its own */

typedef struct {
    uint64_t inode;
    uint64_t dev; /* major and minor; all ones marks an empty slot */
} link_key;

struct vdr_merge {
    uint64_t cut_seed;
    int reads_all;
    int old_state; /* 0 nothing read yet, 1 the cursor holds an entry, 2 no more */
    uint64_t pack_bytes; /* of the open pack */
    uint64_t batch_read_bytes;
    uint64_t batch_large_bytes;
    uint32_t batch_entries;
    size_t last_read_at; /* in `out`: the last entry of the open pack, to be marked when the batch has to end */
    int has_last_read;
    link_key *links;
    size_t link_count;
    size_t link_slots;
    vdr_merge_counts counts;
    vdr_segment_cursor cursor;
};

vdr_merge *vdr_merge_open(uint64_t cut_seed, int reads_all) {
    vdr_merge *merge = calloc(1, sizeof *merge);
    if (merge == NULL) return NULL;
    merge->cut_seed = cut_seed;
    merge->reads_all = reads_all;
    return merge;
}

void vdr_merge_close(vdr_merge *merge) {
    if (merge == NULL) return;
    free(merge->links);
    free(merge);
}

void vdr_merge_counts_get(const vdr_merge *merge, vdr_merge_counts *counts) { *counts = merge->counts; }

static size_t link_slot(const link_key *links, size_t slots, link_key key) {
    uint64_t hash = (key.inode ^ (key.dev << 1)) * 0x9E3779B97F4A7C15u;
    size_t slot = (size_t)(hash >> 32) & (slots - 1);
    while (links[slot].dev != UINT64_MAX && (links[slot].inode != key.inode || links[slot].dev != key.dev)) slot = (slot + 1) & (slots - 1);
    return slot;
}

/* 1 when an earlier entry of this run reads the same inode. */
static int link_is_known(vdr_merge *merge, const vdr_entry *entry) {
    link_key key = {entry->inode, ((uint64_t)entry->dev_major << 32) | entry->dev_minor};
    if (merge->link_count * 2 >= merge->link_slots && merge->link_slots < LINKS_MAX) {
        size_t slots = merge->link_slots == 0 ? 1024 : merge->link_slots * 4;
        link_key *links = malloc(slots * sizeof *links);
        if (links == NULL) return 0;
        memset(links, 0xff, slots * sizeof *links);
        for (size_t i = 0; i < merge->link_slots; i++) {
            if (merge->links[i].dev != UINT64_MAX) links[link_slot(links, slots, merge->links[i])] = merge->links[i];
        }
        free(merge->links);
        merge->links = links;
        merge->link_slots = slots;
    }
    size_t slot = link_slot(merge->links, merge->link_slots, key);
    if (merge->links[slot].dev != UINT64_MAX) return 1;
    if (merge->link_count * 2 < merge->link_slots) {
        merge->links[slot] = key;
        merge->link_count++;
    }
    return 0;
}

static int is_unchanged(const vdr_entry *old, const vdr_entry *now) {
    return old->type == now->type && old->size_bytes == now->size_bytes && old->mtime_s == now->mtime_s && old->mtime_ns == now->mtime_ns &&
           old->ctime_s == now->ctime_s && old->ctime_ns == now->ctime_ns && old->inode == now->inode && old->dev_major == now->dev_major &&
           old->dev_minor == now->dev_minor && old->mode == now->mode && old->uid == now->uid && old->gid == now->gid && old->nlink == now->nlink &&
           old->rdev_major == now->rdev_major && old->rdev_minor == now->rdev_minor && old->flags == (now->flags | (old->flags & VDR_FLAG_LIST)) &&
           (old->flags & (VDR_FLAG_UNREADABLE | VDR_FLAG_UNSTABLE)) == 0;
}

/* The pack that the file belongs to ends with it. */
static int ends_pack(const vdr_merge *merge, const vdr_entry *entry, const uint8_t *path) {
    if (merge->pack_bytes < VDR_PACK_BYTES_MIN) return 0;
    if (merge->pack_bytes + VDR_PACK_FILE_BYTES_MAX > VDR_PACK_BYTES_MAX) return 1;
    size_t name_at = entry->path_bytes;
    while (name_at > 0 && path[name_at - 1] != '/') name_at--;
    uint64_t hash = vdr_path_hash(merge->cut_seed ^ entry->size_bytes, path + name_at, entry->path_bytes - name_at);
    return (hash >> 40) < (entry->size_bytes << 24) / VDR_PACK_BYTES_SPREAD;
}

static void batch_begin(vdr_merge *merge) {
    merge->pack_bytes = 0;
    merge->batch_read_bytes = 0;
    merge->batch_large_bytes = 0;
    merge->batch_entries = 0;
    merge->has_last_read = 0;
}

static int batch_end(vdr_merge *merge, vdr_merge_io *io, int result) {
    if (merge->has_last_read) ((vdr_entry *)(void *)(io->out + merge->last_read_at))->shared_bytes = VDR_STATE_READ_END;
    batch_begin(merge);
    return result;
}

/* Copy a scanned entry, with the pieces of the old one if there is one, so that its content can be compared. */
static int64_t emit(vdr_merge *merge, vdr_merge_io *io, const vdr_entry *now, int is_found, int is_same) {
    uint8_t *out = io->out + io->out_used;
    size_t room = io->out_bytes - io->out_used;
    if (is_same) return vdr_segment_loosen(&merge->cursor, out, room);
    const vdr_entry *old = merge->cursor.entry;
    int keeps_pieces = is_found && old->type == VDR_TYPE_REGULAR && now->type == VDR_TYPE_REGULAR && old->size_bytes == now->size_bytes &&
                       old->extent_count == 1 && (old->flags & (VDR_FLAG_LIST | VDR_FLAG_UNREADABLE)) == 0;
    size_t pieces_bytes = keeps_pieces ? VDR_ENTRY_PIECE_BYTES : 0;
    if (now->record_bytes + pieces_bytes > room) return VDR_E_SPACE;
    memcpy(out, now, now->record_bytes);
    if (!keeps_pieces) return now->record_bytes;
    /* only a packed file has a hash of its content, and it has one piece */
    const vdr_entry_extent *extent = (const vdr_entry_extent *)(const void *)((const uint8_t *)old + VDR_ENTRY_FIXED_BYTES);
    if (extent->chunk == VDR_ENTRY_HOLE) return now->record_bytes;
    vdr_piece piece = {.length_bytes = extent->length_bytes, .offset_bytes = extent->offset_bytes};
    memcpy(piece.id, merge->cursor.plain + VDR_SEGMENT_HEADER_BYTES + (size_t)extent->chunk * 32, 32);
    memcpy(((vdr_entry *)(void *)out)->content_hash, old->content_hash, sizeof old->content_hash);
    return vdr_entry_set_pieces(out, room, &piece, 1);
}

/* Step the old stream to the first path not before `now`'s. Returns 1 when it has one, 0 when it has ended, -1 to ask for more. */
static int old_seek(vdr_merge *merge, vdr_merge_io *io, const uint8_t *path, size_t path_bytes, int *is_found) {
    for (;;) {
        if (merge->old_state == 2) return 0;
        if (merge->old_state == 1) {
            int order = vdr_path_compare(merge->cursor.path, merge->cursor.path_bytes, path, path_bytes);
            *is_found = order == 0;
            if (order >= 0) return 1;
        }
        if (io->old_is_new) {
            vdr_segment_begin(&merge->cursor, io->old, io->old_bytes);
            io->old_is_new = 0;
        }
        if (merge->cursor.plain != NULL && vdr_segment_next(&merge->cursor)) {
            merge->old_state = 1;
            continue;
        }
        merge->cursor.plain = NULL;
        merge->old_state = 0;
        if (!io->old_is_end) return -1;
        merge->old_state = 2;
    }
}

int vdr_merge_step(vdr_merge *merge, vdr_merge_io *io) {
    for (;;) {
        if (io->scan_used >= io->scan_bytes) {
            if (!io->scan_is_end) return VDR_MERGE_WANTS_SCAN;
            return batch_end(merge, io, VDR_MERGE_END);
        }
        const vdr_entry *now = (const vdr_entry *)(const void *)(io->scan + io->scan_used);
        const uint8_t *path = vdr_entry_loose_path(now);
        int is_found = 0;
        if (old_seek(merge, io, path, now->path_bytes, &is_found) < 0) return VDR_MERGE_WANTS_OLD;
        int is_same = is_found && !merge->reads_all && is_unchanged(merge->cursor.entry, now);
        int64_t bytes = emit(merge, io, now, is_found, is_same);
        if (bytes == VDR_E_SPACE && io->out_used > 0) return batch_end(merge, io, VDR_MERGE_BATCH);
        if (bytes < 0) return (int)bytes;
        io->scan_used += now->record_bytes;
        merge->counts.entries++;
        merge->counts.logical_bytes += now->size_bytes;
        merge->batch_entries++;
        int is_at_pack_end = merge->pack_bytes == 0;
        if (is_same) {
            merge->counts.unchanged++;
        } else {
            vdr_entry *entry = (vdr_entry *)(void *)(io->out + io->out_used);
            entry->shared_bytes = VDR_STATE_READ;
            if (is_found) merge->counts.changed++;
            else merge->counts.added++;
            if (entry->type == VDR_TYPE_REGULAR && entry->nlink > 1 && link_is_known(merge, entry)) {
                entry->shared_bytes = VDR_STATE_LINK;
            } else if (entry->type == VDR_TYPE_REGULAR) {
                merge->counts.read_bytes += entry->size_bytes;
                if (entry->size_bytes > VDR_PACK_FILE_BYTES_MAX) {
                    merge->batch_large_bytes += entry->size_bytes;
                } else if (entry->size_bytes > 0) {
                    merge->batch_read_bytes += entry->size_bytes;
                    merge->pack_bytes += entry->size_bytes;
                    merge->last_read_at = io->out_used;
                    merge->has_last_read = 1;
                    is_at_pack_end = ends_pack(merge, entry, path);
                    if (is_at_pack_end) {
                        entry->shared_bytes = VDR_STATE_READ_END;
                        merge->pack_bytes = 0;
                        merge->has_last_read = 0;
                    }
                }
            }
        }
        io->out_used += (size_t)bytes;
        int is_enough = merge->batch_read_bytes >= VDR_BATCH_READ_BYTES || merge->batch_entries >= VDR_BATCH_ENTRIES;
        if ((is_enough && is_at_pack_end) || merge->batch_large_bytes >= VDR_BATCH_LARGE_BYTES || merge->batch_entries >= VDR_BATCH_ENTRIES_MAX)
            return batch_end(merge, io, VDR_MERGE_BATCH);
    }
}

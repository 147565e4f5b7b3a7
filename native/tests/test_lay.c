/* The way of a small tree through scan, merge, gather, segments and lay, and back: under the sanitizers this walks every
 * record and buffer of the file nouns. */
#define _GNU_SOURCE
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "err.h"
#include "gather.h"
#include "lay.h"
#include "merge.h"
#include "scan.h"
#include "segment.h"

#define FILES 3000
#define SEGMENTS_MAX 64

static uint8_t *aligned(size_t bytes) {
    uint8_t *memory = malloc(bytes);
    assert(memory != NULL);
    return memory;
}

static vdr_event_list events_new(void) {
    return (vdr_event_list){.records = aligned(1 << 20), .capacity = 1 << 20};
}

static void file_write(int fd, const char *name, const void *data, size_t bytes) {
    int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    assert(file >= 0 && write(file, data, bytes) == (ssize_t)bytes);
    close(file);
}

static void tree_make(int fd) {
    char name[300], text[400];
    for (int i = 0; i < FILES; i++) {
        if (i % 100 == 0) {
            snprintf(name, sizeof name, "d%02d", i / 100);
            assert(mkdirat(fd, name, 0755) == 0);
        }
        snprintf(name, sizeof name, "d%02d/file %d", i / 100, i);
        int bytes = snprintf(text, sizeof text, "content of %d ", i);
        memset(text + bytes, 'a' + i % 26, (size_t)(i % 300));
        file_write(fd, name, text, (size_t)bytes + (size_t)(i % 300));
    }
    memset(name, 'n', 255);
    name[255] = 0;
    file_write(fd, name, "x", 1);
    file_write(fd, "empty", "", 0);
    assert(linkat(fd, "empty", fd, "d00/also empty", 0) == 0);
    assert(symlinkat("d00/file 1", fd, "link") == 0);
    assert(mkfifoat(fd, "fifo", 0600) == 0);
    uint8_t *large = calloc(1, 200000);
    memset(large, 7, 100000);
    file_write(fd, "large", large, 200000);
    free(large);
    int file = openat(fd, "d01/file 100", O_RDONLY);
    assert(file >= 0);
    (void)fsetxattr(file, "user.note", "value", 5, 0);
    close(file);
}

typedef struct {
    uint8_t *plain[SEGMENTS_MAX];
    size_t bytes[SEGMENTS_MAX];
    size_t count;
    uint8_t *packs[4096];
    uint32_t pack_bytes[4096];
    size_t pack_count;
    vdr_merge_counts counts;
} point;

static void segments_take(point *made, vdr_segment_builder *builder, const uint8_t *records, size_t bytes, int is_end) {
    static _Alignas(8) uint8_t out[2 << 20];
    static uint8_t paths[1 << 17];
    vdr_segment_info infos[64];
    size_t used = 0;
    for (;;) {
        int64_t count = vdr_segment_builder_append(builder, records, bytes, &used, is_end, out, sizeof out, infos, 64, paths, sizeof paths);
        assert(count >= 0);
        size_t at = 0;
        for (int64_t i = 0; i < count; i++) {
            assert(made->count < SEGMENTS_MAX);
            made->plain[made->count] = aligned(infos[i].plain_bytes);
            memcpy(made->plain[made->count], out + at, infos[i].plain_bytes);
            made->bytes[made->count] = infos[i].plain_bytes;
            assert(vdr_segment_check(made->plain[made->count], infos[i].plain_bytes) == infos[i].entry_count);
            made->count++;
            at += infos[i].plain_bytes;
        }
        if (count == 0 && used == bytes) return;
    }
}

static void batch_take(point *made, vdr_gather *gather, vdr_segment_builder *builder, const uint8_t *batch, size_t bytes) {
    vdr_event_list events = events_new();
    uint64_t offsets[64];
    uint32_t lengths[64];
    uint8_t ids[64 * 32];
    vdr_gather_io io = {.batch = batch,
                        .batch_bytes = bytes,
                        .out = aligned(2 << 20),
                        .out_bytes = 2 << 20,
                        .data = aligned(1 << 19),
                        .data_bytes = 1 << 19,
                        .pack_offsets = offsets,
                        .pack_lengths = lengths,
                        .pack_capacity = 64};
    for (;;) {
        int result = vdr_gather_step(gather, &io, &events);
        assert(result >= 0);
        if (result == VDR_GATHER_LARGE) {
            vdr_piece hole = {.length_bytes = 200000, .offset_bytes = VDR_ENTRY_HOLE};
            assert(vdr_gather_refresh(io.large_fd, io.out + io.large_at) == 0);
            close(io.large_fd);
            ((vdr_entry *)(void *)(io.out + io.large_at))->shared_bytes = VDR_STATE_DONE;
            int64_t record = vdr_entry_set_pieces(io.out + io.large_at, io.out_bytes - io.large_at, &hole, 1);
            assert(record > 0);
            io.out_used = io.large_at + (size_t)record;
            continue;
        }
        memset(ids, 0, sizeof ids);
        for (size_t i = 0; i < io.pack_count; i++) {
            uint32_t number = (uint32_t)made->pack_count;
            memcpy(ids + i * 32, &number, 4);
            ids[i * 32 + 31] = 1;
            made->packs[number] = aligned(lengths[i]);
            memcpy(made->packs[number], io.data + offsets[i], lengths[i]);
            made->pack_bytes[number] = lengths[i];
            made->pack_count++;
        }
        assert(vdr_entry_name_packs(io.out, io.out_used, ids, io.pack_count) >= 0);
        for (size_t at = 0; at < io.out_used;) {
            vdr_entry *entry = (vdr_entry *)(void *)(io.out + at);
            entry->shared_bytes = VDR_STATE_DONE; /* links of the empty file have no content to take over */
            assert(vdr_entry_check_loose(io.out + at, io.out_used - at) == entry->record_bytes);
            at += entry->record_bytes;
        }
        segments_take(made, builder, io.out, io.out_used, 0);
        io.out_used = io.data_used = io.pack_count = 0;
        if (result == VDR_GATHER_END) break;
    }
    assert(events.bytes == 0 && events.dropped == 0);
    free(events.records);
    free(io.out);
    free(io.data);
}

static void back_up(int fd, const point *old, point *made) {
    vdr_event_list events = events_new();
    static const uint8_t key[32] = {1};
    vdr_scan *scan = vdr_scan_open(fd, NULL, 0, 0, NULL, 0);
    vdr_merge *merge = vdr_merge_open(9, 0);
    vdr_gather *gather = vdr_gather_open(fd, key);
    vdr_segment_builder *builder = vdr_segment_builder_open(9);
    assert(scan != NULL && merge != NULL && gather != NULL && builder != NULL);
    uint8_t *scanned = aligned(1 << 17);
    vdr_merge_io io = {.out = aligned(1 << 20), .out_bytes = 1 << 20};
    size_t next_old = 0;
    for (int result = 0; result != VDR_MERGE_END;) {
        result = vdr_merge_step(merge, &io);
        assert(result >= 0);
        if (result == VDR_MERGE_WANTS_SCAN) {
            int64_t bytes = vdr_scan_next(scan, scanned, 1 << 17, &events);
            assert(bytes >= 0);
            io.scan = scanned;
            io.scan_bytes = (size_t)bytes;
            io.scan_used = 0;
            io.scan_is_end = vdr_scan_is_end(scan);
        } else if (result == VDR_MERGE_WANTS_OLD) {
            if (old == NULL || next_old == old->count) {
                io.old_is_end = 1;
            } else {
                io.old = old->plain[next_old];
                io.old_bytes = old->bytes[next_old++];
                io.old_is_new = 1;
            }
        } else {
            batch_take(made, gather, builder, io.out, io.out_used);
            io.out_used = 0;
        }
    }
    segments_take(made, builder, io.out, 0, 1);
    vdr_merge_counts_get(merge, &made->counts);
    uint32_t owners[4];
    assert(vdr_scan_owners(scan, 0, owners, 4) >= 1);
    vdr_scan_close(scan);
    vdr_merge_close(merge);
    vdr_gather_close(gather);
    vdr_segment_builder_close(builder);
    free(scanned);
    free(io.out);
    free(events.records);
}

static void restore(int fd, const point *from) {
    vdr_event_list events = events_new();
    vdr_lay *lay = vdr_lay_open(fd, 0, 5);
    assert(lay != NULL);
    vdr_segment_cursor *cursor = malloc(sizeof *cursor);
    uint8_t *block = aligned(2 << 20);
    uint64_t written = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < from->count; i++) {
            vdr_segment_begin(cursor, from->plain[i], from->bytes[i]);
            for (;;) {
                int64_t bytes = vdr_segment_loosen_all(cursor, block, 2 << 20);
                assert(bytes >= 0);
                if (bytes == 0) break;
                if (pass == 1) {
                    assert(vdr_lay_finish(lay, block, (size_t)bytes, 0, &events) >= 0);
                    continue;
                }
                assert(vdr_lay_directories(lay, block, (size_t)bytes, &events) >= 0);
                for (size_t at = 0, to = 0; at < (size_t)bytes; at = to) {
                    uint8_t ids[64 * 32];
                    const uint8_t *chunks[64];
                    uint32_t lengths[64];
                    int64_t count = vdr_lay_wants(block, (size_t)bytes, at, &to, ids, 64);
                    assert(count >= 0 && to > at);
                    for (int64_t k = 0; k < count; k++) {
                        uint32_t number;
                        memcpy(&number, ids + k * 32, 4);
                        chunks[k] = from->packs[number];
                        lengths[k] = from->pack_bytes[number];
                    }
                    assert(vdr_lay_files(lay, block, at, to, ids, chunks, lengths, (size_t)count, &events, &written) >= 0);
                }
            }
        }
    }
    assert(vdr_lay_finish(lay, block, 0, 1, &events) >= 1);
    assert(events.bytes == 0 && events.dropped == 0 && written > 0);
    vdr_lay_close(lay);
    free(cursor);
    free(block);
    free(events.records);
}

static void point_free(point *made) {
    for (size_t i = 0; i < made->count; i++) free(made->plain[i]);
    for (size_t i = 0; i < made->pack_count; i++) free(made->packs[i]);
    free(made);
}

/* Flip every byte of a segment, one at a time: the check answers without touching what is not its own. */
static void segments_hostile(const point *made) {
    size_t bytes = made->bytes[0];
    for (size_t at = 0; at < bytes; at += at < 2000 ? 1 : 53) {
        uint8_t *copy = aligned(bytes);
        memcpy(copy, made->plain[0], bytes);
        copy[at] ^= (uint8_t)(1 + at % 255);
        if (vdr_segment_check(copy, bytes) >= 0) {
            vdr_segment_cursor *cursor = malloc(sizeof *cursor);
            uint8_t *block = aligned(2 << 20);
            vdr_segment_begin(cursor, copy, bytes);
            assert(vdr_segment_loosen_all(cursor, block, 2 << 20) >= 0);
            free(cursor);
            free(block);
        }
        free(copy);
    }
    for (size_t bytes_left = 0; bytes_left < bytes; bytes_left += 97) {
        uint8_t *copy = aligned(bytes_left + 1);
        memcpy(copy, made->plain[0], bytes_left);
        assert(vdr_segment_check(copy, bytes_left) == VDR_E_CORRUPT);
        free(copy);
    }
}

int main(void) {
    char source[] = "/tmp/vdr-files-XXXXXX", target[] = "/tmp/vdr-files-XXXXXX", command[200];
    assert(mkdtemp(source) != NULL && mkdtemp(target) != NULL);
    int source_fd = open(source, O_RDONLY | O_DIRECTORY), target_fd = open(target, O_RDONLY | O_DIRECTORY);
    tree_make(source_fd);
    point *first = calloc(1, sizeof *first), *second = calloc(1, sizeof *second);
    back_up(source_fd, NULL, first);
    assert(first->counts.entries == FILES + FILES / 100 + 7 && first->counts.added == first->counts.entries);
    assert(first->count > 2 && first->pack_count > 1);
    back_up(source_fd, first, second);
    assert(second->counts.unchanged == first->counts.entries && second->counts.read_bytes == 0 && second->pack_count == 0);
    assert(second->count == first->count);
    for (size_t i = 0; i < first->count; i++) {
        assert(first->bytes[i] == second->bytes[i] && memcmp(first->plain[i], second->plain[i], first->bytes[i]) == 0);
    }
    restore(target_fd, first);
    char text[64] = {0};
    int file = openat(target_fd, "d07/file 701", O_RDONLY);
    assert(file >= 0 && read(file, text, 14) == 14 && memcmp(text, "content of 701", 14) == 0);
    close(file);
    segments_hostile(first);
    point_free(first);
    point_free(second);
    close(source_fd);
    close(target_fd);
    snprintf(command, sizeof command, "rm -rf %s %s", source, target);
    assert(system(command) == 0);
    return 0;
}

#include "diskmap.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

#define BATCH_BLOCKS 64u
#define BATCH_BYTES (4u << 20)
#define STREAMS 8u
#define STREAM_BYTES (256u << 10)       /* read in a row before anything is read ahead */
#define STREAM_DEPTH 16u                /* reads of one stream that overtake each other, */
#define STREAM_SLACK_BYTES (4u << 20)   /* and no more of them than so many bytes */

/* ---- nodes ---- */

int64_t vdr_diskmap_node_encode(uint32_t level, const uint8_t *ids, const uint8_t *absent, uint8_t *out) {
    if (level < 1 || level > VDR_DISKMAP_LEVELS_MAX) return VDR_E_ARGUMENT;
    memset(out, 0, VDR_DISKMAP_NODE_HEADER_BYTES);
    uint32_t present = 0;
    for (uint32_t i = 0; i < VDR_DISKMAP_FANOUT; i++) {
        if (absent[i]) continue;
        out[8 + i / 8] |= (uint8_t)(1u << (i % 8));
        memcpy(out + VDR_DISKMAP_NODE_HEADER_BYTES + 32 * (size_t)present++, ids + 32 * (size_t)i, 32);
    }
    if (!present) return 0;
    out[0] = 'V';
    out[1] = 'M';
    out[2] = 1;
    out[3] = (uint8_t)level;
    out[4] = (uint8_t)present;
    out[5] = (uint8_t)(present >> 8);
    return VDR_DISKMAP_NODE_HEADER_BYTES + 32 * (int64_t)present;
}

static uint32_t bits_below(const uint8_t *bitmap, uint32_t end) {
    uint32_t count = 0, i = 0;
    for (; i + 64 <= end; i += 64) {
        uint64_t word;
        memcpy(&word, bitmap + i / 8, 8);
        count += (uint32_t)__builtin_popcountll(word);
    }
    if (i < end) {
        uint64_t word;
        memcpy(&word, bitmap + i / 8, 8);
        count += (uint32_t)__builtin_popcountll(word & ((1ull << (end - i)) - 1));
    }
    return count;
}

static bool node_holds(const uint8_t *node, size_t bytes, uint32_t level) {
    if (bytes < VDR_DISKMAP_NODE_HEADER_BYTES + 32 || node[0] != 'V' || node[1] != 'M' || node[2] != 1 || node[3] != level)
        return false;
    uint32_t present = node[4] | (uint32_t)node[5] << 8;
    return !node[6] && !node[7] && present == bits_below(node + 8, VDR_DISKMAP_FANOUT) &&
           bytes == VDR_DISKMAP_NODE_HEADER_BYTES + 32 * (size_t)present;
}

static const uint8_t *node_child(const uint8_t *node, uint32_t child) {
    if (!(node[8 + child / 8] >> (child % 8) & 1)) return NULL;
    return node + VDR_DISKMAP_NODE_HEADER_BYTES + 32 * (size_t)bits_below(node + 8, child);
}

int64_t vdr_diskmap_node_decode(const uint8_t *node, size_t bytes, uint32_t level, uint8_t *ids, uint8_t *absent) {
    if (!node_holds(node, bytes, level)) return VDR_E_CORRUPT;
    uint32_t present = 0;
    for (uint32_t i = 0; i < VDR_DISKMAP_FANOUT; i++) {
        absent[i] = !(node[8 + i / 8] >> (i % 8) & 1);
        if (absent[i]) memset(ids + 32 * (size_t)i, 0, 32);
        else memcpy(ids + 32 * (size_t)i, node + VDR_DISKMAP_NODE_HEADER_BYTES + 32 * (size_t)present++, 32);
    }
    return present;
}

/* ---- walking ---- */

/* Reads that follow each other. */
typedef struct {
    uint64_t next;       /* where the next one is expected */
    uint64_t ahead;      /* up to where chunks were asked for in the background */
    uint64_t run_bytes;  /* read so far */
    uint64_t last_use;
} stream;

typedef struct {
    vdr_reader *reader;
    bool is_zero;
    uint8_t root_id[32];
    uint32_t levels;
    uint64_t size_bytes;
    uint32_t block_bytes;
    pthread_mutex_t stream_lock;
    stream streams[STREAMS];
    uint64_t clock;
} map;

static uint64_t level_blocks(uint32_t level) { return 1ull << (8 * level); }

/* The level 1 node over `block` in *leaf (the caller unpins it), or NULL there and *span = how many blocks from `block` on are
 * known to be absent. */
static int leaf_find(const map *m, uint64_t block, vdr_pin **leaf, uint64_t *span) {
    *leaf = NULL;
    *span = UINT64_MAX - block;
    if (m->is_zero) return VDR_OK;
    uint8_t id[32];
    memcpy(id, m->root_id, 32);
    for (uint32_t level = m->levels;; level--) {
        int error = VDR_OK;
        vdr_pin *pin = vdr_reader_pin(m->reader, id, &error);
        if (!pin) return error;
        const uint8_t *node = vdr_pin_data(pin);
        if (!node_holds(node, vdr_pin_bytes(pin), level)) {
            vdr_reader_unpin(m->reader, pin);
            return VDR_E_CORRUPT;
        }
        if (level == 1) {
            *leaf = pin;
            return VDR_OK;
        }
        uint64_t child_blocks = level_blocks(level - 1);
        uint32_t child = (uint32_t)(block / child_blocks % VDR_DISKMAP_FANOUT);
        const uint8_t *next = node_child(node, child);
        if (next) memcpy(id, next, 32);
        vdr_reader_unpin(m->reader, pin);
        if (!next) {
            *span = child_blocks - block % child_blocks;
            return VDR_OK;
        }
    }
}

static int64_t resolve(const map *m, uint64_t first, size_t count, uint8_t *ids, uint8_t *absent) {
    int64_t present = 0;
    for (size_t i = 0; i < count;) {
        vdr_pin *leaf;
        uint64_t span;
        int error = leaf_find(m, first + i, &leaf, &span);
        if (error) return error;
        if (!leaf) {
            for (; span && i < count; span--) absent[i++] = 1;
            continue;
        }
        uint32_t child = (uint32_t)((first + i) % VDR_DISKMAP_FANOUT);
        for (; child < VDR_DISKMAP_FANOUT && i < count; child++, i++) {
            const uint8_t *id = node_child(vdr_pin_data(leaf), child);
            absent[i] = !id;
            if (id) memcpy(ids + 32 * i, id, 32);
            present += id != NULL;
        }
        vdr_reader_unpin(m->reader, leaf);
    }
    return present;
}

int64_t vdr_diskmap_resolve(vdr_reader *reader, const uint8_t *root_id, uint32_t levels, uint64_t first, size_t count,
                            uint8_t *ids, uint8_t *absent) {
    if (root_id && (levels < 1 || levels > VDR_DISKMAP_LEVELS_MAX)) return VDR_E_ARGUMENT;
    map m = {.reader = reader, .is_zero = !root_id, .levels = levels};
    if (root_id) memcpy(m.root_id, root_id, 32);
    if (root_id && (first > level_blocks(levels) || count > level_blocks(levels) - first)) return VDR_E_ARGUMENT;
    return resolve(&m, first, count, ids, absent);
}

/* ---- the disk ---- */

static uint32_t block_length(const map *m, uint64_t block) {
    uint64_t left = m->size_bytes - block * m->block_bytes;
    return left < m->block_bytes ? (uint32_t)left : m->block_bytes;
}

/* Bytes of at most batch_blocks() blocks. All of a block goes through the cache, however little of it is wanted: the next read
 * is likely to want the rest. */
static int read_batch(const map *m, uint64_t offset, size_t bytes, uint8_t *out) {
    uint64_t first = offset / m->block_bytes;
    size_t count = (size_t)((offset + bytes - 1) / m->block_bytes - first + 1);
    uint8_t ids[BATCH_BLOCKS * 32], absent[BATCH_BLOCKS];
    vdr_pin *pins[BATCH_BLOCKS];
    int64_t present = resolve(m, first, count, ids, absent);
    if (present < 0) return (int)present;
    for (size_t i = 0, to = 0; i < count; i++)
        if (!absent[i]) memmove(ids + 32 * to++, ids + 32 * i, 32);
    int error = vdr_reader_pin_all(m->reader, ids, (size_t)present, pins);
    if (error) return error;
    for (size_t i = 0, next = 0; i < count; i++) {
        uint64_t block = first + i, start = block * m->block_bytes;
        uint32_t length = block_length(m, block);
        uint32_t skip = offset > start ? (uint32_t)(offset - start) : 0;
        uint64_t end = start + length < offset + bytes ? start + length : offset + bytes;
        uint32_t wanted = (uint32_t)(end - start) - skip;
        uint8_t *to = out + (start + skip - offset);
        if (absent[i]) {
            memset(to, 0, wanted);
            continue;
        }
        vdr_pin *pin = pins[next++];
        if (vdr_pin_bytes(pin) == length) memcpy(to, vdr_pin_data(pin) + skip, wanted);
        else error = VDR_E_CORRUPT;
        vdr_reader_unpin(m->reader, pin);
    }
    return error;
}

/* How many blocks are read at once: enough for the packs, few enough for memory. */
static uint32_t batch_blocks(const map *m) {
    uint32_t blocks = BATCH_BYTES / m->block_bytes;
    return blocks < 1 ? 1 : blocks > BATCH_BLOCKS ? BATCH_BLOCKS : blocks;
}

/* ---- reading ahead ---- */

/* Let the chunks of a range be read in the background; where it got to. */
static uint64_t prefetch(const map *m, uint64_t offset, uint64_t end, bool waits) {
    while (offset < end) {
        uint64_t first = offset / m->block_bytes, last = (end - 1) / m->block_bytes;
        size_t count = last - first + 1 < batch_blocks(m) ? (size_t)(last - first + 1) : batch_blocks(m);
        uint8_t ids[BATCH_BLOCKS * 32], absent[BATCH_BLOCKS];
        int64_t present = resolve(m, first, count, ids, absent);
        if (present < 0) break;
        for (size_t i = 0, to = 0; i < count; i++)
            if (!absent[i]) memmove(ids + 32 * to++, ids + 32 * i, 32);
        if (!vdr_reader_prefetch(m->reader, ids, (size_t)present, waits)) break;
        offset = (first + count) * m->block_bytes;
    }
    return offset;
}

/* The stream that a read belongs to, if it goes on where one was: several readers of one client overtake each other. The oldest
 * one becomes a new one otherwise. Lock held. */
static stream *stream_of(map *m, uint64_t offset, size_t bytes) {
    stream *oldest = &m->streams[0];
    uint64_t slack = bytes < STREAM_SLACK_BYTES / STREAM_DEPTH ? bytes * STREAM_DEPTH : STREAM_SLACK_BYTES;
    for (size_t i = 0; i < STREAMS; i++) {
        stream *s = &m->streams[i];
        if (s->run_bytes && offset + slack >= s->next && offset <= s->next + slack) return s;
        if (s->last_use < oldest->last_use) oldest = s;
    }
    *oldest = (stream){.next = offset};
    return oldest;
}

/* A read went by: let what follows be read if it is one of many in a row. */
static void read_ahead(map *m, uint64_t offset, size_t bytes) {
    uint64_t begin = 0, end = 0;
    pthread_mutex_lock(&m->stream_lock);
    stream *s = stream_of(m, offset, bytes);
    s->last_use = ++m->clock;
    s->run_bytes += bytes;
    if (offset + bytes > s->next) s->next = offset + bytes;
    uint64_t window = vdr_reader_ahead_bytes(m->reader);
    if (window > 2 * s->run_bytes) window = 2 * s->run_bytes;
    if (s->ahead < s->next) s->ahead = s->next;
    if (s->run_bytes >= STREAM_BYTES && s->ahead - s->next <= window / 2 && s->ahead < m->size_bytes) {
        begin = s->ahead;
        end = s->next + window < m->size_bytes ? s->next + window : m->size_bytes;
        s->ahead = end;
    }
    pthread_mutex_unlock(&m->stream_lock);
    if (begin < end) prefetch(m, begin, end, false);
}

static void point_prefetch(void *context, uint64_t offset, uint64_t bytes, int waits) {
    prefetch(context, offset, offset + bytes, waits != 0);
}

static int point_read(void *context, uint64_t offset, void *buffer, size_t bytes) {
    map *m = context;
    uint8_t *out = buffer;
    read_ahead(m, offset, bytes);
    while (bytes) {
        uint64_t room = (uint64_t)batch_blocks(m) * m->block_bytes - offset % m->block_bytes;
        size_t part = bytes < room ? bytes : (size_t)room;
        int error = read_batch(m, offset, part, out);
        if (error) return error;
        offset += part;
        out += part;
        bytes -= part;
    }
    return VDR_OK;
}

static int64_t point_extents(void *context, uint64_t offset, uint64_t bytes, vdr_extent *extents, size_t capacity) {
    const map *m = context;
    uint64_t end = offset + bytes, at = offset;
    size_t count = 0;
    while (at < end) {
        vdr_pin *leaf;
        uint64_t block = at / m->block_bytes, span;
        int error = leaf_find(m, block, &leaf, &span);
        if (error) return error;
        uint32_t child = (uint32_t)(block % VDR_DISKMAP_FANOUT);
        uint32_t kind = VDR_EXTENT_HOLE;
        if (leaf) {
            const uint8_t *node = vdr_pin_data(leaf);
            bool is_present = node_child(node, child) != NULL;
            uint32_t last = child + 1;
            while (last < VDR_DISKMAP_FANOUT && (node_child(node, last) != NULL) == is_present) last++;
            span = last - child;
            kind = is_present ? VDR_EXTENT_DATA : VDR_EXTENT_HOLE;
            vdr_reader_unpin(m->reader, leaf);
        }
        uint64_t blocks_left = (end - 1) / m->block_bytes - block + 1;
        uint64_t stop = span >= blocks_left ? end : (block + span) * m->block_bytes;
        size_t grown = vdr_extents_append(extents, count, capacity, at, stop - at, kind);
        if (grown == count && !(count && extents[count - 1].kind == kind)) break;
        count = grown;
        at = stop;
    }
    return (int64_t)count;
}

static void point_close(void *context) {
    map *m = context;
    vdr_reader_close(m->reader);
    pthread_mutex_destroy(&m->stream_lock);
    free(m);
}

static const vdr_disk_operations point_operations = {
    .read = point_read,
    .extents = point_extents,
    .prefetch = point_prefetch,
    .close = point_close,
};

int vdr_disk_point_open(vdr_reader *reader, const uint8_t *root_id, uint32_t levels, uint64_t size_bytes,
                        uint32_t block_bytes, vdr_disk **disk) {
    if (block_bytes < VDR_DISKMAP_BLOCK_BYTES_MIN || block_bytes > VDR_DISKMAP_BLOCK_BYTES_MAX) return VDR_E_ARGUMENT;
    if (block_bytes & (block_bytes - 1)) return VDR_E_ARGUMENT;
    if (root_id) {
        uint64_t blocks = size_bytes / block_bytes + (size_bytes % block_bytes != 0);
        if (levels < 1 || levels > VDR_DISKMAP_LEVELS_MAX || blocks > level_blocks(levels)) return VDR_E_ARGUMENT;
    }
    map *m = calloc(1, sizeof *m);
    if (!m) return VDR_E_MEMORY;
    m->reader = reader;
    m->is_zero = !root_id;
    if (root_id) memcpy(m->root_id, root_id, 32);
    m->levels = levels;
    m->size_bytes = size_bytes;
    m->block_bytes = block_bytes;
    pthread_mutex_init(&m->stream_lock, NULL);
    int error = vdr_disk_make(&point_operations, m, size_bytes, disk);
    if (error) {
        pthread_mutex_destroy(&m->stream_lock);
        free(m);
        return error;
    }
    vdr_reader_retain(reader);
    return VDR_OK;
}

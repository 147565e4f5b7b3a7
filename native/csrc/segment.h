/* Segments of a manifest: a run of entries in path order with the ids of the chunks that hold their content, one chunk of
 * the store. `docs/formats/manifest.md` states the layout. A segment built twice from the same entries is the same bytes. */
#ifndef VDR_SEGMENT_H
#define VDR_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "entry.h"

/* cffi: begin */
enum {
    VDR_SEGMENT_HEADER_BYTES = 32,
    VDR_SEGMENT_BYTES_MIN = 16384,   /* no cut before, except at the end */
    VDR_SEGMENT_BYTES_MAX = 262144,  /* cut before an entry that would exceed it, unless it is the first */
    VDR_SEGMENT_CUT_MASK = 255,      /* a path whose hash has these bits zero ends a segment */
    VDR_SEGMENT_VERSION = 1,
};

typedef struct {
    uint8_t magic[4]; /* "VMSG" */
    uint8_t version;
    uint8_t level; /* 0 */
    uint16_t reserved;
    uint32_t item_count;    /* entries */
    uint32_t data_ids;      /* chunks of kind data named here */
    uint32_t segment_ids;   /* of kind manifest segment (leaves of content lists) */
    uint32_t node_ids;      /* of kind manifest node (nodes of content lists) */
    uint32_t body_bytes;    /* entries */
    uint32_t reserved2;
} vdr_segment_header;

/* Where reading stands in a segment. `path` is the path of the entry read last. */
typedef struct {
    const uint8_t *plain;
    size_t plain_bytes;
    size_t at;         /* offset of the next entry */
    uint32_t index;    /* its number */
    uint32_t path_bytes;
    const vdr_entry *entry; /* the entry read last */
    uint8_t path[65536];
} vdr_segment_cursor;

/* Check all of a segment: framing, ranges, safe paths in strictly ascending order, attribute blocks, extents. Returns the
 * number of entries, or VDR_E_CORRUPT, VDR_E_VERSION. Total: any 8-byte aligned bytes may be given. */
int64_t vdr_segment_check(const uint8_t *plain, size_t plain_bytes);

/* Start reading a segment that passed vdr_segment_check. The bytes stay the caller's. */
void vdr_segment_begin(vdr_segment_cursor *cursor, const uint8_t *plain, size_t plain_bytes);

/* Step to the next entry. Returns 1, or 0 at the end. */
int vdr_segment_next(vdr_segment_cursor *cursor);

/* Write the entry read last in its loose form (VDR_STATE_DONE) to `out`, 8-byte aligned. Returns its length or VDR_E_SPACE. */
int64_t vdr_segment_loosen(const vdr_segment_cursor *cursor, uint8_t *out, size_t capacity);

/* Write the entries still to come in loose form to `out`, as many as fit. Returns bytes written (0 at the end), or
 * VDR_E_SPACE when the next one does not fit an empty buffer. Not to be mixed with vdr_segment_next on one cursor. */
int64_t vdr_segment_loosen_all(vdr_segment_cursor *cursor, uint8_t *out, size_t capacity);

/* Builds segments from loose entries. */
typedef struct vdr_segment_builder vdr_segment_builder;

typedef struct {
    uint32_t plain_bytes;
    uint32_t entry_count;
    uint32_t last_path_bytes;
    uint32_t reserved;
} vdr_segment_info;

/* NULL without memory. */
vdr_segment_builder *vdr_segment_builder_open(uint64_t cut_seed);
void vdr_segment_builder_close(vdr_segment_builder *builder);

/* Take loose entries (VDR_STATE_DONE, ascending paths) from `records`, *used on, and write finished segments back to back to
 * `out` (each length is a multiple of 8), their infos to `infos` and the last path of each back to back to `paths`. Stops early
 * when a finished segment might not fit: `capacity` must be at least 1 MiB, `path_capacity` 65536. With `is_end` non-zero and
 * all records used the open segment is finished too. Returns segments written; *used == bytes when all were taken (and with
 * is_end, all is written once that holds and fewer than `info_capacity` came back); VDR_E_CORRUPT for a record or order that
 * is wrong. */
int64_t vdr_segment_builder_append(vdr_segment_builder *builder, const uint8_t *records, size_t bytes, size_t *used, int is_end,
                                   uint8_t *out, size_t capacity, vdr_segment_info *infos, size_t info_capacity,
                                   uint8_t *paths, size_t path_capacity);
/* cffi: end */

#endif

/* Merges a fresh scan with the manifest of the point before, as two sorted streams in bounded memory: what is unchanged keeps
 * its content, the rest is marked to be read. The result comes in batches that are read, packed and stored independently;
 * their bounds, and those of the packs in them, are decided by names and sizes, so that the same tree makes the same packs. */
#ifndef VDR_MERGE_H
#define VDR_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "segment.h"

/* cffi: begin */
enum {
    VDR_PACK_FILE_BYTES_MAX = 131072,  /* larger files are cut by content, not packed */
    VDR_PACK_BYTES_MIN = 65536,        /* no pack ends before */
    VDR_PACK_BYTES_SPREAD = 196608,    /* beyond that a file ends its pack with probability size / spread */
    VDR_PACK_BYTES_MAX = 1048576,      /* no pack is longer */
    VDR_BATCH_READ_BYTES = 1048576,    /* a batch ends at the first pack end beyond this much to read ... */
    VDR_BATCH_LARGE_BYTES = 16777216,  /* ... or beyond this much of large files ... */
    VDR_BATCH_ENTRIES = 2048,          /* ... or beyond this many entries ... */
    VDR_BATCH_ENTRIES_MAX = 16384,     /* ... and at this many wherever it stands */
};

typedef enum {
    VDR_MERGE_WANTS_SCAN = 0, /* all of `scan` is used: give the next entries, or set scan_is_end */
    VDR_MERGE_WANTS_OLD = 1,  /* all of `old` is used: give the next segment, or set old_is_end */
    VDR_MERGE_BATCH = 2,      /* `out` holds a batch */
    VDR_MERGE_END = 3,        /* `out` holds the last batch, maybe an empty one */
} vdr_merge_step_result;

typedef struct {
    const uint8_t *scan; /* loose entries from vdr_scan_next */
    size_t scan_bytes;
    size_t scan_used;
    const uint8_t *old; /* a checked segment; NULL before the first */
    size_t old_bytes;
    uint8_t *out; /* at least 1 MiB */
    size_t out_bytes;
    size_t out_used;
    int scan_is_end;
    int old_is_end;
    int old_is_new; /* set by the caller with a new `old`; cleared by the step */
    int reserved;
} vdr_merge_io;

typedef struct {
    uint64_t entries;
    uint64_t unchanged;
    uint64_t changed; /* read again, of a path the manifest before has */
    uint64_t added;
    uint64_t read_bytes; /* sizes of regular files marked to be read */
    uint64_t logical_bytes; /* sizes of all regular files */
} vdr_merge_counts;

typedef struct vdr_merge vdr_merge;

/* `reads_all`: nothing counts as unchanged, contents are still compared. NULL without memory. */
vdr_merge *vdr_merge_open(uint64_t cut_seed, int reads_all);
void vdr_merge_close(vdr_merge *merge);

/* Go on until something is wanted or a batch is complete (vdr_merge_step_result), or VDR_E_SPACE for an `out` too small for one
 * entry. The caller empties `out` (out_used = 0) after each batch. */
int vdr_merge_step(vdr_merge *merge, vdr_merge_io *io);

void vdr_merge_counts_get(const vdr_merge *merge, vdr_merge_counts *counts);
/* cffi: end */

#endif

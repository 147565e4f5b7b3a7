/* A writable disk over one that is never written: changed blocks live in a sparse data file, a durable bitmap says which
 * they are. Format and crash behaviour: docs/formats/overlay.md. */
#ifndef VDR_OVERLAY_H
#define VDR_OVERLAY_H

#include <stddef.h>
#include <stdint.h>

#include "disk.h"
#include "overlay_map.h"

/* cffi: begin */
enum { VDR_OVERLAY_TRAILER_BYTES = 4096 };

typedef struct {
    uint64_t blocks;        /* blocks that hide those of the lower disk */
    uint64_t stored_bytes;  /* space the two files take */
    uint64_t flushes;       /* times the files were synced; several callers may share one */
    uint64_t torn_pages;    /* bitmap pages that fell back to their older state when opened: a crash hit a flush */
} vdr_overlay_statistics;

/* Turn two empty files, open for reading and writing, into an empty overlay; durable on return (the caller syncs their
 * directory). `block_bytes` is a power of two, 512 to 65536. */
int vdr_overlay_create(int data_fd, int bitmap_fd, const vdr_overlay_identity *identity);

/* What the bitmap file says it belongs to. VDR_E_CORRUPT: not one, or damaged. VDR_E_VERSION: newer than this program. */
int vdr_overlay_identify(int bitmap_fd, vdr_overlay_identity *identity);

/* Open an overlay over `lower` (retained). The descriptors are duplicated. The caller has checked `lower_id` and holds a
 * lock: one opener at a time. VDR_E_ARGUMENT: the lower disk has another size. VDR_E_CORRUPT: the files are damaged or do
 * not belong together. Closing flushes; whoever must know whether that worked flushes first. */
int vdr_overlay_open(vdr_disk *lower, int data_fd, int bitmap_fd, vdr_disk **disk);

/* The same for an encrypted one, with its 64 bytes of key: the caller has compared `key_check`. VDR_E_CRYPTO: the crypto
 * library does not provide the cipher. An overlay that is encrypted is not opened without a key, nor the other way round
 * (VDR_E_ARGUMENT). */
int vdr_overlay_open_encrypted(vdr_disk *lower, int data_fd, int bitmap_fd, const uint8_t *key, vdr_disk **disk);

/* How much the data file may hold, about (threads that write at the same time do not wait for each other); 0: no limit.
 * Writes that need more fail with VDR_E_IO, errno ENOSPC, and change nothing; what needs no more space goes on. */
int vdr_overlay_set_limit(vdr_disk *disk, uint64_t limit_bytes);

/* Ranges that the overlay holds: data, or zero where it is a hole. Same contract as vdr_disk_extents, but ranges that
 * belong to the lower disk are left out; 0 means that nothing more is held. */
int64_t vdr_overlay_changed(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents, size_t capacity);

/* VDR_E_ARGUMENT if `disk` is not an overlay. */
int vdr_overlay_statistics_get(vdr_disk *disk, vdr_overlay_statistics *statistics);
/* cffi: end */

#endif

/* Something that can be read, and perhaps written, as a disk: an image, a device, a point of a store, an overlay.
 *
 * Whoever serves, restores or compares a disk is written against `vdr_disk` and so works for every kind. Every function
 * is thread-safe and blocking. Ranges are bytes, half-open, and must lie within the disk: a range outside it is a bug
 * of the caller (VDR_E_ARGUMENT). Overlapping reads and writes at the same moment are not ordered, as on a real disk.
 *
 * A disk is counted: the opener holds one reference, vdr_disk_retain() takes another, vdr_disk_close() drops one and
 * the last one closes it. An overlay or an export holds a reference of its own to what it uses. */
#ifndef VDR_DISK_H
#define VDR_DISK_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef struct vdr_disk vdr_disk;

enum {
    VDR_EXTENT_DATA = 0,  /* bytes to read */
    VDR_EXTENT_ZERO = 1,  /* known to read as zero, though written (or discarded) at some time */
    VDR_EXTENT_HOLE = 2,  /* never written; reads as zero */
};

typedef struct {
    uint64_t offset_bytes;
    uint64_t length_bytes;  /* > 0 */
    uint32_t kind;          /* VDR_EXTENT_* */
    uint32_t reserved;
} vdr_extent;

uint64_t vdr_disk_size_bytes(const vdr_disk *disk);

/* 1 if writes can succeed at all, else 0 (vdr_disk_write and vdr_disk_zero then fail with VDR_E_IO, errno EROFS). */
int vdr_disk_is_writable(const vdr_disk *disk);

/* Fill `buffer` with `bytes` bytes from `offset_bytes`. All or an error: there is no short read. */
int vdr_disk_read(vdr_disk *disk, uint64_t offset_bytes, void *buffer, size_t bytes);

/* Write all of `buffer`. When it returns VDR_OK every later read sees it; durable only after vdr_disk_flush. */
int vdr_disk_write(vdr_disk *disk, uint64_t offset_bytes, const void *buffer, size_t bytes);

/* Make a range read as zero and give its space back where that is possible. Durable like a write. */
int vdr_disk_zero(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes);

/* Returns when every write and zero that had returned before the call is durable. After a failure (VDR_E_IO) what was
 * acknowledged since the last good flush is in doubt and the disk keeps failing: a second flush never hides a first. */
int vdr_disk_flush(vdr_disk *disk);

/* Describe [offset_bytes, offset_bytes + bytes) as touching extents in order. Fills at most `capacity` and returns how
 * many; the first begins at offset_bytes. When they end before the range does, call again from there. */
int64_t vdr_disk_extents(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents,
                         size_t capacity);

/* What writes to the disk take, and how much they may (0: no limit). VDR_E_ARGUMENT for a disk that does not know. */
int vdr_disk_usage(vdr_disk *disk, uint64_t *stored_bytes, uint64_t *limit_bytes);

/* A range will be read soon: have it ready if that can be done in the background. Returns at once, or with `waits` when all
 * of it is on its way. */
void vdr_disk_prefetch(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, int waits);

void vdr_disk_retain(vdr_disk *disk);
void vdr_disk_close(vdr_disk *disk);
/* cffi: end */

/* What a kind of disk implements. Ranges are checked and not empty when they arrive. `write`, `zero` and `flush` may be
 * NULL for a read-only disk, `extents` may be NULL (everything is data), `prefetch` too (nothing is). `close` frees `context`. */
typedef struct {
    int (*read)(void *context, uint64_t offset_bytes, void *buffer, size_t bytes);
    int (*write)(void *context, uint64_t offset_bytes, const void *buffer, size_t bytes);
    int (*zero)(void *context, uint64_t offset_bytes, uint64_t bytes);
    int (*flush)(void *context);
    int64_t (*extents)(void *context, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents, size_t capacity);
    void (*prefetch)(void *context, uint64_t offset_bytes, uint64_t bytes, int waits);
    void (*close)(void *context);
    int (*usage)(void *context, uint64_t *stored_bytes, uint64_t *limit_bytes); /* may be NULL: nothing is limited */
} vdr_disk_operations;

/* Make a disk of `context`, which it owns from now on; on failure the caller still owns it. */
int vdr_disk_make(const vdr_disk_operations *operations, void *context, uint64_t size_bytes, vdr_disk **disk);

/* The context if `disk` was made with these operations, else NULL. */
void *vdr_disk_context(const vdr_disk *disk, const vdr_disk_operations *operations);

/* For implementers of `extents`: append a range, merged with the one before if it touches it and is of its kind.
 * Returns the new count; when there is no room it returns `count` unchanged. */
size_t vdr_extents_append(vdr_extent *extents, size_t count, size_t capacity, uint64_t offset_bytes,
                          uint64_t length_bytes, uint32_t kind);

#endif

/* Lists a directory tree as loose entries in path order: names and stat data only, nothing is opened but directories, no
 * symbolic link is followed. Memory grows with the depth of the tree and its largest directory, not with its files. */
#ifndef VDR_SCAN_H
#define VDR_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "entry.h"
#include "event.h"
#include "glob.h"

/* cffi: begin */
typedef struct {
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t inode;
} vdr_scan_skip;

typedef struct vdr_scan vdr_scan;

/* `root_fd` is an open directory, the caller's, and must outlive the scan. `rules` is a rule list of glob.h, copied. `crosses`: enter
 * other file systems (never pseudo ones). `skips`: directories to leave out, copied. NULL without memory or with a
 * malformed rule list. */
vdr_scan *vdr_scan_open(int root_fd, const uint8_t *rules, size_t rules_bytes, int crosses, const vdr_scan_skip *skips, size_t skip_count);
void vdr_scan_close(vdr_scan *scan);

/* Write the next entries to `out` (at least 128 KiB, 8-byte aligned). Returns bytes written, VDR_E_MEMORY, or VDR_E_IO when
 * the root itself cannot be read. Returns early, maybe with 0, when fewer than 70,000 bytes are left in `events`. */
int64_t vdr_scan_next(vdr_scan *scan, uint8_t *out, size_t capacity, vdr_event_list *events);

/* 1 when every entry was written. */
int vdr_scan_is_end(const vdr_scan *scan);

/* Distinct owners (`is_group` 0) or groups seen so far, ascending, at most `capacity`; no more than 4,096 are noted. */
size_t vdr_scan_owners(const vdr_scan *scan, int is_group, uint32_t *out, size_t capacity);

/* 1 if the file system of `fd` is a pseudo one (proc, sysfs, cgroup, ...) with nothing to protect, 0, or VDR_E_IO. */
int vdr_scan_is_pseudo(int fd);
/* cffi: end */

struct statx;

/* Take from `stat` all that an entry keeps; the rest is zero. The type is 0 for a kind of file unknown here. */
void vdr_scan_fill(vdr_entry *entry, const struct statx *stat);

#endif

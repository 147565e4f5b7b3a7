/* A disk in memory, for tests: complete, and able to fail on demand like a real one. */
#ifndef VDR_DISK_MEMORY_H
#define VDR_DISK_MEMORY_H

#include <stdint.h>

#include "disk.h"

/* cffi: begin */
/* A writable disk of zeros. Blocks of 4 KiB never written since are holes, zeroed ones are zero extents. */
int vdr_disk_memory_open(uint64_t size_bytes, vdr_disk **disk);

/* From now on reads touching [offset_bytes, offset_bytes + bytes) fail with `code` (and errno EIO); 0 bytes ends it.
 * VDR_E_ARGUMENT if `disk` is not a memory disk. */
int vdr_disk_memory_fail_reads(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, int code);
/* cffi: end */

#endif

/* An image file or a block device as a disk. */
#ifndef VDR_DISK_FILE_H
#define VDR_DISK_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "disk.h"

/* cffi: begin */
/* Open the regular file or block device behind `fd` (duplicated; the caller keeps its own). The size is taken once: a
 * file that shrinks later gives VDR_E_IO (errno EIO), never bytes that are not there. `writable` needs a descriptor
 * open for writing. Extents of a regular file follow its holes; a device is all data. */
int vdr_disk_file_open(int fd, int writable, vdr_disk **disk);
/* cffi: end */

/* All of a range by pread/pwrite, through signals and short counts: VDR_OK or VDR_E_IO. End of file is errno EIO. */
int vdr_file_read(int fd, uint64_t offset_bytes, void *buffer, size_t bytes);
int vdr_file_write(int fd, uint64_t offset_bytes, const void *buffer, size_t bytes);

/* Make a range of a file or device read as zero: a hole where the file system can, else written zeros. */
int vdr_file_zero(int fd, uint64_t offset_bytes, uint64_t bytes);

/* Extents of [offset_bytes, offset_bytes + bytes) of a file by its holes, which are reported as `hole_kind`. */
int64_t vdr_file_extents(int fd, uint64_t offset_bytes, uint64_t bytes, uint32_t hole_kind, vdr_extent *extents,
                         size_t capacity);

#endif

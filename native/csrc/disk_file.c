#define _GNU_SOURCE
#include "disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"

enum { ZERO_STEP_BYTES = 64 << 10 };

typedef struct {
    int fd;
    int is_device;
    /* errno of a flush that failed. Linux reports such an error once and then forgets the lost pages. */
    atomic_int flush_errno;
} file_disk;

int vdr_file_read(int fd, uint64_t offset_bytes, void *buffer, size_t bytes)
{
    uint8_t *next = buffer;
    while (bytes > 0) {
        ssize_t got = pread(fd, next, bytes, (off_t)offset_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO;
        if (got <= 0)
            return VDR_E_IO;
        next += got;
        offset_bytes += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return VDR_OK;
}

int vdr_file_write(int fd, uint64_t offset_bytes, const void *buffer, size_t bytes)
{
    const uint8_t *next = buffer;
    while (bytes > 0) {
        ssize_t put = pwrite(fd, next, bytes, (off_t)offset_bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return VDR_E_IO;
        next += put;
        offset_bytes += (uint64_t)put;
        bytes -= (size_t)put;
    }
    return VDR_OK;
}

int vdr_file_zero(int fd, uint64_t offset_bytes, uint64_t bytes)
{
    static const uint8_t zeros[ZERO_STEP_BYTES];
    int failed;
    do
        failed = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset_bytes, (off_t)bytes);
    while (failed && errno == EINTR);
    if (!failed)
        return VDR_OK;
    /* EINVAL: a device refuses a range that is not aligned to its sectors. */
    if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
        return VDR_E_IO;
    while (bytes > 0) {
        size_t step = bytes < sizeof zeros ? (size_t)bytes : sizeof zeros;
        int error = vdr_file_write(fd, offset_bytes, zeros, step);
        if (error)
            return error;
        offset_bytes += step;
        bytes -= step;
    }
    return VDR_OK;
}

int64_t vdr_file_extents(int fd, uint64_t offset_bytes, uint64_t bytes, uint32_t hole_kind, vdr_extent *extents,
                         size_t capacity)
{
    uint64_t end = offset_bytes + bytes;
    size_t count = 0;
    while (offset_bytes < end && count < capacity) {
        off_t data = lseek(fd, (off_t)offset_bytes, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
            return (int64_t)vdr_extents_append(extents, count, capacity, offset_bytes, end - offset_bytes,
                                               VDR_EXTENT_DATA);
        uint64_t data_start = data < 0 || (uint64_t)data > end ? end : (uint64_t)data;
        if (data_start > offset_bytes) {
            count = vdr_extents_append(extents, count, capacity, offset_bytes, data_start - offset_bytes, hole_kind);
            offset_bytes = data_start;
            continue;
        }
        off_t hole = lseek(fd, data, SEEK_HOLE);
        uint64_t data_end = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        /* Somebody may punch the hole between the two calls; the byte at `data` is data all the same. */
        if (data_end <= data_start)
            data_end = data_start + 1;
        count = vdr_extents_append(extents, count, capacity, data_start, data_end - data_start, VDR_EXTENT_DATA);
        offset_bytes = data_end;
    }
    return (int64_t)count;
}

static int file_disk_read(void *context, uint64_t offset_bytes, void *buffer, size_t bytes)
{
    return vdr_file_read(((file_disk *)context)->fd, offset_bytes, buffer, bytes);
}

static int file_disk_write(void *context, uint64_t offset_bytes, const void *buffer, size_t bytes)
{
    return vdr_file_write(((file_disk *)context)->fd, offset_bytes, buffer, bytes);
}

static int file_disk_zero(void *context, uint64_t offset_bytes, uint64_t bytes)
{
    return vdr_file_zero(((file_disk *)context)->fd, offset_bytes, bytes);
}

static int file_disk_flush(void *context)
{
    file_disk *disk = context;
    int before = atomic_load(&disk->flush_errno);
    if (before) {
        errno = before;
        return VDR_E_IO;
    }
    if (fdatasync(disk->fd) == 0)
        return VDR_OK;
    atomic_store(&disk->flush_errno, errno);
    return VDR_E_IO;
}

static int64_t file_disk_extents(void *context, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents,
                                 size_t capacity)
{
    file_disk *disk = context;
    if (disk->is_device)
        return (int64_t)vdr_extents_append(extents, 0, capacity, offset_bytes, bytes, VDR_EXTENT_DATA);
    return vdr_file_extents(disk->fd, offset_bytes, bytes, VDR_EXTENT_HOLE, extents, capacity);
}

static void file_disk_close(void *context)
{
    close(((file_disk *)context)->fd);
    free(context);
}

static const vdr_disk_operations read_only_operations = {
    .read = file_disk_read,
    .extents = file_disk_extents,
    .close = file_disk_close,
};

static const vdr_disk_operations writable_operations = {
    .read = file_disk_read,
    .write = file_disk_write,
    .zero = file_disk_zero,
    .flush = file_disk_flush,
    .extents = file_disk_extents,
    .close = file_disk_close,
};

int vdr_disk_file_open(int fd, int writable, vdr_disk **disk)
{
    struct stat status;
    uint64_t size_bytes;
    if (fstat(fd, &status))
        return VDR_E_IO;
    if (S_ISREG(status.st_mode))
        size_bytes = (uint64_t)status.st_size;
    else if (!S_ISBLK(status.st_mode)) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
        return VDR_E_IO;
    } else if (ioctl(fd, BLKGETSIZE64, &size_bytes))
        return VDR_E_IO;

    file_disk *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->is_device = S_ISBLK(status.st_mode);
    made->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (made->fd < 0) {
        free(made);
        return VDR_E_IO;
    }
    int error = vdr_disk_make(writable ? &writable_operations : &read_only_operations, made, size_bytes, disk);
    if (error)
        file_disk_close(made);
    return error;
}

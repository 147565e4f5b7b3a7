/* The disk interface over its memory and file kinds. */
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "disk_file.h"
#include "disk_memory.h"
#include "err.h"

enum { SIZE_BYTES = (1 << 20) + 1000 };

static int temporary_file(void)
{
    char name[] = "/tmp/vdr-test-disk-XXXXXX";
    int fd = mkstemp(name);
    assert(fd >= 0 && unlink(name) == 0 && ftruncate(fd, SIZE_BYTES) == 0);
    return fd;
}

static void check_reads_back(vdr_disk *disk)
{
    uint8_t written[10000], read[10000];
    for (size_t i = 0; i < sizeof written; i++)
        written[i] = (uint8_t)(i * 7 + 1);
    assert(vdr_disk_is_writable(disk));
    assert(vdr_disk_write(disk, 123456, written, sizeof written) == VDR_OK);
    assert(vdr_disk_flush(disk) == VDR_OK);
    assert(vdr_disk_read(disk, 123456, read, sizeof read) == VDR_OK);
    assert(memcmp(written, read, sizeof read) == 0);
    assert(vdr_disk_zero(disk, 123457, 4000) == VDR_OK);
    memset(written + 1, 0, 4000);
    assert(vdr_disk_read(disk, 123456, read, sizeof read) == VDR_OK);
    assert(memcmp(written, read, sizeof read) == 0);
    assert(vdr_disk_read(disk, SIZE_BYTES - 1, read, 1) == VDR_OK && read[0] == 0);
}

static void check_refuses_ranges_outside(vdr_disk *disk)
{
    uint8_t buffer[16];
    vdr_extent extent;
    assert(vdr_disk_size_bytes(disk) == SIZE_BYTES);
    assert(vdr_disk_read(disk, SIZE_BYTES - 15, buffer, 16) == VDR_E_ARGUMENT);
    assert(vdr_disk_write(disk, UINT64_MAX - 3, buffer, 16) == VDR_E_ARGUMENT);
    assert(vdr_disk_zero(disk, 1, UINT64_MAX) == VDR_E_ARGUMENT);
    assert(vdr_disk_extents(disk, SIZE_BYTES + 1, 0, &extent, 1) == VDR_E_ARGUMENT);
    assert(vdr_disk_extents(disk, 0, 1, &extent, 0) == VDR_E_ARGUMENT);
    assert(vdr_disk_extents(disk, SIZE_BYTES, 0, &extent, 1) == 0);
    assert(vdr_disk_read(disk, SIZE_BYTES, buffer, 0) == VDR_OK);
}

static void check_extents_cover(vdr_disk *disk, size_t capacity)
{
    vdr_extent extents[8];
    uint64_t next = 0;
    int saw_data = 0;
    while (next < SIZE_BYTES) {
        int64_t count = vdr_disk_extents(disk, next, SIZE_BYTES - next, extents, capacity);
        assert(count > 0 && (size_t)count <= capacity);
        for (int64_t i = 0; i < count; i++) {
            assert(extents[i].offset_bytes == next && extents[i].length_bytes > 0);
            next += extents[i].length_bytes;
            saw_data |= extents[i].kind == VDR_EXTENT_DATA && extents[i].offset_bytes <= 133455;
        }
    }
    assert(next == SIZE_BYTES && saw_data);
}

int main(void)
{
    vdr_disk *disk;

    assert(vdr_disk_memory_open(SIZE_BYTES, &disk) == VDR_OK);
    check_reads_back(disk);
    check_refuses_ranges_outside(disk);
    check_extents_cover(disk, 8);
    check_extents_cover(disk, 1);
    uint8_t byte;
    assert(vdr_disk_memory_fail_reads(disk, 100, 10, VDR_E_IO) == VDR_OK);
    assert(vdr_disk_read(disk, 99, &byte, 1) == VDR_OK && vdr_disk_read(disk, 109, &byte, 1) == VDR_E_IO);
    assert(vdr_disk_read(disk, 110, &byte, 1) == VDR_OK);
    vdr_disk_retain(disk);
    vdr_disk_close(disk);
    assert(vdr_disk_read(disk, 0, &byte, 1) == VDR_OK);
    vdr_disk_close(disk);

    int fd = temporary_file();
    assert(vdr_disk_file_open(fd, 1, &disk) == VDR_OK);
    check_reads_back(disk);
    check_refuses_ranges_outside(disk);
    check_extents_cover(disk, 8);
    check_extents_cover(disk, 1);
    vdr_extent extents[4];
    assert(vdr_disk_extents(disk, 0, 65536, extents, 4) == 1 && extents[0].kind == VDR_EXTENT_HOLE);
    vdr_disk_close(disk);

    assert(vdr_disk_file_open(fd, 0, &disk) == VDR_OK);
    assert(!vdr_disk_is_writable(disk));
    assert(vdr_disk_write(disk, 0, &byte, 1) == VDR_E_IO && errno == EROFS);
    assert(vdr_disk_zero(disk, 0, 1) == VDR_E_IO && errno == EROFS);
    assert(ftruncate(fd, 4096) == 0);
    assert(vdr_disk_read(disk, 4096, &byte, 1) == VDR_E_IO && errno == EIO);
    vdr_disk_close(disk);
    close(fd);

    int pipes[2];
    assert(pipe(pipes) == 0);
    assert(vdr_disk_file_open(pipes[0], 0, &disk) == VDR_E_IO && errno == EINVAL);
    puts("disk: ok");
    return 0;
}

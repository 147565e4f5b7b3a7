/* Random operations on one file, every byte checked against a copy in memory: reads, writes, appends, holes, truncation,
 * mapped reads and writes, syncs, and caches dropped by opening anew.
 *
 *     fsx PATH OPERATIONS|SECONDSs SEED [fixed]
 *
 * With `fixed` the file keeps its size, as a disk does. Runs in a guest, so it is one static program without libraries. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SIZE_MAX_BYTES = 4 << 20, LENGTH_MAX = 200000 };

static uint8_t model[SIZE_MAX_BYTES], buffer[LENGTH_MAX];
static size_t size_bytes;
static uint64_t seed;
static long number;
static int fd, is_fixed;
static const char *path;

static void fail(const char *what)
{
    printf("FSX-FAILED %s at operation %ld, size %zu: %s\n", what, number, size_bytes, strerror(errno));
    exit(1);
}

static size_t random_below(size_t bound)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)((seed >> 33) % bound);
}

static void compare(size_t offset, const uint8_t *found, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (found[i] != model[offset + i]) {
            printf("FSX-FAILED byte %zu is %u, not %u, at operation %ld\n", offset + i, found[i], model[offset + i], number);
            exit(1);
        }
}

static void read_some(size_t offset, size_t length)
{
    if (pread(fd, buffer, length, (off_t)offset) != (ssize_t)length)
        fail("read");
    compare(offset, buffer, length);
}

static void write_some(size_t offset, size_t length)
{
    int is_zero = random_below(5) == 0;
    for (size_t i = 0; i < length; i++)
        buffer[i] = is_zero ? 0 : (uint8_t)(number + (long)i * 7 + 1);
    if (pwrite(fd, buffer, length, (off_t)offset) != (ssize_t)length)
        fail("write");
    memcpy(model + offset, buffer, length);
    if (offset + length > size_bytes)
        size_bytes = offset + length;
}

static void resize(size_t wanted)
{
    if (ftruncate(fd, (off_t)wanted))
        fail("truncate");
    if (wanted > size_bytes)
        memset(model + size_bytes, 0, wanted - size_bytes);
    else
        memset(model + wanted, 0, size_bytes - wanted);
    size_bytes = wanted;
}

static void use_mapped(size_t offset, size_t length, int is_writing)
{
    uint8_t *mapped = mmap(NULL, size_bytes, PROT_READ | (is_writing ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        fail("mmap");
    compare(offset, mapped + offset, length);
    if (is_writing) {
        memset(mapped + offset, (int)(number & 0xff), length);
        memset(model + offset, (int)(number & 0xff), length);
        if (msync(mapped, size_bytes, MS_SYNC))
            fail("msync");
    }
    munmap(mapped, size_bytes);
}

static void open_anew(void)
{
    close(fd);
    int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (drop >= 0) {
        sync();
        if (write(drop, "3", 1) != 1)
            fail("drop caches");
        close(drop);
    }
    fd = open(path, O_RDWR);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) || (size_t)status.st_size != size_bytes)
        fail("open anew");
}

static void operate(void)
{
    size_t offset = size_bytes ? random_below(size_bytes) : 0;
    size_t left = size_bytes - offset, most = left < LENGTH_MAX ? left : LENGTH_MAX;
    size_t length = most ? 1 + random_below(random_below(3) ? (most < 5000 ? most : 5000) : most) : 0;
    switch (random_below(12)) {
    case 0: case 1: case 2:
        if (length)
            read_some(offset, length);
        break;
    case 3:
        if (length)
            use_mapped(offset, length, 0);
        break;
    case 4:
        if (length)
            use_mapped(offset, length, 1);
        break;
    case 5:
        if (fsync(fd))
            fail("fsync");
        break;
    case 6:
        if (random_below(10) == 0)
            open_anew();
        break;
    case 7:
        if (!is_fixed)
            resize(random_below(SIZE_MAX_BYTES));
        break;
    case 8:
        if (!is_fixed && size_bytes + 5000 < SIZE_MAX_BYTES) /* past the end: a hole between */
            write_some(size_bytes + random_below(2000), 1 + random_below(3000));
        break;
    default:
        if (length)
            write_some(offset, length);
    }
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 2;
    path = arguments[1];
    seed = strtoull(arguments[3], NULL, 10) + 1;
    is_fixed = count > 4;
    char *unit;
    long bound = strtol(arguments[2], &unit, 10);
    time_t end = time(NULL) + bound;
    fd = open(path, is_fixed ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        fail("open");
    if (is_fixed) {
        struct stat status;
        if (fstat(fd, &status) || status.st_size > SIZE_MAX_BYTES)
            fail("size");
        size_bytes = (size_t)status.st_size;
        if (pread(fd, model, size_bytes, 0) != (ssize_t)size_bytes)
            fail("first read");
    }
    for (number = 0; *unit == 's' ? time(NULL) < end : number < bound; number++)
        operate();
    open_anew();
    for (size_t at = 0; at < size_bytes; at += sizeof buffer)
        read_some(at, size_bytes - at < sizeof buffer ? size_bytes - at : sizeof buffer);
    printf("FSX-OK %ld operations\n", number);
    return 0;
}

/* Power loss at every step of an overlay's life. Every call that changes a file is recorded; then, for every prefix of the
 * record, what a disk may hold after losing power is built: all that was synced, and of the rest any part, torn at
 * sectors. The overlay must open and every sector must be one that was written there, no older than the last flush. */
#undef NDEBUG
#define _GNU_SOURCE
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk_memory.h"
#include "err.h"
#include "overlay.h"
#include "xts.h"

enum { SECTOR = 512, BLOCK = 4096, SIZE_BYTES = 40 * BLOCK + 1000, SECTORS = SIZE_BYTES / SECTOR + 1, CALLS = 4000 };

typedef enum { CALL_WRITE, CALL_PUNCH, CALL_SYNC } call_kind;

typedef struct {
    call_kind kind;
    int file;            /* 0 data, 1 bitmap */
    uint64_t offset, length;
    uint8_t *bytes;
    int version;         /* of the model when it was made */
} call;

static const uint8_t xts_key[VDR_XTS_KEY_BYTES] = "a key of which both halves differ";
static int is_encrypted;

static int open_overlay(vdr_disk *lower, int data_fd, int bitmap_fd, vdr_disk **disk)
{
    return is_encrypted ? vdr_overlay_open_encrypted(lower, data_fd, bitmap_fd, xts_key, disk)
                        : vdr_overlay_open(lower, data_fd, bitmap_fd, disk);
}

static call calls[CALLS];
static int call_count, recording, version, files[2];

static int file_of(int fd)
{
    char name[2][64], link[64];
    for (int i = 0; i < 2; i++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", i == 0 ? fd : files[0]);
        ssize_t length = readlink(link, name[i], sizeof name[i] - 1);
        assert(length > 0);
        name[i][length] = 0;
    }
    return strcmp(name[0], name[1]) != 0;
}

static void record(call_kind kind, int fd, uint64_t offset, uint64_t length, const void *bytes)
{
    if (!recording)
        return;
    assert(call_count < CALLS);
    call *made = &calls[call_count++];
    *made = (call){kind, file_of(fd), offset, length, NULL, version};
    if (bytes) {
        made->bytes = malloc(length);
        memcpy(made->bytes, bytes, length);
    }
}

ssize_t __real_pwrite64(int fd, const void *bytes, size_t length, off64_t offset);
int __real_fdatasync(int fd);
int __real_fallocate64(int fd, int mode, off64_t offset, off64_t length);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t length, off64_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fallocate64(int fd, int mode, off64_t offset, off64_t length);

ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    record(CALL_WRITE, fd, (uint64_t)offset, length, bytes);
    return __real_pwrite64(fd, bytes, length, offset);
}

int __wrap_fdatasync(int fd)
{
    record(CALL_SYNC, fd, 0, 0, NULL);
    return __real_fdatasync(fd);
}

int __wrap_fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    if (mode & FALLOC_FL_PUNCH_HOLE)
        record(CALL_PUNCH, fd, (uint64_t)offset, (uint64_t)length, NULL);
    return __real_fallocate64(fd, mode, offset, length);
}

/* Every version a sector ever had, as one byte value: version v writes bytes v. */
static uint8_t model[CALLS][SECTORS];
static int flushed_version_at[CALLS + 1];

static uint64_t seed = 1234567;

static uint64_t random_below(uint64_t bound)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % bound;
}

static void apply(const call *made, uint64_t from, uint64_t to)
{
    if (from >= to)
        return;
    if (made->kind == CALL_PUNCH)
        assert(__real_fallocate64(files[made->file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off64_t)from,
                                  (off64_t)(to - from)) == 0);
    else
        assert(__real_pwrite64(files[made->file], made->bytes + (from - made->offset), to - from, (off64_t)from) ==
               (ssize_t)(to - from));
}

/* Apply a call that was not synced: each of its sectors may or may not have reached the disk. The bitmap is torn finer
 * than any disk does it, because this small one has all its bits in one sector. */
static void apply_torn(const call *made)
{
    uint64_t chance = random_below(4), grain = made->file ? 8 : SECTOR;
    for (uint64_t at = made->offset; at < made->offset + made->length;) {
        uint64_t next = (at / grain + 1) * grain, end = made->offset + made->length;
        if (random_below(4) < chance)
            apply(made, at, next < end ? next : end);
        at = next;
    }
}

static void build_crash(int prefix, uint8_t *const images[2], const uint64_t image_bytes[2])
{
    int synced[2] = {0, 0};
    for (int i = 0; i < prefix; i++)
        if (calls[i].kind == CALL_SYNC)
            synced[calls[i].file] = i;
    for (int file = 0; file < 2; file++)
        assert(__real_pwrite64(files[file], images[file], image_bytes[file], 0) == (ssize_t)image_bytes[file]);
    for (int i = 0; i < prefix; i++) {
        if (calls[i].kind == CALL_SYNC)
            continue;
        if (i < synced[calls[i].file])
            apply(&calls[i], calls[i].offset, calls[i].offset + calls[i].length);
        else
            apply_torn(&calls[i]);
    }
}

static int sector_is_allowed(uint64_t sector, uint8_t value, int oldest, int newest)
{
    for (int v = oldest; v <= newest; v++)
        if (model[v][sector] == value)
            return 1;
    return 0;
}

static void check_crash(int prefix, vdr_disk *lower)
{
    static uint8_t content[SIZE_BYTES];
    vdr_disk *disk;
    assert(open_overlay(lower, files[0], files[1], &disk) == VDR_OK);
    assert(vdr_disk_read(disk, 0, content, sizeof content) == VDR_OK);
    int newest = prefix < call_count ? calls[prefix].version : version;
    for (uint64_t at = 0; at < SIZE_BYTES; at++) {
        uint64_t sector = at / SECTOR;
        assert(content[at] == content[sector * SECTOR]);
        if (at % SECTOR == 0 && !sector_is_allowed(sector, content[at], flushed_version_at[prefix], newest)) {
            fprintf(stderr, "prefix %d: sector %llu is %d\n", prefix, (unsigned long long)sector, content[at]);
            abort();
        }
    }
    /* Life goes on after the crash: what it left in the data file must not show up through a later zero. */
    uint64_t start = random_below(SIZE_BYTES), length = 1 + random_below(SIZE_BYTES - start);
    assert(vdr_disk_zero(disk, start, length) == VDR_OK);
    vdr_disk_close(disk);
    memset(content + start, 0, length);
    assert(open_overlay(lower, files[0], files[1], &disk) == VDR_OK);
    static uint8_t reopened[SIZE_BYTES];
    assert(vdr_disk_read(disk, 0, reopened, sizeof reopened) == VDR_OK);
    assert(memcmp(content, reopened, sizeof reopened) == 0);
    vdr_disk_close(disk);
}

static void run_workload(vdr_disk *disk)
{
    static uint8_t bytes[SIZE_BYTES];
    int flushed = 0;
    for (version = 1; version < 60; version++) {
        memcpy(model[version], model[version - 1], SECTORS);
        uint64_t first = random_below(SECTORS - 1), count = 1 + random_below(30);
        if (first + count > SECTORS)
            count = SECTORS - first;
        uint64_t end = (first + count) * SECTOR < SIZE_BYTES ? (first + count) * SECTOR : SIZE_BYTES;
        int is_zero = random_below(5) == 0, before = call_count;
        memset(model[version] + first, is_zero ? 0 : version, count);
        memset(bytes, version, sizeof bytes);
        assert((is_zero ? vdr_disk_zero(disk, first * SECTOR, end - first * SECTOR)
                        : vdr_disk_write(disk, first * SECTOR, bytes, end - first * SECTOR)) == VDR_OK);
        for (int i = before; i < call_count; i++)
            flushed_version_at[i + 1] = flushed;
        if (random_below(4) == 0) {
            before = call_count;
            assert(vdr_disk_flush(disk) == VDR_OK);
            for (int i = before; i < call_count; i++)
                flushed_version_at[i + 1] = flushed;
            flushed = version;
            flushed_version_at[call_count] = flushed;
        }
    }
    version--;
}

static void check_crashes(void)
{
    vdr_overlay_identity identity = {.overlay_id = "sixteen bytes...", .size_bytes = SIZE_BYTES, .block_bytes = BLOCK,
                                     .cipher = is_encrypted ? VDR_OVERLAY_AES_256_XTS : VDR_OVERLAY_PLAIN};
    vdr_disk *lower, *disk;
    uint8_t *images[2];
    uint64_t image_bytes[2];
    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create(i ? "bitmap" : "data", 0);
        assert(files[i] >= 0);
    }
    assert(vdr_disk_memory_open(SIZE_BYTES, &lower) == VDR_OK);
    static uint8_t below[SIZE_BYTES];
    memset(below, 200, SIZE_BYTES / 2 / SECTOR * SECTOR);
    memset(model[0], 200, SIZE_BYTES / 2 / SECTOR);
    assert(vdr_disk_write(lower, 0, below, sizeof below / 2 / SECTOR * SECTOR) == VDR_OK);
    assert(vdr_overlay_create(files[0], files[1], &identity) == VDR_OK);
    for (int i = 0; i < 2; i++) {
        image_bytes[i] = (uint64_t)lseek(files[i], 0, SEEK_END);
        images[i] = malloc(image_bytes[i]);
        assert(pread(files[i], images[i], image_bytes[i], 0) == (ssize_t)image_bytes[i]);
    }

    assert(open_overlay(lower, files[0], files[1], &disk) == VDR_OK);
    recording = 1;
    run_workload(disk);
    recording = 0;
    vdr_disk_close(disk);

    int checked = 0;
    for (int prefix = 0; prefix <= call_count; prefix++)
        for (int round = 0; round < 12; round++, checked++) {
            build_crash(prefix, images, image_bytes);
            check_crash(prefix, lower);
        }
    vdr_disk_close(lower);
    for (int i = 0; i < call_count; i++)
        free(calls[i].bytes);
    for (int i = 0; i < 2; i++) {
        free(images[i]);
        close(files[i]);
    }
    printf("overlay crash: ok, %d calls, %d crashes\n", call_count, checked);
}

int main(void)
{
    for (is_encrypted = 0; is_encrypted < 2; is_encrypted++) {
        call_count = version = 0;
        memset(model, 0, sizeof model);
        memset(flushed_version_at, 0, sizeof flushed_version_at);
        check_crashes();
    }
    return 0;
}

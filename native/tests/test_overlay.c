/* The overlay against a plain buffer as model: random reads, writes, zeros, flushes, reopens, many block sizes. */
#undef NDEBUG
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "disk_file.h"
#include "disk_memory.h"
#include "err.h"
#include "overlay.h"
#include "xts.h"

static uint64_t seed = 88172645463325252u;

static uint64_t random_below(uint64_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % bound;
}

static const uint8_t xts_key[VDR_XTS_KEY_BYTES] = "a key of which both halves differ";
static int is_encrypted;

static int open_overlay(vdr_disk *lower, int data_fd, int bitmap_fd, vdr_disk **disk)
{
    return is_encrypted ? vdr_overlay_open_encrypted(lower, data_fd, bitmap_fd, xts_key, disk)
                        : vdr_overlay_open(lower, data_fd, bitmap_fd, disk);
}

static int temporary_file(void)
{
    char name[] = "/tmp/vdr-test-overlay-XXXXXX";
    int fd = mkstemp(name);
    assert(fd >= 0 && unlink(name) == 0);
    return fd;
}

typedef struct {
    int data_fd, bitmap_fd;
    vdr_disk *lower, *disk;
    uint64_t size_bytes;
    uint8_t *model, *buffer;
} fixture;

static void fixture_open(fixture *f, uint64_t size_bytes, uint32_t block_bytes)
{
    vdr_overlay_identity identity = {.overlay_id = "sixteen bytes...", .size_bytes = size_bytes,
                                     .block_bytes = block_bytes,
                                     .cipher = is_encrypted ? VDR_OVERLAY_AES_256_XTS : VDR_OVERLAY_PLAIN};
    *f = (fixture){temporary_file(), temporary_file(), NULL, NULL, size_bytes, calloc(1, size_bytes),
                   malloc(size_bytes)};
    assert(vdr_disk_memory_open(size_bytes, &f->lower) == VDR_OK);
    for (uint64_t i = size_bytes / 4; i < size_bytes / 2; i++)
        f->model[i] = (uint8_t)(i * 31 + i / 256 + 1);
    assert(vdr_disk_write(f->lower, size_bytes / 4, f->model + size_bytes / 4, size_bytes / 4) == VDR_OK);
    assert(vdr_overlay_create(f->data_fd, f->bitmap_fd, &identity) == VDR_OK);
    assert(open_overlay(f->lower, f->data_fd, f->bitmap_fd, &f->disk) == VDR_OK);
}

static void fixture_close(fixture *f)
{
    vdr_disk_close(f->disk);
    vdr_disk_close(f->lower);
    close(f->data_fd);
    close(f->bitmap_fd);
    free(f->model);
    free(f->buffer);
}

static void check_extents_are_true(fixture *f)
{
    vdr_extent extents[3];
    uint64_t next = 0;
    while (next < f->size_bytes) {
        int64_t count = vdr_disk_extents(f->disk, next, f->size_bytes - next, extents, 3);
        assert(count > 0);
        for (int64_t i = 0; i < count; i++) {
            assert(extents[i].offset_bytes == next);
            next += extents[i].length_bytes;
            for (uint64_t b = extents[i].offset_bytes; extents[i].kind != VDR_EXTENT_DATA && b < next; b++)
                assert(f->model[b] == 0);
        }
    }
    assert(next == f->size_bytes);
}

static void check_random_operations(uint64_t size_bytes, uint32_t block_bytes)
{
    fixture f;
    fixture_open(&f, size_bytes, block_bytes);
    for (int step = 0; step < 600; step++) {
        uint64_t offset = random_below(size_bytes), most = size_bytes - offset;
        uint64_t length = 1 + random_below(random_below(4) ? (most < 9000 ? most : 9000) : most);
        switch (random_below(8)) {
        case 0:
            assert(vdr_disk_zero(f.disk, offset, length) == VDR_OK);
            memset(f.model + offset, 0, length);
            break;
        case 1:
            assert(vdr_disk_flush(f.disk) == VDR_OK);
            break;
        case 2:
            if (random_below(4) == 0) {
                vdr_disk_close(f.disk);
                assert(open_overlay(f.lower, f.data_fd, f.bitmap_fd, &f.disk) == VDR_OK);
            }
            break;
        case 3: case 4:
            assert(vdr_disk_read(f.disk, offset, f.buffer, length) == VDR_OK);
            assert(memcmp(f.buffer, f.model + offset, length) == 0);
            break;
        default: /* some of zeros only */
            for (uint64_t i = 0, is_zero = random_below(4) == 0; i < length; i++)
                f.model[offset + i] = is_zero ? 0 : (uint8_t)(random_below(255) + 1);
            assert(vdr_disk_write(f.disk, offset, f.model + offset, length) == VDR_OK);
        }
    }
    assert(vdr_disk_read(f.disk, 0, f.buffer, size_bytes) == VDR_OK);
    assert(memcmp(f.buffer, f.model, size_bytes) == 0);
    check_extents_are_true(&f);
    /* The disk below is as it was. */
    assert(vdr_disk_read(f.lower, 0, f.buffer, size_bytes) == VDR_OK);
    for (uint64_t i = size_bytes / 4; i < size_bytes / 2; i++)
        assert(f.buffer[i] == (uint8_t)(i * 31 + i / 256 + 1));
    fixture_close(&f);
}

static void check_discard_of_an_empty_disk_costs_nothing(void)
{
    vdr_overlay_identity identity = {.size_bytes = (uint64_t)64 << 40, .block_bytes = 4096};
    int data_fd = temporary_file(), bitmap_fd = temporary_file();
    char name[] = "/tmp/vdr-test-overlay-XXXXXX";
    int lower_fd = mkstemp(name);
    vdr_disk *disk;
    /* ext4 ends at 16 TiB: take the largest disk that this file system can hold. */
    while (ftruncate(lower_fd, (off_t)identity.size_bytes + 8192))
        identity.size_bytes /= 2;
    assert(identity.size_bytes >= (uint64_t)1 << 40 && ftruncate(lower_fd, (off_t)identity.size_bytes) == 0);
    vdr_disk *lower;
    assert(vdr_disk_file_open(lower_fd, 0, &lower) == VDR_OK);
    assert(vdr_overlay_create(data_fd, bitmap_fd, &identity) == VDR_OK);
    assert(vdr_overlay_open(lower, data_fd, bitmap_fd, &disk) == VDR_OK);
    assert(vdr_disk_zero(disk, 0, identity.size_bytes) == VDR_OK);
    vdr_overlay_statistics statistics;
    assert(vdr_overlay_statistics_get(disk, &statistics) == VDR_OK && statistics.blocks == 0);
    assert(vdr_disk_write(disk, identity.size_bytes - 5000, "far", 3) == VDR_OK);
    vdr_extent extents[4];
    assert(vdr_overlay_changed(disk, 0, identity.size_bytes, extents, 4) == 1);
    assert(extents[0].offset_bytes == identity.size_bytes - 8192 && extents[0].length_bytes == 4096);
    assert(vdr_overlay_changed(lower, 0, 1, extents, 4) == VDR_E_ARGUMENT);
    vdr_disk_close(disk);
    vdr_disk_close(lower);
    unlink(name);
    close(lower_fd);
    close(data_fd);
    close(bitmap_fd);
}

static void check_wrong_files_are_refused(void)
{
    fixture f, other;
    vdr_disk *disk, *larger;
    uint8_t byte;
    fixture_open(&f, 1 << 20, 4096);
    fixture_open(&other, 1 << 20, 4096);
    vdr_overlay_identity identity = {.overlay_id = "another overlay", .size_bytes = 1 << 20, .block_bytes = 4096};
    assert(vdr_overlay_create(other.data_fd, other.bitmap_fd, &identity) == VDR_OK);
    assert(vdr_overlay_open(f.lower, other.data_fd, f.bitmap_fd, &disk) == VDR_E_CORRUPT);
    assert(vdr_disk_memory_open(2 << 20, &larger) == VDR_OK);
    assert(vdr_overlay_open(larger, f.data_fd, f.bitmap_fd, &disk) == VDR_E_ARGUMENT);
    vdr_disk_close(larger);
    /* One flipped bit anywhere in the header is found; a newer version is told apart. */
    for (off_t at = 0; at < 4096; at += 37) {
        assert(pread(f.bitmap_fd, &byte, 1, at) == 1);
        byte ^= 16;
        assert(pwrite(f.bitmap_fd, &byte, 1, at) == 1);
        assert(vdr_overlay_identify(f.bitmap_fd, &identity) == VDR_E_CORRUPT);
        byte ^= 16;
        assert(pwrite(f.bitmap_fd, &byte, 1, at) == 1);
    }
    assert(vdr_overlay_identify(f.bitmap_fd, &identity) == VDR_OK);
    assert(ftruncate(f.bitmap_fd, 4096 + 8191) == 0);
    assert(vdr_overlay_identify(f.bitmap_fd, &identity) == VDR_E_CORRUPT);
    identity.block_bytes = 3000;
    assert(vdr_overlay_create(f.data_fd, f.bitmap_fd, &identity) == VDR_E_ARGUMENT);
    fixture_close(&f);
    fixture_close(&other);
}

static void check_lower_read_failure_changes_nothing(void)
{
    fixture f;
    uint8_t byte;
    fixture_open(&f, 1 << 20, 4096);
    assert(vdr_disk_memory_fail_reads(f.lower, 0, 8192, VDR_E_CORRUPT) == VDR_OK);
    assert(vdr_disk_write(f.disk, 10, "x", 1) == VDR_E_CORRUPT);
    assert(vdr_disk_read(f.disk, 0, &byte, 1) == VDR_E_CORRUPT);
    /* A whole block needs nothing from below. */
    memset(f.buffer, 7, 4096);
    assert(vdr_disk_write(f.disk, 4096, f.buffer, 4096) == VDR_OK);
    assert(vdr_disk_read(f.disk, 5000, &byte, 1) == VDR_OK && byte == 7);
    assert(vdr_disk_memory_fail_reads(f.lower, 0, 0, 0) == VDR_OK);
    assert(vdr_disk_read(f.disk, 10, &byte, 1) == VDR_OK && byte == 0);
    fixture_close(&f);
}

typedef struct {
    fixture *f;
    unsigned number;
} writer;

/* Each thread owns every fourth run of 512 bytes, so that threads meet inside blocks. */
static void *write_own_sectors(void *argument)
{
    writer *self = argument;
    uint8_t sector[512], back[512];
    for (uint64_t at = self->number * 512; at + 512 <= self->f->size_bytes; at += 4 * 512) {
        memset(sector, (int)(self->number + 1), sizeof sector);
        assert(vdr_disk_write(self->f->disk, at, sector, sizeof sector) == VDR_OK);
        if (at % 16384 == 0)
            assert(vdr_disk_flush(self->f->disk) == VDR_OK);
        assert(vdr_disk_read(self->f->disk, at, back, sizeof back) == VDR_OK);
        assert(memcmp(sector, back, sizeof back) == 0);
    }
    return NULL;
}

static void check_threads_in_one_block_lose_nothing(void)
{
    fixture f;
    pthread_t threads[4];
    writer writers[4];
    fixture_open(&f, 1 << 20, 4096);
    for (unsigned i = 0; i < 4; i++) {
        writers[i] = (writer){&f, i};
        assert(pthread_create(&threads[i], NULL, write_own_sectors, &writers[i]) == 0);
    }
    for (unsigned i = 0; i < 4; i++)
        assert(pthread_join(threads[i], NULL) == 0);
    assert(vdr_disk_read(f.disk, 0, f.buffer, f.size_bytes) == VDR_OK);
    for (uint64_t i = 0; i < f.size_bytes; i++)
        assert(f.buffer[i] == i / 512 % 4 + 1);
    fixture_close(&f);
}

static void check_full_file_system_is_clean(void)
{
    fixture f;
    fixture_open(&f, 4 << 20, 4096);
    struct rlimit unlimited, small = {3 << 20, RLIM_INFINITY};
    assert(getrlimit(RLIMIT_FSIZE, &unlimited) == 0);
    signal(SIGXFSZ, SIG_IGN);
    memset(f.buffer, 9, 4096);
    assert(vdr_disk_write(f.disk, 0, f.buffer, 4096) == VDR_OK);
    assert(setrlimit(RLIMIT_FSIZE, &small) == 0);
    assert(vdr_disk_write(f.disk, 3 << 20, f.buffer, 4096) == VDR_E_IO && errno == EFBIG);
    assert(setrlimit(RLIMIT_FSIZE, &unlimited) == 0);
    uint8_t byte;
    assert(vdr_disk_read(f.disk, 3 << 20, &byte, 1) == VDR_OK && byte == 0);
    assert(vdr_disk_write(f.disk, 3 << 20, f.buffer, 4096) == VDR_OK && vdr_disk_flush(f.disk) == VDR_OK);
    assert(vdr_disk_read(f.disk, 3 << 20, &byte, 1) == VDR_OK && byte == 9);
    fixture_close(&f);
}

static uint64_t stored_bytes(vdr_disk *disk)
{
    uint64_t stored, limit;
    assert(vdr_disk_usage(disk, &stored, &limit) == VDR_OK);
    return stored;
}

static void check_written_zeros_take_no_room(void)
{
    fixture f;
    fixture_open(&f, 4 << 20, 4096);
    memset(f.buffer, 7, 1 << 20);
    assert(vdr_disk_write(f.disk, 1 << 20, f.buffer, 1 << 20) == VDR_OK && vdr_disk_flush(f.disk) == VDR_OK);
    uint64_t full = stored_bytes(f.disk);
    assert(full >= 1 << 20);
    memset(f.buffer, 0, 2 << 20);
    assert(vdr_disk_write(f.disk, 1 << 20, f.buffer, 2 << 20) == VDR_OK && vdr_disk_flush(f.disk) == VDR_OK);
    assert(stored_bytes(f.disk) + (1 << 20) <= full);
    memset(f.buffer, 1, 2 << 20);
    assert(vdr_disk_read(f.disk, 1 << 20, f.buffer, 2 << 20) == VDR_OK);
    for (int i = 0; i < 2 << 20; i++)
        assert(f.buffer[i] == 0);
    fixture_close(&f);
}

static void check_limit_refuses_cleanly_and_can_be_raised(void)
{
    fixture f;
    fixture_open(&f, 8 << 20, 4096);
    uint64_t start = stored_bytes(f.disk), stored, limit;
    assert(vdr_overlay_set_limit(f.lower, 1) == VDR_E_ARGUMENT && vdr_disk_usage(f.lower, &stored, &limit) == VDR_E_ARGUMENT);
    assert(vdr_overlay_set_limit(f.disk, start + (1 << 20)) == VDR_OK);
    memset(f.buffer, 9, 2 << 20);
    assert(vdr_disk_write(f.disk, 0, f.buffer, 1 << 20) == VDR_OK);
    assert(vdr_disk_write(f.disk, 1 << 20, f.buffer, 4096) == VDR_E_IO && errno == ENOSPC);
    assert(vdr_disk_write(f.disk, (1 << 20) + 10, f.buffer, 5) == VDR_E_IO && errno == ENOSPC);
    /* What is there can be written again, and zeroed to make room. */
    memset(f.buffer, 8, 1 << 20);
    assert(vdr_disk_write(f.disk, 0, f.buffer, 1 << 20) == VDR_OK);
    assert(vdr_disk_write(f.disk, 100, "part", 4) == VDR_OK && vdr_disk_flush(f.disk) == VDR_OK);
    assert(vdr_disk_zero(f.disk, 512 << 10, 512 << 10) == VDR_OK);
    assert(vdr_disk_write(f.disk, 1 << 20, f.buffer, 4096) == VDR_OK);
    uint8_t byte;
    assert(vdr_disk_read(f.disk, (1 << 20) + 4096, &byte, 1) == VDR_OK && byte == 0);
    assert(vdr_overlay_set_limit(f.disk, start + (6 << 20)) == VDR_OK);
    assert(vdr_disk_write(f.disk, 2 << 20, f.buffer, 1 << 20) == VDR_OK);
    assert(vdr_disk_usage(f.disk, &stored, &limit) == VDR_OK && limit == start + (6 << 20) && stored > start + (1 << 20));
    fixture_close(&f);
}

static void check_nothing_is_stored_in_clear(void)
{
    fixture f;
    uint8_t secret[4096], found[4096];
    fixture_open(&f, 1 << 20, 4096);
    memset(secret, 's', sizeof secret);
    for (int block = 0; block < 2; block++)
        assert(vdr_disk_write(f.disk, (uint64_t)block * 4096, secret, sizeof secret) == VDR_OK);
    assert(vdr_disk_write(f.disk, 9000, "secret", 6) == VDR_OK && vdr_disk_flush(f.disk) == VDR_OK);
    uint8_t blocks[3][4096];
    for (int block = 0; block < 3; block++) {
        assert(pread(f.data_fd, found, sizeof found, block * 4096) == sizeof found);
        assert(!memmem(found, sizeof found, "ssss", 4) && !memmem(found, sizeof found, "secret", 6));
        memcpy(blocks[block], found, sizeof found);
    }
    assert(memcmp(blocks[0], blocks[1], 4096) != 0); /* the same content in another place */
    vdr_disk *disk;
    assert(vdr_overlay_open(f.lower, f.data_fd, f.bitmap_fd, &disk) == VDR_E_ARGUMENT);
    fixture_close(&f);
}

static void check_key_for_a_plain_overlay_is_refused(void)
{
    fixture f;
    vdr_disk *disk;
    fixture_open(&f, 1 << 20, 4096);
    assert(vdr_overlay_open_encrypted(f.lower, f.data_fd, f.bitmap_fd, xts_key, &disk) == VDR_E_ARGUMENT);
    fixture_close(&f);
}

typedef struct {
    vdr_disk *disk;
    _Atomic uint64_t block;
    atomic_int is_over;
} untouched;

enum { SECTORS_BLOCK = 4096, SECTOR = 512 };

static void *read_untouched_sectors(void *context)
{
    untouched *shared = context;
    uint8_t read[SECTORS_BLOCK - SECTOR];
    static const uint8_t zeros[sizeof read];
    while (!shared->is_over) {
        assert(vdr_disk_read(shared->disk, shared->block * SECTORS_BLOCK + SECTOR, read, sizeof read) == VDR_OK);
        assert(memcmp(read, zeros, sizeof read) == 0);
    }
    return NULL;
}

/* The first sector of trimmed blocks is written while others read the rest, which nobody writes. */
static void check_sectors_nobody_writes_never_change(void)
{
    fixture f;
    uint8_t sector[SECTOR];
    pthread_t threads[2];
    memset(sector, 'x', sizeof sector);
    fixture_open(&f, 16 << 20, SECTORS_BLOCK);
    memset(f.buffer, 1, f.size_bytes);
    assert(vdr_disk_write(f.lower, 0, f.buffer, f.size_bytes) == VDR_OK);
    assert(vdr_disk_zero(f.disk, 0, f.size_bytes) == VDR_OK);
    untouched shared = {.disk = f.disk};
    for (int i = 0; i < 2; i++)
        assert(pthread_create(&threads[i], NULL, read_untouched_sectors, &shared) == 0);
    for (uint64_t i = 0; i < f.size_bytes / SECTORS_BLOCK; i++) {
        shared.block = i;
        assert(vdr_disk_write(f.disk, i * SECTORS_BLOCK, sector, sizeof sector) == VDR_OK);
    }
    shared.is_over = 1;
    for (int i = 0; i < 2; i++)
        assert(pthread_join(threads[i], NULL) == 0);
    fixture_close(&f);
}

int main(void)
{
    check_key_for_a_plain_overlay_is_refused();
    is_encrypted = 1;
    check_random_operations(300001, 4096);
    check_random_operations(1 << 20, 512);
    check_random_operations(1000, 4096);
    check_random_operations(200000, 65536);
    check_threads_in_one_block_lose_nothing();
    check_lower_read_failure_changes_nothing();
    check_written_zeros_take_no_room();
    check_limit_refuses_cleanly_and_can_be_raised();
    check_nothing_is_stored_in_clear();
    check_sectors_nobody_writes_never_change();
    is_encrypted = 0;
    check_written_zeros_take_no_room();
    check_limit_refuses_cleanly_and_can_be_raised();
    check_random_operations(300001, 4096);
    check_random_operations(1 << 20, 512);
    check_random_operations(200000, 65536);
    check_random_operations(1000, 4096);
    check_discard_of_an_empty_disk_costs_nothing();
    check_wrong_files_are_refused();
    check_lower_read_failure_changes_nothing();
    check_threads_in_one_block_lose_nothing();
    check_full_file_system_is_clean();
    puts("overlay: ok");
    return 0;
}

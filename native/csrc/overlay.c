#define _GNU_SOURCE
#include "overlay.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "disk_file.h"
#include "err.h"
#include "xts.h"
#include "zero.h"

enum {
    STRIPES = 64,
    REGION_BYTES = 256 << 10,  /* writes inside one region exclude each other; four times the largest block */
    ZERO_WRITE_BYTES = 32 << 10, /* zeros at least that long become a hole: below, a hole costs more than it saves */
};

_Static_assert((int)REGION_BYTES <= (int)VDR_XTS_BATCH_BYTES, "what is written under one lock is encrypted at once");

/* Longest range zeroed under one hold of all stripes. */
static const uint64_t ZERO_STEP_BYTES = (uint64_t)1 << 30;

static const char trailer_magic[8] = "VDROVD1";

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint64_t size_bytes;
    uint8_t overlay_id[16];
    uint8_t zero[VDR_OVERLAY_TRAILER_BYTES - 44];
    uint32_t crc;
} trailer_record;

_Static_assert(sizeof(trailer_record) == VDR_OVERLAY_TRAILER_BYTES, "trailer layout");

typedef struct {
    pthread_rwlock_t lock;
    uint8_t *block;  /* room to compose one block */
} stripe;

typedef struct {
    vdr_disk *lower;
    int data_fd, bitmap_fd;
    vdr_overlay_map *map;
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint8_t *blocks;
    vdr_xts *xts;             /* NULL: not encrypted */
    _Atomic uint64_t limit_bytes;
    stripe stripes[STRIPES];

    pthread_mutex_t flush_lock;
    pthread_cond_t flush_ended;
    uint64_t flushes_begun, flushes_ended;
    int flush_runs;
    atomic_int failed_errno;  /* a failed flush leaves acknowledged writes in doubt: nothing is accepted after it */
} overlay;

static uint64_t data_bytes(const vdr_overlay_identity *identity)
{
    uint64_t block = identity->block_bytes;
    return (identity->size_bytes + block - 1) / block * block;
}

static uint32_t trailer_crc(const trailer_record *trailer)
{
    return vdr_crc32c(0, (const uint8_t *)trailer, offsetof(trailer_record, crc));
}

static void trailer_make(trailer_record *trailer, const vdr_overlay_identity *identity)
{
    memset(trailer, 0, sizeof *trailer);
    memcpy(trailer->magic, trailer_magic, sizeof trailer_magic);
    trailer->version = htole32(identity->cipher ? 2 : 1);
    trailer->size_bytes = htole64(identity->size_bytes);
    memcpy(trailer->overlay_id, identity->overlay_id, sizeof trailer->overlay_id);
    trailer->crc = htole32(trailer_crc(trailer));
}

int vdr_overlay_create(int data_fd, int bitmap_fd, const vdr_overlay_identity *identity)
{
    int error = vdr_overlay_map_create(bitmap_fd, identity);
    if (error)
        return error;
    trailer_record trailer;
    trailer_make(&trailer, identity);
    uint64_t end = data_bytes(identity);
    if (ftruncate(data_fd, 0) || ftruncate(data_fd, (off_t)(end + sizeof trailer)) ||
        vdr_file_write(data_fd, end, &trailer, sizeof trailer) || fsync(data_fd))
        return VDR_E_IO;
    return VDR_OK;
}

int vdr_overlay_identify(int bitmap_fd, vdr_overlay_identity *identity)
{
    return vdr_overlay_map_identify(bitmap_fd, identity);
}

static int data_file_check(int data_fd, const vdr_overlay_identity *identity)
{
    trailer_record found, wanted;
    struct stat status;
    uint64_t end = data_bytes(identity);
    if (fstat(data_fd, &status))
        return VDR_E_IO;
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != end + sizeof found)
        return VDR_E_CORRUPT;
    int error = vdr_file_read(data_fd, end, &found, sizeof found);
    trailer_make(&wanted, identity);
    return error ? error : memcmp(&found, &wanted, sizeof found) == 0 ? VDR_OK : VDR_E_CORRUPT;
}

static int refuse_after_failure(overlay *self)
{
    errno = atomic_load_explicit(&self->failed_errno, memory_order_relaxed);
    return errno ? VDR_E_IO : VDR_OK;
}

/* Decrypt whole blocks that were read. */
static int decrypt(overlay *self, uint64_t block, uint8_t *data, size_t bytes)
{
    vdr_xts_context *context = vdr_xts_take(self->xts);
    int error = vdr_xts_decrypt(context, block, self->block_bytes, data, bytes);
    vdr_xts_give(context);
    return error;
}

/* One block that is ours, whole. */
static int data_read_block(overlay *self, uint64_t block, uint8_t *buffer)
{
    int error = vdr_file_read(self->data_fd, block * self->block_bytes, buffer, self->block_bytes);
    return error || !self->xts ? error : decrypt(self, block, buffer, self->block_bytes);
}

/* Part of one block of an encrypted overlay: the block is decrypted as a whole. */
static int data_read_part(overlay *self, uint64_t offset_bytes, uint8_t *buffer, size_t bytes)
{
    uint8_t *whole = malloc(self->block_bytes);
    if (!whole)
        return VDR_E_MEMORY;
    int error = data_read_block(self, offset_bytes / self->block_bytes, whole);
    if (!error)
        memcpy(buffer, whole + offset_bytes % self->block_bytes, bytes);
    free(whole);
    return error;
}

/* Bytes from `offset_bytes` that belong to one step: up to the end of its block if it starts or ends inside one. */
static uint64_t step_bytes(const overlay *self, uint64_t offset_bytes, uint64_t bytes)
{
    uint64_t in_block = offset_bytes % self->block_bytes;
    if (in_block == 0 && bytes >= self->block_bytes)
        return bytes / self->block_bytes * self->block_bytes;
    uint64_t left = self->block_bytes - in_block;
    return left < bytes ? left : bytes;
}

static stripe *stripe_of(overlay *self, uint64_t offset_bytes)
{
    return &self->stripes[offset_bytes / REGION_BYTES % STRIPES];
}

/* Part of one region of an encrypted overlay, its stripe held. */
static int data_read_region(overlay *self, uint64_t offset_bytes, uint8_t *buffer, size_t bytes)
{
    int error = VDR_OK;
    while (bytes > 0 && !error) {
        size_t step = (size_t)step_bytes(self, offset_bytes, bytes);
        if (step % self->block_bytes)
            error = data_read_part(self, offset_bytes, buffer, step);
        else if (!(error = vdr_file_read(self->data_fd, offset_bytes, buffer, step)))
            error = decrypt(self, offset_bytes / self->block_bytes, buffer, step);
        offset_bytes += step;
        buffer += step;
        bytes -= step;
    }
    return error;
}

/* A range of blocks that are ours. A block once ours stays so. */
static int data_read(overlay *self, uint64_t offset_bytes, uint8_t *buffer, size_t bytes)
{
    if (!self->xts)
        return vdr_file_read(self->data_fd, offset_bytes, buffer, bytes);
    int error = VDR_OK;
    while (bytes > 0 && !error) {
        size_t left = (size_t)(REGION_BYTES - offset_bytes % REGION_BYTES);
        size_t in_region = bytes < left ? bytes : left;
        stripe *held = stripe_of(self, offset_bytes);
        /* A write changes sectors that it is not for: zeros not stored become zeros encrypted. A sector half of each would
         * be decrypted to noise, so nobody writes meanwhile. */
        pthread_rwlock_rdlock(&held->lock);
        error = data_read_region(self, offset_bytes, buffer, in_region);
        int kept = errno;
        pthread_rwlock_unlock(&held->lock);
        errno = kept;
        offset_bytes += in_region;
        buffer += in_region;
        bytes -= in_region;
    }
    return error;
}

/* Whole blocks, or without encryption any bytes. */
static int data_write(overlay *self, uint64_t offset_bytes, const uint8_t *source, size_t bytes)
{
    if (!self->xts)
        return vdr_file_write(self->data_fd, offset_bytes, source, bytes);
    vdr_xts_context *context = vdr_xts_take(self->xts);
    const uint8_t *encrypted =
        vdr_xts_encrypt(context, offset_bytes / self->block_bytes, self->block_bytes, source, bytes);
    int error = encrypted ? vdr_file_write(self->data_fd, offset_bytes, encrypted, bytes) : VDR_E_CRYPTO;
    int kept = errno;
    vdr_xts_give(context);
    errno = kept;
    return error;
}

/* VDR_E_IO and ENOSPC if [offset_bytes, offset_bytes + bytes) of the data file would grow it beyond its limit. */
static int check_limit(overlay *self, uint64_t offset_bytes, uint64_t bytes)
{
    uint64_t limit = atomic_load_explicit(&self->limit_bytes, memory_order_relaxed);
    struct stat status;
    if (limit == 0)
        return VDR_OK;
    if (fstat(self->data_fd, &status))
        return VDR_E_IO;
    if ((uint64_t)status.st_blocks * 512 + bytes <= limit)
        return VDR_OK;
    /* What is there already needs no room. */
    off_t hole = lseek(self->data_fd, (off_t)offset_bytes, SEEK_HOLE);
    if (hole >= 0 && (uint64_t)hole >= offset_bytes + bytes)
        return VDR_OK;
    errno = ENOSPC;
    return VDR_E_IO;
}

static int overlay_read(void *context, uint64_t offset_bytes, void *buffer, size_t bytes)
{
    overlay *self = context;
    uint8_t *next = buffer;
    uint64_t end = offset_bytes + bytes, end_block = (end - 1) / self->block_bytes + 1;
    while (offset_bytes < end) {
        uint64_t block = offset_bytes / self->block_bytes;
        int is_ours = vdr_overlay_map_test(self->map, block);
        uint64_t run_end = vdr_overlay_map_run_end(self->map, block, end_block, is_ours) * self->block_bytes;
        if (run_end <= offset_bytes) /* a writer came between */
            continue;
        size_t length = (size_t)((run_end < end ? run_end : end) - offset_bytes);
        int error = is_ours ? data_read(self, offset_bytes, next, length)
                            : vdr_disk_read(self->lower, offset_bytes, next, length);
        if (error)
            return error;
        next += length;
        offset_bytes += length;
    }
    return VDR_OK;
}

/* The lower disk's bytes of one block, zeros past its end. */
static int read_lower_block(overlay *self, uint64_t block, uint8_t *buffer)
{
    uint64_t start = block * self->block_bytes;
    uint64_t left = self->size_bytes - start;
    size_t inside = left < self->block_bytes ? (size_t)left : self->block_bytes;
    memset(buffer + inside, 0, self->block_bytes - inside);
    return vdr_disk_read(self->lower, start, buffer, inside);
}

/* Write part of a block; `source` NULL means zeros. The stripe of the block is held. */
static int write_partial(overlay *self, stripe *held, uint64_t offset_bytes, const uint8_t *source, size_t bytes)
{
    uint64_t block = offset_bytes / self->block_bytes, start = block * self->block_bytes;
    int is_ours = vdr_overlay_map_test(self->map, block);
    int error = source || !is_ours ? check_limit(self, start, self->block_bytes) : VDR_OK;
    if (error)
        return error;
    if (is_ours && !self->xts)
        return source ? vdr_file_write(self->data_fd, offset_bytes, source, bytes)
                      : vdr_file_zero(self->data_fd, offset_bytes, bytes);
    error = is_ours ? data_read_block(self, block, held->block) : read_lower_block(self, block, held->block);
    if (error)
        return error;
    uint8_t *place = held->block + offset_bytes % self->block_bytes;
    if (source)
        memcpy(place, source, bytes);
    else
        memset(place, 0, bytes);
    error = vdr_overlay_map_reserve(self->map, block, block + 1);
    if (!error)
        error = data_write(self, start, held->block, self->block_bytes);
    if (!error)
        vdr_overlay_map_set(self->map, block, block + 1);
    return error;
}

static int write_whole_blocks(overlay *self, uint64_t offset_bytes, const uint8_t *source, size_t bytes)
{
    uint64_t block = offset_bytes / self->block_bytes, end = block + bytes / self->block_bytes;
    int error = check_limit(self, offset_bytes, bytes);
    if (!error)
        error = vdr_overlay_map_reserve(self->map, block, end);
    if (!error)
        error = data_write(self, offset_bytes, source, bytes);
    if (!error)
        vdr_overlay_map_set(self->map, block, end);
    return error;
}

static int hide_with_zeros(overlay *self, uint64_t offset_bytes, uint64_t bytes)
{
    uint64_t block = offset_bytes / self->block_bytes, end = block + bytes / self->block_bytes;
    int error = vdr_overlay_map_reserve(self->map, block, end);
    /* The file may hold bytes of a write that a crash cut off. They go before the bits are set. */
    if (!error)
        error = vdr_file_zero(self->data_fd, offset_bytes, bytes);
    if (!error)
        vdr_overlay_map_set(self->map, block, end);
    return error;
}

/* Zero whole blocks that are the lower disk's: only those that are not zero there are hidden, so that discarding an empty
 * disk costs nothing. */
static int zero_lower_blocks(overlay *self, uint64_t offset_bytes, uint64_t bytes)
{
    uint64_t end = offset_bytes + bytes;
    while (offset_bytes < end) {
        vdr_extent extent;
        int64_t count = vdr_disk_extents(self->lower, offset_bytes, end - offset_bytes, &extent, 1);
        if (count < 0)
            return (int)count;
        uint64_t whole = extent.length_bytes / self->block_bytes * self->block_bytes;
        uint64_t step = whole ? whole : self->block_bytes;
        int is_zero = whole && extent.kind != VDR_EXTENT_DATA;
        int error = is_zero ? VDR_OK : hide_with_zeros(self, offset_bytes, step);
        if (error)
            return error;
        offset_bytes += step;
    }
    return VDR_OK;
}

static int zero_whole_blocks(overlay *self, uint64_t offset_bytes, uint64_t bytes)
{
    uint64_t block = offset_bytes / self->block_bytes, end = block + bytes / self->block_bytes;
    int error = VDR_OK;
    while (block < end && !error) {
        int is_ours = vdr_overlay_map_test(self->map, block);
        uint64_t run_end = vdr_overlay_map_run_end(self->map, block, end, is_ours);
        uint64_t start = block * self->block_bytes, length = (run_end - block) * self->block_bytes;
        error = is_ours ? vdr_file_zero(self->data_fd, start, length) : zero_lower_blocks(self, start, length);
        block = run_end;
    }
    return error;
}

static int overlay_write(void *context, uint64_t offset_bytes, const void *buffer, size_t bytes)
{
    overlay *self = context;
    const uint8_t *source = buffer;
    int error = refuse_after_failure(self);
    while (bytes > 0 && !error) {
        size_t left = (size_t)(REGION_BYTES - offset_bytes % REGION_BYTES);
        size_t in_region = bytes < left ? bytes : left;
        stripe *held = stripe_of(self, offset_bytes);
        bytes -= in_region;
        pthread_rwlock_wrlock(&held->lock);
        while (in_region > 0 && !error) {
            size_t step = (size_t)step_bytes(self, offset_bytes, in_region);
            if (step % self->block_bytes)
                error = write_partial(self, held, offset_bytes, source, step);
            else if (step >= ZERO_WRITE_BYTES && vdr_zero_is(source, step)) /* how NFS clients discard */
                error = zero_whole_blocks(self, offset_bytes, step);
            else
                error = write_whole_blocks(self, offset_bytes, source, step);
            source += step;
            offset_bytes += step;
            in_region -= step;
        }
        int kept = errno;
        pthread_rwlock_unlock(&held->lock);
        errno = kept;
    }
    return error;
}

static int overlay_zero(void *context, uint64_t offset_bytes, uint64_t bytes)
{
    overlay *self = context;
    uint64_t end = offset_bytes + bytes;
    int error = refuse_after_failure(self);
    while (offset_bytes < end && !error) {
        uint64_t left = end - offset_bytes;
        uint64_t step_end = offset_bytes + (left < ZERO_STEP_BYTES ? left : ZERO_STEP_BYTES);
        for (int i = 0; i < STRIPES; i++)
            pthread_rwlock_wrlock(&self->stripes[i].lock);
        while (offset_bytes < step_end && !error) {
            uint64_t step = step_bytes(self, offset_bytes, step_end - offset_bytes);
            error = step % self->block_bytes
                        ? write_partial(self, stripe_of(self, offset_bytes), offset_bytes, NULL, (size_t)step)
                        : zero_whole_blocks(self, offset_bytes, step);
            offset_bytes += step;
        }
        int kept = errno;
        for (int i = 0; i < STRIPES; i++)
            pthread_rwlock_unlock(&self->stripes[i].lock);
        errno = kept;
    }
    return error;
}

static int flush_files(overlay *self)
{
    int64_t changed = vdr_overlay_map_snapshot(self->map);
    /* Data first: a bit that is durable must never point at bytes that are not. */
    if (fdatasync(self->data_fd))
        return VDR_E_IO;
    return changed ? vdr_overlay_map_write(self->map) : VDR_OK;
}

/* Callers that arrive while a flush runs share the next one. */
static int overlay_flush(void *context)
{
    overlay *self = context;
    pthread_mutex_lock(&self->flush_lock);
    uint64_t wanted = self->flushes_begun + 1;
    while (self->flushes_ended < wanted) {
        if (self->flush_runs) {
            pthread_cond_wait(&self->flush_ended, &self->flush_lock);
            continue;
        }
        self->flush_runs = 1;
        uint64_t number = ++self->flushes_begun;
        pthread_mutex_unlock(&self->flush_lock);
        int error = refuse_after_failure(self);
        if (!error && flush_files(self))
            atomic_store(&self->failed_errno, errno ? errno : EIO);
        pthread_mutex_lock(&self->flush_lock);
        self->flush_runs = 0;
        self->flushes_ended = number;
        pthread_cond_broadcast(&self->flush_ended);
    }
    pthread_mutex_unlock(&self->flush_lock);
    return refuse_after_failure(self);
}

static int64_t list_extents(overlay *self, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents, size_t capacity,
                            int with_lower)
{
    uint64_t end = offset_bytes + bytes, end_block = (end - 1) / self->block_bytes + 1;
    size_t count = 0;
    while (offset_bytes < end && count < capacity) {
        uint64_t block = offset_bytes / self->block_bytes;
        int is_ours = vdr_overlay_map_test(self->map, block);
        uint64_t run_end = vdr_overlay_map_run_end(self->map, block, end_block, is_ours) * self->block_bytes;
        if (run_end <= offset_bytes)
            continue;
        uint64_t length = (run_end < end ? run_end : end) - offset_bytes;
        if (!is_ours && !with_lower) {
            offset_bytes += length;
            continue;
        }
        int64_t found = is_ours ? vdr_file_extents(self->data_fd, offset_bytes, length, VDR_EXTENT_ZERO, extents + count,
                                                   capacity - count)
                                : vdr_disk_extents(self->lower, offset_bytes, length, extents + count, capacity - count);
        if (found < 0)
            return found;
        count += (size_t)found;
        offset_bytes = extents[count - 1].offset_bytes + extents[count - 1].length_bytes;
    }
    return (int64_t)count;
}

static int64_t overlay_extents(void *context, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents,
                               size_t capacity)
{
    return list_extents(context, offset_bytes, bytes, extents, capacity, 1);
}

static void overlay_prefetch(void *context, uint64_t offset_bytes, uint64_t bytes, int waits)
{
    vdr_disk_prefetch(((overlay *)context)->lower, offset_bytes, bytes, waits);
}

static void overlay_close(void *context)
{
    overlay *self = context;
    if (self->map) {
        overlay_flush(self);
        vdr_overlay_map_close(self->map);
    }
    vdr_disk_close(self->lower);
    for (int i = 0; i < STRIPES; i++)
        pthread_rwlock_destroy(&self->stripes[i].lock);
    free(self->blocks);
    vdr_xts_close(self->xts);
    pthread_mutex_destroy(&self->flush_lock);
    pthread_cond_destroy(&self->flush_ended);
    if (self->data_fd >= 0)
        close(self->data_fd);
    if (self->bitmap_fd >= 0)
        close(self->bitmap_fd);
    free(self);
}

static int overlay_usage(void *context, uint64_t *stored_bytes, uint64_t *limit_bytes)
{
    overlay *self = context;
    struct stat status;
    if (fstat(self->data_fd, &status))
        return VDR_E_IO;
    *stored_bytes = (uint64_t)status.st_blocks * 512;
    *limit_bytes = self->limit_bytes;
    return VDR_OK;
}

static const vdr_disk_operations overlay_operations = {
    .read = overlay_read,
    .write = overlay_write,
    .zero = overlay_zero,
    .flush = overlay_flush,
    .extents = overlay_extents,
    .prefetch = overlay_prefetch,
    .close = overlay_close,
    .usage = overlay_usage,
};

static int open_files(overlay *self, int data_fd, int bitmap_fd, const uint8_t *key)
{
    self->data_fd = fcntl(data_fd, F_DUPFD_CLOEXEC, 0);
    self->bitmap_fd = fcntl(bitmap_fd, F_DUPFD_CLOEXEC, 0);
    if (self->data_fd < 0 || self->bitmap_fd < 0)
        return VDR_E_IO;
    int error = vdr_overlay_map_open(self->bitmap_fd, &self->map);
    if (error)
        return error;
    const vdr_overlay_identity *identity = vdr_overlay_map_identity(self->map);
    if (identity->size_bytes != self->size_bytes || (identity->cipher != VDR_OVERLAY_PLAIN) != (key != NULL))
        return VDR_E_ARGUMENT;
    if (key && !(self->xts = vdr_xts_open(key)))
        return VDR_E_CRYPTO;
    self->block_bytes = identity->block_bytes;
    self->blocks = malloc((size_t)STRIPES * self->block_bytes);
    if (!self->blocks)
        return VDR_E_MEMORY;
    for (int i = 0; i < STRIPES; i++)
        self->stripes[i].block = self->blocks + (size_t)i * self->block_bytes;
    return data_file_check(self->data_fd, identity);
}

static void init_stripes(overlay *self)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Readers of a busy region must not keep its writers out for ever. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    for (int i = 0; i < STRIPES; i++)
        pthread_rwlock_init(&self->stripes[i].lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

static int open_overlay(vdr_disk *lower, int data_fd, int bitmap_fd, const uint8_t *key, vdr_disk **disk)
{
    overlay *self = calloc(1, sizeof *self);
    if (!self)
        return VDR_E_MEMORY;
    vdr_disk_retain(lower);
    self->lower = lower;
    self->size_bytes = vdr_disk_size_bytes(lower);
    init_stripes(self);
    pthread_mutex_init(&self->flush_lock, NULL);
    pthread_cond_init(&self->flush_ended, NULL);
    int error = open_files(self, data_fd, bitmap_fd, key);
    if (!error)
        error = vdr_disk_make(&overlay_operations, self, self->size_bytes, disk);
    if (error) {
        int kept = errno;
        overlay_close(self);
        errno = kept;
    }
    return error;
}

int vdr_overlay_open(vdr_disk *lower, int data_fd, int bitmap_fd, vdr_disk **disk)
{
    return open_overlay(lower, data_fd, bitmap_fd, NULL, disk);
}

int vdr_overlay_open_encrypted(vdr_disk *lower, int data_fd, int bitmap_fd, const uint8_t *key, vdr_disk **disk)
{
    return open_overlay(lower, data_fd, bitmap_fd, key, disk);
}

int vdr_overlay_set_limit(vdr_disk *disk, uint64_t limit_bytes)
{
    overlay *self = vdr_disk_context(disk, &overlay_operations);
    if (!self)
        return VDR_E_ARGUMENT;
    self->limit_bytes = limit_bytes;
    return VDR_OK;
}

int64_t vdr_overlay_changed(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents, size_t capacity)
{
    overlay *self = vdr_disk_context(disk, &overlay_operations);
    if (!self || capacity == 0 || offset_bytes > self->size_bytes || bytes > self->size_bytes - offset_bytes)
        return VDR_E_ARGUMENT;
    return bytes ? list_extents(self, offset_bytes, bytes, extents, capacity, 0) : 0;
}

int vdr_overlay_statistics_get(vdr_disk *disk, vdr_overlay_statistics *statistics)
{
    overlay *self = vdr_disk_context(disk, &overlay_operations);
    struct stat data, bitmap;
    if (!self)
        return VDR_E_ARGUMENT;
    if (fstat(self->data_fd, &data) || fstat(self->bitmap_fd, &bitmap))
        return VDR_E_IO;
    pthread_mutex_lock(&self->flush_lock);
    statistics->flushes = self->flushes_ended;
    pthread_mutex_unlock(&self->flush_lock);
    statistics->blocks = vdr_overlay_map_block_count(self->map);
    statistics->stored_bytes = ((uint64_t)data.st_blocks + (uint64_t)bitmap.st_blocks) * 512;
    statistics->torn_pages = vdr_overlay_map_torn_pages(self->map);
    return VDR_OK;
}

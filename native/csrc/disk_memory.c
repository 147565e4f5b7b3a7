#include "disk_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "err.h"

enum { BLOCK_BYTES = 4096 };

typedef struct {
    pthread_rwlock_t lock;
    uint8_t *bytes;
    uint8_t *kinds; /* VDR_EXTENT_* of each block */
    uint64_t size_bytes;
    uint64_t fail_start, fail_end;
    int fail_code;
} memory_disk;

static int memory_read(void *context, uint64_t offset_bytes, void *buffer, size_t bytes)
{
    memory_disk *disk = context;
    int result = VDR_OK;
    pthread_rwlock_rdlock(&disk->lock);
    if (offset_bytes < disk->fail_end && offset_bytes + bytes > disk->fail_start)
        result = disk->fail_code;
    else
        memcpy(buffer, disk->bytes + offset_bytes, bytes);
    pthread_rwlock_unlock(&disk->lock);
    if (result)
        errno = EIO;
    return result;
}

static int memory_write(void *context, uint64_t offset_bytes, const void *buffer, size_t bytes)
{
    memory_disk *disk = context;
    pthread_rwlock_wrlock(&disk->lock);
    memcpy(disk->bytes + offset_bytes, buffer, bytes);
    uint64_t first = offset_bytes / BLOCK_BYTES, last = (offset_bytes + bytes - 1) / BLOCK_BYTES;
    memset(disk->kinds + first, VDR_EXTENT_DATA, (size_t)(last - first + 1));
    pthread_rwlock_unlock(&disk->lock);
    return VDR_OK;
}

static int memory_zero(void *context, uint64_t offset_bytes, uint64_t bytes)
{
    memory_disk *disk = context;
    uint64_t end = offset_bytes + bytes;
    pthread_rwlock_wrlock(&disk->lock);
    memset(disk->bytes + offset_bytes, 0, (size_t)bytes);
    for (uint64_t block = (offset_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES; (block + 1) * BLOCK_BYTES <= end; block++)
        disk->kinds[block] = VDR_EXTENT_ZERO;
    pthread_rwlock_unlock(&disk->lock);
    return VDR_OK;
}

static int memory_flush(void *context)
{
    (void)context;
    return VDR_OK;
}

static int64_t memory_extents(void *context, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents,
                              size_t capacity)
{
    memory_disk *disk = context;
    uint64_t end = offset_bytes + bytes;
    size_t count = 0;
    pthread_rwlock_rdlock(&disk->lock);
    while (offset_bytes < end) {
        uint64_t next = (offset_bytes / BLOCK_BYTES + 1) * BLOCK_BYTES;
        uint64_t length = (next < end ? next : end) - offset_bytes;
        uint32_t kind = disk->kinds[offset_bytes / BLOCK_BYTES];
        if (count == capacity && extents[count - 1].kind != kind)
            break;
        count = vdr_extents_append(extents, count, capacity, offset_bytes, length, kind);
        offset_bytes += length;
    }
    pthread_rwlock_unlock(&disk->lock);
    return (int64_t)count;
}

static void memory_close(void *context)
{
    memory_disk *disk = context;
    if (disk->bytes)
        munmap(disk->bytes, (size_t)disk->size_bytes + 1);
    free(disk->kinds);
    pthread_rwlock_destroy(&disk->lock);
    free(disk);
}

static const vdr_disk_operations memory_operations = {
    .read = memory_read,
    .write = memory_write,
    .zero = memory_zero,
    .flush = memory_flush,
    .extents = memory_extents,
    .close = memory_close,
};

int vdr_disk_memory_open(uint64_t size_bytes, vdr_disk **disk)
{
    if (size_bytes > INT64_MAX - 1)
        return VDR_E_ARGUMENT;
    memory_disk *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    pthread_rwlock_init(&made->lock, NULL);
    made->size_bytes = size_bytes;
    made->kinds = malloc((size_t)(size_bytes / BLOCK_BYTES + 1));
    made->bytes = mmap(NULL, (size_t)size_bytes + 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made->bytes == MAP_FAILED)
        made->bytes = NULL;
    int error = made->bytes && made->kinds ? VDR_OK : VDR_E_MEMORY;
    if (!error) {
        memset(made->kinds, VDR_EXTENT_HOLE, (size_t)(size_bytes / BLOCK_BYTES + 1));
        error = vdr_disk_make(&memory_operations, made, size_bytes, disk);
    }
    if (error)
        memory_close(made);
    return error;
}

int vdr_disk_memory_fail_reads(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, int code)
{
    memory_disk *memory = vdr_disk_context(disk, &memory_operations);
    if (!memory)
        return VDR_E_ARGUMENT;
    pthread_rwlock_wrlock(&memory->lock);
    memory->fail_start = offset_bytes;
    memory->fail_end = offset_bytes + bytes;
    memory->fail_code = code;
    pthread_rwlock_unlock(&memory->lock);
    return VDR_OK;
}

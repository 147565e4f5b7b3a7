#include "disk.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "err.h"

struct vdr_disk {
    const vdr_disk_operations *operations;
    void *context;
    uint64_t size_bytes;
    atomic_uint references;
};

int vdr_disk_make(const vdr_disk_operations *operations, void *context, uint64_t size_bytes, vdr_disk **disk)
{
    /* Offsets travel as signed 64-bit file offsets and NFS sizes. */
    if (size_bytes > INT64_MAX)
        return VDR_E_ARGUMENT;
    vdr_disk *made = malloc(sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->operations = operations;
    made->context = context;
    made->size_bytes = size_bytes;
    atomic_init(&made->references, 1);
    *disk = made;
    return VDR_OK;
}

void *vdr_disk_context(const vdr_disk *disk, const vdr_disk_operations *operations)
{
    return disk->operations == operations ? disk->context : NULL;
}

uint64_t vdr_disk_size_bytes(const vdr_disk *disk)
{
    return disk->size_bytes;
}

int vdr_disk_is_writable(const vdr_disk *disk)
{
    return disk->operations->write != NULL;
}

static int range_is_inside(const vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes)
{
    return offset_bytes <= disk->size_bytes && bytes <= disk->size_bytes - offset_bytes;
}

int vdr_disk_read(vdr_disk *disk, uint64_t offset_bytes, void *buffer, size_t bytes)
{
    if (!range_is_inside(disk, offset_bytes, bytes))
        return VDR_E_ARGUMENT;
    if (bytes == 0)
        return VDR_OK;
    return disk->operations->read(disk->context, offset_bytes, buffer, bytes);
}

static int refuse_read_only(void)
{
    errno = EROFS;
    return VDR_E_IO;
}

int vdr_disk_write(vdr_disk *disk, uint64_t offset_bytes, const void *buffer, size_t bytes)
{
    if (!range_is_inside(disk, offset_bytes, bytes))
        return VDR_E_ARGUMENT;
    if (!disk->operations->write)
        return refuse_read_only();
    if (bytes == 0)
        return VDR_OK;
    return disk->operations->write(disk->context, offset_bytes, buffer, bytes);
}

int vdr_disk_zero(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes)
{
    if (!range_is_inside(disk, offset_bytes, bytes))
        return VDR_E_ARGUMENT;
    if (!disk->operations->zero)
        return refuse_read_only();
    if (bytes == 0)
        return VDR_OK;
    return disk->operations->zero(disk->context, offset_bytes, bytes);
}

int vdr_disk_flush(vdr_disk *disk)
{
    return disk->operations->flush ? disk->operations->flush(disk->context) : VDR_OK;
}

int64_t vdr_disk_extents(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, vdr_extent *extents, size_t capacity)
{
    if (!range_is_inside(disk, offset_bytes, bytes) || capacity == 0)
        return VDR_E_ARGUMENT;
    if (bytes == 0)
        return 0;
    if (!disk->operations->extents)
        return (int64_t)vdr_extents_append(extents, 0, capacity, offset_bytes, bytes, VDR_EXTENT_DATA);
    return disk->operations->extents(disk->context, offset_bytes, bytes, extents, capacity);
}

int vdr_disk_usage(vdr_disk *disk, uint64_t *stored_bytes, uint64_t *limit_bytes)
{
    return disk->operations->usage ? disk->operations->usage(disk->context, stored_bytes, limit_bytes) : VDR_E_ARGUMENT;
}

void vdr_disk_prefetch(vdr_disk *disk, uint64_t offset_bytes, uint64_t bytes, int waits)
{
    if (bytes > 0 && range_is_inside(disk, offset_bytes, bytes) && disk->operations->prefetch)
        disk->operations->prefetch(disk->context, offset_bytes, bytes, waits);
}

void vdr_disk_retain(vdr_disk *disk)
{
    atomic_fetch_add_explicit(&disk->references, 1, memory_order_relaxed);
}

void vdr_disk_close(vdr_disk *disk)
{
    if (!disk || atomic_fetch_sub_explicit(&disk->references, 1, memory_order_acq_rel) != 1)
        return;
    if (disk->operations->close)
        disk->operations->close(disk->context);
    free(disk);
}

size_t vdr_extents_append(vdr_extent *extents, size_t count, size_t capacity, uint64_t offset_bytes,
                          uint64_t length_bytes, uint32_t kind)
{
    if (count > 0) {
        vdr_extent *last = &extents[count - 1];
        if (last->kind == kind && last->offset_bytes + last->length_bytes == offset_bytes) {
            last->length_bytes += length_bytes;
            return count;
        }
    }
    if (count == capacity)
        return count;
    extents[count] = (vdr_extent){offset_bytes, length_bytes, kind, 0};
    return count + 1;
}

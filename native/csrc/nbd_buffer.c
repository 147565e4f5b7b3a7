#include "nbd_buffer.h"

#include <stdlib.h>
#include <string.h>

/* A small read or any reply without data; a block; a piece of a long read. With room for the reply's header. */
static const size_t capacities[VDR_NBD_BUFFER_CLASSES] = {(8 << 10) + 64, (64 << 10) + 64, (256 << 10) + 64};
static const uint32_t kept[VDR_NBD_BUFFER_CLASSES] = {128, 32, 16};

void vdr_nbd_buffers_open(vdr_nbd_buffers *buffers)
{
    memset(buffers, 0, sizeof *buffers);
    pthread_mutex_init(&buffers->lock, NULL);
}

void vdr_nbd_buffers_close(vdr_nbd_buffers *buffers)
{
    for (int kind = 0; kind < VDR_NBD_BUFFER_CLASSES; kind++)
        while (buffers->free[kind]) {
            vdr_nbd_buffer *next = buffers->free[kind]->next;
            free(buffers->free[kind]);
            buffers->free[kind] = next;
        }
    pthread_mutex_destroy(&buffers->lock);
}

vdr_nbd_buffer *vdr_nbd_buffer_take(vdr_nbd_buffers *buffers, size_t capacity)
{
    int kind = 0;
    while (kind < VDR_NBD_BUFFER_CLASSES && capacities[kind] < capacity)
        kind++;
    vdr_nbd_buffer *taken = NULL;
    if (kind < VDR_NBD_BUFFER_CLASSES) {
        capacity = capacities[kind];
        pthread_mutex_lock(&buffers->lock);
        taken = buffers->free[kind];
        if (taken) {
            buffers->free[kind] = taken->next;
            buffers->free_count[kind]--;
        }
        pthread_mutex_unlock(&buffers->lock);
    }
    if (!taken) {
        taken = malloc(sizeof *taken + capacity);
        if (!taken)
            return NULL;
        taken->capacity = capacity;
        taken->kind = kind;
        buffers->bytes += capacity;
    }
    taken->next = NULL;
    taken->bytes = taken->sent = 0;
    taken->is_last = 0;
    taken->call_bytes = 0;
    return taken;
}

void vdr_nbd_buffer_give(vdr_nbd_buffers *buffers, vdr_nbd_buffer *buffer)
{
    if (!buffer)
        return;
    if (buffer->kind < VDR_NBD_BUFFER_CLASSES) {
        pthread_mutex_lock(&buffers->lock);
        int is_kept = buffers->free_count[buffer->kind] < kept[buffer->kind];
        if (is_kept) {
            buffer->next = buffers->free[buffer->kind];
            buffers->free[buffer->kind] = buffer;
            buffers->free_count[buffer->kind]++;
        }
        pthread_mutex_unlock(&buffers->lock);
        if (is_kept)
            return;
    }
    buffers->bytes -= buffer->capacity;
    free(buffer);
}

/* Buffers for replies and payloads of the NBD server: three sizes that are kept for use again, and longer ones that are not. */
#ifndef VDR_NBD_BUFFER_H
#define VDR_NBD_BUFFER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { VDR_NBD_BUFFER_CLASSES = 3 };

typedef struct vdr_nbd_buffer {
    struct vdr_nbd_buffer *next;
    size_t capacity;
    int kind;             /* its size class, or VDR_NBD_BUFFER_CLASSES for none */
    size_t bytes, sent;
    int is_last;          /* of a reply */
    uint64_t call_bytes;  /* that the connection gets back with it */
    uint8_t data[];
} vdr_nbd_buffer;

typedef struct {
    pthread_mutex_t lock;
    vdr_nbd_buffer *free[VDR_NBD_BUFFER_CLASSES];
    uint32_t free_count[VDR_NBD_BUFFER_CLASSES];
    _Atomic uint64_t bytes;  /* of all buffers there are */
} vdr_nbd_buffers;

void vdr_nbd_buffers_open(vdr_nbd_buffers *buffers);
/* All have been given back. */
void vdr_nbd_buffers_close(vdr_nbd_buffers *buffers);

/* One of at least `capacity` bytes, or NULL without memory. */
vdr_nbd_buffer *vdr_nbd_buffer_take(vdr_nbd_buffers *buffers, size_t capacity);
void vdr_nbd_buffer_give(vdr_nbd_buffers *buffers, vdr_nbd_buffer *buffer);

#endif

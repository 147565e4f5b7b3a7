/* RPC record marking (RFC 5531 section 11): puts the fragments of a byte stream together to calls.
 *
 * Does no I/O of its own: it pulls. A record is never longer than its bound and never of more than 64 fragments, so a
 * peer can neither fill memory nor keep a thread busy with empty ones. */
#ifndef VDR_NFS_RECORD_H
#define VDR_NFS_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    VDR_NFS_DATA_BYTES_MAX = 1 << 20,                             /* of one READ or WRITE */
    VDR_NFS_RECORD_BYTES_MAX = VDR_NFS_DATA_BYTES_MAX + 8192,     /* of a call or reply with its headers */
    VDR_NFS_FRAGMENTS_MAX = 64,
    VDR_NFS_HEAD_BYTES = 8192, /* what the first pull asks for: a small call as a whole, and those that follow it */
};

typedef enum {
    VDR_NFS_RECORD_WAIT,      /* nothing more to pull now; the state is kept */
    VDR_NFS_RECORD_WHOLE,     /* `buffer` holds a record of `bytes` bytes; take it and call vdr_nfs_record_reset */
    VDR_NFS_RECORD_END,       /* the peer closed between records */
    VDR_NFS_RECORD_CUT,       /* the peer closed, or the connection broke, inside a record */
    VDR_NFS_RECORD_TOO_LONG,
    VDR_NFS_RECORD_TOO_MANY_FRAGMENTS,
    VDR_NFS_RECORD_NO_BUFFER, /* the owner had none */
} vdr_nfs_record_state;

typedef struct {
    uint8_t head[VDR_NFS_HEAD_BYTES];
    size_t head_used, head_bytes;
    uint8_t *buffer;          /* VDR_NFS_RECORD_BYTES_MAX bytes, the owner's; NULL between records */
    size_t bytes;
    uint32_t fragment_left;
    uint32_t fragments;
    int is_last;
    int is_inside;            /* some bytes of a record have come */
    int is_drained;           /* the last pull got less than it asked for: there was nothing more at that time */
} vdr_nfs_record;

typedef struct {
    /* Like recv on a non-blocking socket: bytes, 0 at the end, -1 with errno (EAGAIN: nothing now). */
    ssize_t (*pull)(void *context, void *place, size_t bytes);
    /* A buffer of VDR_NFS_RECORD_BYTES_MAX, or NULL. */
    uint8_t *(*take_buffer)(void *context);
    void *context;
} vdr_nfs_record_source;

vdr_nfs_record_state vdr_nfs_record_pull(vdr_nfs_record *record, const vdr_nfs_record_source *source);

/* Ready for the next record; the buffer is the caller's now. */
uint8_t *vdr_nfs_record_reset(vdr_nfs_record *record);

#endif

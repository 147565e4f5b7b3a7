/* Completes the entries of a batch from vdr_merge: opens each file safely, reads small ones into packs and everything's
 * attributes, flags and link targets, and sees whether it changed meanwhile. Large and sparse files are opened and handed to the caller.
 *
 * One gather serves one thread. */
#ifndef VDR_GATHER_H
#define VDR_GATHER_H

#include <stddef.h>
#include <stdint.h>

#include "entry.h"
#include "event.h"
#include "merge.h"

/* cffi: begin */
enum {
    VDR_GATHER_ATTEMPTS = 3, /* readings of a file that changes meanwhile */
};

typedef enum {
    VDR_GATHER_END = 0,   /* all of `batch` is used; the packs are complete */
    VDR_GATHER_FULL = 1,  /* a buffer is full; the packs are complete: store them, empty the buffers, call again */
    VDR_GATHER_LARGE = 2, /* the last record in `out` (at large_at) is the caller's to read from large_fd, then call again */
} vdr_gather_result;

typedef struct {
    const uint8_t *batch; /* loose entries */
    size_t batch_bytes;
    size_t batch_used;
    uint8_t *out; /* loose entries, completed; at least 2 * VDR_ENTRY_BYTES_MAX */
    size_t out_bytes;
    size_t out_used;
    uint8_t *data; /* at least 2 * VDR_PACK_FILE_BYTES_MAX */
    size_t data_bytes;
    size_t data_used;
    uint64_t *pack_offsets; /* of each pack in `data` */
    uint32_t *pack_lengths;
    size_t pack_capacity;
    size_t pack_count;
    uint64_t read_bytes; /* content read so far, compared or packed; retries count */
    size_t large_at;
    int large_fd; /* the caller closes it */
    int reserved;
} vdr_gather_io;

typedef struct vdr_gather vdr_gather;

/* `root_fd` stays the caller's and must outlive the gather. `id_key` names data chunks. NULL without memory. */
vdr_gather *vdr_gather_open(int root_fd, const uint8_t id_key[32]);
void vdr_gather_close(vdr_gather *gather);

/* Go on (vdr_gather_result). Files that vanished are left out, unreadable ones stay with VDR_FLAG_UNREADABLE; both are events. Records of
 * packed files are VDR_STATE_PACKED with the number of their pack; those with VDR_STATE_LINK or VDR_STATE_DONE pass through. */
int vdr_gather_step(vdr_gather *gather, vdr_gather_io *io, vdr_event_list *events);

/* Compare the file behind `fd` with the stat data of `record` and take over what is different. Returns 1 when size or times were different
 * (what was read in between may be torn), 0, or VDR_E_IO. */
int vdr_gather_refresh(int fd, uint8_t *record);
/* cffi: end */

#endif

/* What the NFS server has to tell: a bounded ring of events, filled by service threads, emptied by the event loop. */
#ifndef VDR_NFS_EVENT_H
#define VDR_NFS_EVENT_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_NFS_EVENT_REFUSED = 1,    /* a peer broke the protocol or a limit; its connection is closed */
    VDR_NFS_EVENT_BAD_CALL = 2,   /* a call was malformed or not allowed and was answered with an error */
    VDR_NFS_EVENT_DISK_FAILED = 3,/* a disk could not be read or written */
    VDR_NFS_EVENT_MOUNTED = 4,
    VDR_NFS_EVENT_UNMOUNTED = 5,
    VDR_NFS_EVENT_FILLING = 6,    /* what is written to an export nears its limit, or that of the file system */
};

typedef struct {
    uint32_t kind;
    char peer[60];
    char text[192];
} vdr_nfs_event;
/* cffi: end */

typedef struct vdr_nfs_events vdr_nfs_events;

/* `fd` of an eventfd that becomes readable while events wait. */
int vdr_nfs_events_open(vdr_nfs_events **events);
void vdr_nfs_events_close(vdr_nfs_events *events);
int vdr_nfs_events_fd(const vdr_nfs_events *events);

/* Append; when the ring is full the event is counted as lost and nothing waits. printf-like. */
__attribute__((format(printf, 4, 5)))
void vdr_nfs_events_tell(vdr_nfs_events *events, uint32_t kind, const char *peer, const char *format, ...);

/* Take up to `capacity` events. `lost` gets the number lost since the last call. */
int64_t vdr_nfs_events_take(vdr_nfs_events *events, vdr_nfs_event *taken, size_t capacity, uint64_t *lost);

#endif

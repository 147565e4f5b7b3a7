/* ONC RPC (RFC 5531) over the three programs of an NFSv3 server: one call's bytes in, one reply's bytes out.
 *
 * Knows nothing of sockets and threads: `vdr_nfs_service_answer` may be called by any number of threads, and by a fuzzer. */
#ifndef VDR_NFS_SERVICE_H
#define VDR_NFS_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#include "nfs_event.h"
#include "nfs_export.h"
#include "nfs_replay.h"

/* cffi: begin */
enum {
    VDR_NFS_PORTMAP = 1,  /* programs that a connection may call */
    VDR_NFS_MOUNT = 2,
    VDR_NFS_NFS = 4,
};

typedef struct {
    uint64_t calls;             /* answered, of any program */
    uint64_t refused_calls;     /* answered with an RPC-level error */
    uint64_t reads, writes, flushes;
    uint64_t read_bytes, written_bytes;
    uint64_t replayed_calls;    /* sent again by a client and answered as before, not run again */
} vdr_nfs_call_statistics;
/* cffi: end */

typedef struct {
    uint8_t address[16];  /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    char name[60];        /* for events and DUMP */
    uint32_t programs;    /* VDR_NFS_* */
} vdr_nfs_client;

typedef struct vdr_nfs_mounts vdr_nfs_mounts;

typedef struct {
    vdr_nfs_exports exports;
    vdr_nfs_events *events;
    vdr_nfs_mounts *mounts;
    vdr_nfs_replay *replay;
    uint8_t handle_key[VDR_SIPHASH_KEY_BYTES];
    uint16_t nfs_port, mount_port, portmap_port;  /* what PORTMAP tells; 0 is not registered */
    int space_fd;          /* where overlays grow, for FSSTAT; -1 if nothing is written */
    _Atomic uint64_t calls, refused_calls, reads, writes, flushes, read_bytes, written_bytes;
} vdr_nfs_service;

/* `handle_key` is secret, and the same after a restart if handles shall be. */
int vdr_nfs_service_open(vdr_nfs_service *service, int space_fd, const uint8_t handle_key[VDR_SIPHASH_KEY_BYTES]);
void vdr_nfs_service_close(vdr_nfs_service *service);

/* Same contract as vdr_nfs_exports_add. */
int vdr_nfs_service_export(vdr_nfs_service *service, const vdr_nfs_export_spec *spec, vdr_disk *disk);

/* Answer one record. Returns the reply's length with its record mark, at most `capacity` (which must be
 * VDR_NFS_RECORD_BYTES_MAX or more); negative when the peer does not speak RPC: say why and close. */
int64_t vdr_nfs_service_answer(vdr_nfs_service *service, const vdr_nfs_client *client, const uint8_t *record,
                               size_t bytes, uint8_t *reply, size_t capacity);

/* 1 for a call that waits for the disk as a matter of course; a guess that only speed depends on. */
int vdr_nfs_service_may_wait(const uint8_t *record, size_t bytes);

void vdr_nfs_service_statistics(vdr_nfs_service *service, vdr_nfs_call_statistics *statistics);

#endif

/* Service threads of the NFS server: they take connections that somebody else accepted and authorised, read calls, answer
 * them and never need the interpreter.
 *
 * All threads wait on one epoll. The thread that is told of a connection becomes its reader and answers what it reads. Calls
 * that came together are answered one after the other and their answers leave together; another thread is let in to read on
 * only before a call that may take long, because waking one costs more than most calls do. Nothing blocks on a peer: a call
 * that is not all there and a reply that the peer does not take wait in the connection, not in a thread.
 *
 * Bounds: a connection holds at most one unfinished call and `calls_max` unanswered ones, each in buffers of about 1 MiB. */
#ifndef VDR_NFS_SERVER_H
#define VDR_NFS_SERVER_H

#include <stdint.h>

#include "nfs_service.h"

/* cffi: begin */
typedef struct vdr_nfs_server vdr_nfs_server;

typedef struct {
    uint32_t threads;             /* 1 to 64 */
    uint32_t connections_max;     /* 1 to 4096; more are refused */
    uint32_t calls_max;           /* unanswered calls of one connection, 1 to 256 */
    uint32_t first_call_seconds;  /* a connection whose first call has not come by then is closed */
    uint32_t stall_seconds;       /* so is one in the middle of a call, or with a reply not taken, for that long */
    uint32_t idle_seconds;        /* and one without any call for that long */
} vdr_nfs_settings;

typedef struct {
    uint64_t connections;         /* open now */
    uint64_t accepted, refused;   /* ever: taken over, closed for what the peer did or did not do */
    uint64_t buffers;             /* of about 1 MiB, in use or kept for use */
} vdr_nfs_connection_statistics;

/* Start the threads. `space_fd` (duplicated; -1 for none) is a directory on the file system where overlays grow. Handles are
 * good for servers with the same `handle_key`. */
int vdr_nfs_server_open(const vdr_nfs_settings *settings, int space_fd, const uint8_t handle_key[16],
                        vdr_nfs_server **server);

/* Finish the calls that are being answered, close all connections, end the threads, release all exports. */
void vdr_nfs_server_close(vdr_nfs_server *server);

/* What PORTMAP answers; 0 for what is not served. Before the first connection. */
void vdr_nfs_server_set_ports(vdr_nfs_server *server, uint32_t nfs_port, uint32_t mount_port, uint32_t portmap_port);

/* Serve a connected socket, which the server owns if the result is VDR_OK. `address` is the peer's (IPv4 as
 * ::ffff:a.b.c.d), `name` how it appears in events, `programs` what it may call. VDR_E_SPACE: too many connections. */
int vdr_nfs_server_serve(vdr_nfs_server *server, int fd, const uint8_t address[16], const char *name, uint32_t programs);

/* Close connections that exceed a time limit at `now_ns` (CLOCK_MONOTONIC), and tell of caches that fill up. Call about once a
 * second, from one thread. */
void vdr_nfs_server_sweep(vdr_nfs_server *server, uint64_t now_ns);

/* Same contracts as vdr_nfs_exports_add and _remove. */
int vdr_nfs_server_export(vdr_nfs_server *server, const vdr_nfs_export_spec *spec, vdr_disk *disk);
int vdr_nfs_server_unexport(vdr_nfs_server *server, const uint8_t id[16]);

/* Readable while events wait; take them with vdr_nfs_server_events. */
int vdr_nfs_server_event_fd(const vdr_nfs_server *server);
int64_t vdr_nfs_server_events(vdr_nfs_server *server, vdr_nfs_event *events, size_t capacity, uint64_t *lost);

void vdr_nfs_server_statistics(vdr_nfs_server *server, vdr_nfs_call_statistics *calls,
                               vdr_nfs_connection_statistics *connections);
/* cffi: end */

#endif

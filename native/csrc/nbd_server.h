/* Service threads of the NBD server: they take connections that somebody else accepted and authorised, negotiate, read
 * requests, answer them and never need the interpreter.
 *
 * All threads wait on one epoll. The thread that is told of a connection becomes its reader, takes a request, lets the next
 * thread read and answers the request itself; replies leave in the order in which they are ready. While small reads and
 * writes of a connection are answered from memory one thread serves it alone and sends their replies together: waking
 * another would cost more than the answer. Nothing blocks on a peer: a request that is not all there and a reply that the
 * peer does not take wait in the connection.
 *
 * Bounds: a connection holds `requests_max` unanswered requests of together VDR_NBD_PAYLOAD_BYTES_MAX, and one more. */
#ifndef VDR_NBD_SERVER_H
#define VDR_NBD_SERVER_H

#include <stdint.h>

#include "nbd_service.h"
#include "tls.h"

/* cffi: begin */
typedef struct vdr_nbd_server vdr_nbd_server;

typedef struct {
    uint32_t threads;             /* 1 to 64 */
    uint32_t connections_max;     /* 1 to 4096; more are refused */
    uint32_t requests_max;        /* unanswered requests of one connection, 1 to 256 */
    uint32_t negotiate_seconds;   /* a connection that has chosen no export by then is closed */
    uint32_t stall_seconds;       /* so is one in the middle of a request, or with a reply not taken, for that long */
    uint32_t idle_seconds;        /* and one without any request for that long; 0: never */
    uint32_t tls_mode;            /* VDR_NBD_TLS_* */
} vdr_nbd_settings;

typedef struct {
    uint64_t connections;         /* open now */
    uint64_t accepted, refused;   /* ever: taken over, closed for what the peer did or did not do */
    uint64_t buffer_bytes;        /* in use or kept for use */
} vdr_nbd_connection_statistics;

/* Start the threads. `tls` stays the caller's and outlives the server; NULL if tls_mode is VDR_NBD_TLS_OFF. */
int vdr_nbd_server_open(const vdr_nbd_settings *settings, vdr_tls_context *tls, vdr_nbd_server **server);

/* Finish the requests that are being answered, close all connections, end the threads, release all exports. */
void vdr_nbd_server_close(vdr_nbd_server *server);

/* Serve a connected socket, which the server owns if the result is VDR_OK. `address` is the peer's (IPv4 as
 * ::ffff:a.b.c.d), `name` how it appears in events. VDR_E_SPACE: too many connections. */
int vdr_nbd_server_serve(vdr_nbd_server *server, int fd, const uint8_t address[16], const char *name);

/* Close connections that exceed a time limit at `now_ns` (CLOCK_MONOTONIC). Call about once a second. */
void vdr_nbd_server_sweep(vdr_nbd_server *server, uint64_t now_ns);

/* As vdr_nbd_exports_add; the name is the NBD export's name. */
int vdr_nbd_server_export(vdr_nbd_server *server, const vdr_nbd_export_spec *spec, vdr_disk *disk);
/* As vdr_nbd_exports_remove; connections that use it are closed. */
int vdr_nbd_server_unexport(vdr_nbd_server *server, const uint8_t id[16]);

/* Readable while events wait; take them with vdr_nbd_server_events. */
int vdr_nbd_server_event_fd(const vdr_nbd_server *server);
int64_t vdr_nbd_server_events(vdr_nbd_server *server, vdr_nfs_event *events, size_t capacity, uint64_t *lost);

void vdr_nbd_server_statistics(vdr_nbd_server *server, vdr_nbd_request_statistics *requests,
                               vdr_nbd_connection_statistics *connections);
/* cffi: end */

#endif

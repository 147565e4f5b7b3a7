/* The NBD transmission phase: one request in, its reply out, piece by piece.
 *
 * Knows nothing of sockets and threads: `vdr_nbd_service_answer` may be called by any number of threads, and by a fuzzer. */
#ifndef VDR_NBD_SERVICE_H
#define VDR_NBD_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#include "nbd_session.h"
#include "nfs_event.h"

/* cffi: begin */
typedef struct {
    uint64_t requests;          /* answered */
    uint64_t refused_requests;  /* answered with an error */
    uint64_t reads, writes, flushes;
    uint64_t read_bytes, written_bytes;
} vdr_nbd_request_statistics;
/* cffi: end */

enum {
    VDR_NBD_REQUEST_BYTES = 28,
    VDR_NBD_PIECE_BYTES = 256 << 10,  /* of a long read: what is read while the piece before is on its way */
    VDR_NBD_REPLY_HEADER_BYTES = 28,  /* the longest before data */
};

typedef struct {
    uint16_t flags, type;
    uint8_t cookie[8];
    uint64_t offset_bytes;
    uint32_t length_bytes;
} vdr_nbd_request;

typedef struct {
    vdr_nbd_exports exports;
    vdr_nfs_events *events;
    _Atomic uint64_t requests, refused_requests, reads, writes, flushes, read_bytes, written_bytes;
} vdr_nbd_service;

/* Takes a reply's bytes in order. */
typedef struct {
    /* Room for `bytes` more, or NULL without memory. */
    uint8_t *(*reserve)(void *context, size_t bytes);
    /* The first `bytes` of it hold a piece; the last one ends the reply. */
    void (*commit)(void *context, size_t bytes, int is_last);
    void *context;
} vdr_nbd_sink;

int vdr_nbd_service_open(vdr_nbd_service *service);
void vdr_nbd_service_close(vdr_nbd_service *service);

/* 0 when the bytes are no request. */
int vdr_nbd_request_parse(const uint8_t bytes[VDR_NBD_REQUEST_BYTES], vdr_nbd_request *request);

/* Bytes that follow the request. More than VDR_NBD_PAYLOAD_BYTES_MAX must not be waited for. */
uint32_t vdr_nbd_request_payload_bytes(const vdr_nbd_request *request);

/* Answer a request that is not DISC; `payload` has its payload bytes. VDR_E_MEMORY: the connection must end. */
int vdr_nbd_service_answer(vdr_nbd_service *service, const vdr_nbd_session *session, const vdr_nbd_request *request,
                           const uint8_t *payload, const vdr_nbd_sink *sink);

void vdr_nbd_service_statistics(vdr_nbd_service *service, vdr_nbd_request_statistics *statistics);

#endif

/* Negotiation of one NBD client, fixed newstyle: bytes in, bytes out, until an export is chosen.
 *
 * Knows nothing of sockets and threads: whoever has the connection feeds it, sends what it answers and begins TLS when it
 * says so. One message at a time, never more than VDR_NBD_OPTION_BYTES_MAX of it, never more than VDR_NBD_OPTIONS_MAX. */
#ifndef VDR_NBD_SESSION_H
#define VDR_NBD_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "nbd_export.h"

/* cffi: begin */
enum {
    VDR_NBD_TLS_OFF = 0,
    VDR_NBD_TLS_OFFERED = 1,   /* clients choose */
    VDR_NBD_TLS_REQUIRED = 2,
};
/* cffi: end */

enum {
    VDR_NBD_GREETING_BYTES = 18,
    VDR_NBD_OPTION_HEADER_BYTES = 16,
    VDR_NBD_OPTION_BYTES_MAX = 16 << 10,
    VDR_NBD_OPTIONS_MAX = 256,
    VDR_NBD_ANSWER_BYTES_MAX = 1 << 20, /* the list of all exports that there can be */
    VDR_NBD_PAYLOAD_BYTES_MAX = 32 << 20,
    VDR_NBD_PREFERRED_BYTES = 64 << 10,
    VDR_NBD_CONTEXT_ID = 1,
};

typedef enum {
    VDR_NBD_GREETED,       /* the client's flags come next */
    VDR_NBD_OPTIONS,
    VDR_NBD_STARTING_TLS,  /* send the answer, begin TLS, then call vdr_nbd_session_secure */
    VDR_NBD_TRANSMISSION,
    VDR_NBD_OVER,          /* send the answer and close */
} vdr_nbd_phase;

typedef struct {
    vdr_nbd_exports *exports;
    uint8_t address[16];   /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    char name[60];         /* of the peer, for events */
    int tls_mode;          /* VDR_NBD_TLS_* */

    vdr_nbd_phase phase;
    int is_secure, wants_no_zeroes, has_structured_replies;
    int has_context;       /* base:allocation was chosen for context_export */
    unsigned options;
    uint8_t context_export[16];
    uint8_t export_id[16]; /* in transmission */
    char export_name[VDR_NBD_NAME_BYTES];
    const char *reason;    /* of a violation */
} vdr_nbd_session;

/* `exports`, `address`, `name` and `tls_mode` are set, the rest is zero. Writes the greeting. */
void vdr_nbd_session_greet(vdr_nbd_session *session, uint8_t out[VDR_NBD_GREETING_BYTES]);

/* Take one message from the `bytes` that came. Returns how many it was long and *answered = the bytes of the answer in `out`
 * (VDR_NBD_ANSWER_BYTES_MAX); 0 when it is not all there; VDR_E_ARGUMENT with `reason` when the connection must end. */
int64_t vdr_nbd_session_negotiate(vdr_nbd_session *session, const uint8_t *input, size_t bytes, uint8_t *out,
                                  size_t *answered);

/* TLS has begun: what was agreed before is forgotten. */
void vdr_nbd_session_secure(vdr_nbd_session *session);

/* 1 if base:allocation was agreed for the export in use. */
int vdr_nbd_session_has_status(const vdr_nbd_session *session);

#endif

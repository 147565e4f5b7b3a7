/* The server's side of TLS 1.3 over a connected, non-blocking use of a socket, by OpenSSL's libssl.
 *
 * For bulk protocols that native threads serve; what Python talks goes through its own `ssl`. */
#ifndef VDR_TLS_H
#define VDR_TLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* cffi: begin */
typedef struct vdr_tls_context vdr_tls_context;

/* From PEM files: the certificate with its chain, its key, and the authority that must have signed every client's certificate
 * (NULL: clients need none). VDR_E_CRYPTO when they cannot be used. */
int vdr_tls_context_open(const char *certificate_path, const char *key_path, const char *client_authority_path,
                         vdr_tls_context **context);
void vdr_tls_context_close(vdr_tls_context *context);
/* cffi: end */

typedef struct vdr_tls vdr_tls;

/* Serve TLS on `fd`, which is borrowed. Holds a reference to the context. */
int vdr_tls_open(vdr_tls_context *context, int fd, vdr_tls **tls);
void vdr_tls_close(vdr_tls *tls);

/* Go on with the handshake: 1 done, 0 wait (*wants_write tells for what), VDR_E_CRYPTO refused. */
int vdr_tls_handshake(vdr_tls *tls, int *wants_write);

/* Like recv and send on a non-blocking socket: bytes, 0 at the end, -1 with errno (EAGAIN, EPROTO, ...). Thread-safe. A write
 * that ended with EAGAIN is repeated with the same bytes in front. */
ssize_t vdr_tls_read(vdr_tls *tls, void *place, size_t bytes);
ssize_t vdr_tls_write(vdr_tls *tls, const void *place, size_t bytes);

/* 1 when bytes were taken from the socket and not yet read: no poll will tell of them. */
int vdr_tls_has_pending(vdr_tls *tls);

#endif

#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#include "err.h"

struct vdr_tls_context {
    SSL_CTX *ssl;
};

struct vdr_tls {
    pthread_mutex_t lock; /* an SSL is used by one thread at a time */
    SSL *ssl;
};

int vdr_tls_context_open(const char *certificate_path, const char *key_path, const char *client_authority_path,
                         vdr_tls_context **context)
{
    vdr_tls_context *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    SSL_CTX *ssl = made->ssl = SSL_CTX_new(TLS_server_method());
    int is_good = ssl && SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) &&
                  SSL_CTX_use_certificate_chain_file(ssl, certificate_path) == 1 &&
                  SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ssl) == 1;
    if (is_good && client_authority_path) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(client_authority_path);
        is_good = names && SSL_CTX_load_verify_file(ssl, client_authority_path) == 1;
        if (names)
            SSL_CTX_set_client_CA_list(ssl, names);
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    if (ssl) {
        SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        /* A client that comes again does a whole handshake: tickets would outlive a revocation. */
        SSL_CTX_set_num_tickets(ssl, 0);
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_read_ahead(ssl, 1);
    }
    ERR_clear_error();
    if (!is_good) {
        vdr_tls_context_close(made);
        return VDR_E_CRYPTO;
    }
    *context = made;
    return VDR_OK;
}

void vdr_tls_context_close(vdr_tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

int vdr_tls_open(vdr_tls_context *context, int fd, vdr_tls **tls)
{
    vdr_tls *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->ssl = SSL_new(context->ssl);
    if (!made->ssl || !SSL_set_fd(made->ssl, fd)) {
        SSL_free(made->ssl);
        free(made);
        ERR_clear_error();
        return VDR_E_MEMORY;
    }
    SSL_set_accept_state(made->ssl);
    pthread_mutex_init(&made->lock, NULL);
    *tls = made;
    return VDR_OK;
}

void vdr_tls_close(vdr_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

int vdr_tls_handshake(vdr_tls *tls, int *wants_write)
{
    pthread_mutex_lock(&tls->lock);
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    int reason = done == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, done);
    pthread_mutex_unlock(&tls->lock);
    *wants_write = reason == SSL_ERROR_WANT_WRITE;
    if (done == 1)
        return 1;
    return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? 0 : VDR_E_CRYPTO;
}

/* The result of a read or write as a socket would have it. Lock held. */
static ssize_t as_socket(vdr_tls *tls, int result, size_t moved)
{
    if (result == 1)
        return (ssize_t)moved;
    int number = errno;
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_SYSCALL:
        errno = number ? number : ECONNRESET;
        return -1;
    default: /* a peer that closes without saying so is cut off as well */
        errno = EPROTO;
        return -1;
    }
}

ssize_t vdr_tls_read(vdr_tls *tls, void *place, size_t bytes)
{
    size_t moved = 0;
    pthread_mutex_lock(&tls->lock);
    ERR_clear_error();
    int done = SSL_read_ex(tls->ssl, place, bytes, &moved);
    ssize_t result = as_socket(tls, done, moved);
    int number = errno;
    pthread_mutex_unlock(&tls->lock);
    errno = number;
    return result;
}

ssize_t vdr_tls_write(vdr_tls *tls, const void *place, size_t bytes)
{
    size_t moved = 0;
    pthread_mutex_lock(&tls->lock);
    ERR_clear_error();
    int done = SSL_write_ex(tls->ssl, place, bytes, &moved);
    ssize_t result = as_socket(tls, done, moved);
    int number = errno;
    pthread_mutex_unlock(&tls->lock);
    errno = number;
    return result;
}

int vdr_tls_has_pending(vdr_tls *tls)
{
    pthread_mutex_lock(&tls->lock);
    int has = SSL_has_pending(tls->ssl);
    pthread_mutex_unlock(&tls->lock);
    return has;
}

/* Authenticated encryption of chunks: AES-256-GCM (OpenSSL) and SM4-GCM (own kernels, see sm4.h), and 'none', which copies.
 *
 * A context holds one expanded key. It is not to be used by two threads at once: open one per thread (a few microseconds).
 * A nonce must never repeat under one key; that is the caller's promise, nothing here can check it. Input and output may be
 * the same buffer, else they must not overlap. */
#ifndef VDR_AEAD_H
#define VDR_AEAD_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef enum { VDR_AEAD_NONE = 0, VDR_AEAD_AES_256_GCM = 1, VDR_AEAD_SM4_GCM = 2 } vdr_aead_algorithm;

enum {
    VDR_AEAD_NONCE_BYTES = 12,
    VDR_AEAD_TAG_BYTES = 16,          /* of both ciphers; 'none' has no tag */
    VDR_AEAD_MAX_BYTES = 1073741824,  /* of one message, and of its associated data; far inside GCM's own limit */
};

typedef struct vdr_aead vdr_aead;

/* Key length of an algorithm in bytes (0, 32, 16) and the length of its tag (0, 16, 16); VDR_E_ARGUMENT if unknown. */
int vdr_aead_key_bytes(int algorithm);
int vdr_aead_tag_bytes(int algorithm);

/* NULL when the algorithm is unknown, `key_bytes` is not its key length, or the crypto library cannot provide it.
 * The key is copied. close() wipes it; close(NULL) does nothing. */
vdr_aead *vdr_aead_open(int algorithm, const uint8_t *key, size_t key_bytes);
void vdr_aead_close(vdr_aead *aead);

/* Write ciphertext and then the tag to `out`, which holds bytes + tag bytes. Returns the number of bytes written, or
 * VDR_E_ARGUMENT (too long) or VDR_E_CRYPTO. */
int64_t vdr_aead_seal(vdr_aead *aead, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                      size_t bytes, uint8_t *out);

/* Check and decrypt `bytes` bytes of ciphertext and tag into `out`, which holds bytes - tag bytes. Returns the number of
 * bytes written; VDR_E_AUTH when the tag does not match (also when shorter than a tag): then `out` holds no plaintext. */
int64_t vdr_aead_unseal(vdr_aead *aead, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                        const uint8_t *in, size_t bytes, uint8_t *out);
/* cffi: end */

#endif

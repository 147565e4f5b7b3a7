/* SM4-GCM (GB/T 32907-2016; RFC 8998): the block cipher SM4 with 128-bit keys in Galois/counter mode, 12-byte nonces and
 * 16-byte tags.
 *
 * Own kernels, because OpenSSL 3 has no SM4-GCM and runs SM4 at a tenth of a GB/s. No table is indexed by a secret and no branch
 * depends on one, at any level; keys and keystream are wiped. One context per thread, as with aead.h, which is the interface
 * that the rest of the product uses. */
#ifndef VDR_SM4_H
#define VDR_SM4_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
/* Slowest first; all give the same bytes. GB/s are of GCM on one core, 64 KiB messages. */
typedef enum {
    VDR_SM4_REFERENCE = 0,   /* portable, computed S-box: 0.01 */
    VDR_SM4_LIBGCRYPT = 1,   /* libgcrypt 1.10 or newer, loaded when wanted: 0.6 */
    VDR_SM4_AESNI_AVX2 = 2,  /* most since 2013: 0.8 */
    VDR_SM4_VAES_AVX2 = 3,   /* AMD Zen 3 and the like: 1.2 */
    VDR_SM4_GFNI_AVX2 = 4,   /* more than 1 */
    VDR_SM4_GFNI_AVX512 = 5, /* 3 */
} vdr_sm4_level;

typedef struct vdr_sm4 vdr_sm4;

/* Whether this machine can run a level (1 or 0); and the fastest it can. */
int vdr_sm4_available(int level);
int vdr_sm4_best(void);

/* NULL when the level is not available or without memory. The key is copied; close() wipes it. close(NULL) does nothing. */
vdr_sm4 *vdr_sm4_open(int level, const uint8_t key[16]);
void vdr_sm4_close(vdr_sm4 *sm4);

/* As vdr_aead_seal() and vdr_aead_unseal(). The own kernels check the tag before they write anything. */
int64_t vdr_sm4_seal(vdr_sm4 *sm4, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                     size_t bytes, uint8_t *out);
int64_t vdr_sm4_unseal(vdr_sm4 *sm4, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                       size_t bytes, uint8_t *out);

/* One block of the bare cipher, for the standard's test vectors. */
void vdr_sm4_encrypt_block(const vdr_sm4 *sm4, const uint8_t in[16], uint8_t out[16]);
/* cffi: end */

#endif

/* AES-256-XTS (IEEE 1619-2018) over the blocks of a disk, for data at rest that is rewritten in place.
 *
 * Length-preserving: a block is encrypted by itself, its number is the tweak, nothing else is stored. So it protects what is
 * in a block from whoever gets the disk, not against changes to it. Every 16 bytes depend on the same 16 bytes of plaintext
 * only, so a block that a power loss tore at sectors decrypts to old sectors and new ones.
 *
 * A sector of 512 bytes that is all zero is a hole: it decrypts to zeros. (By chance a ciphertext is that once in 2^4096.)
 *
 * Thread-safe: there are several contexts, each with room for what was encrypted. */
#ifndef VDR_XTS_H
#define VDR_XTS_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_XTS_KEY_BYTES = 64,
    VDR_XTS_SECTOR_BYTES = 512,
    VDR_XTS_BATCH_BYTES = 262144,  /* most that is encrypted at once */
};
/* cffi: end */

typedef struct vdr_xts vdr_xts;
typedef struct vdr_xts_context vdr_xts_context;

/* NULL without memory, or when the crypto library refuses. The key is copied; close() wipes it. close(NULL) does nothing. */
vdr_xts *vdr_xts_open(const uint8_t key[VDR_XTS_KEY_BYTES]);
void vdr_xts_close(vdr_xts *xts);

/* A context for one thread until it is given back; waits for one. */
vdr_xts_context *vdr_xts_take(vdr_xts *xts);
void vdr_xts_give(vdr_xts_context *context);

/* Encrypt whole blocks, at most VDR_XTS_BATCH_BYTES; NULL when the crypto library fails. The result is the context's. */
const uint8_t *vdr_xts_encrypt(vdr_xts_context *context, uint64_t first_block, uint32_t block_bytes, const uint8_t *plain,
                               size_t bytes);

/* Decrypt whole blocks in place. VDR_E_CRYPTO when the crypto library fails. */
int vdr_xts_decrypt(vdr_xts_context *context, uint64_t first_block, uint32_t block_bytes, uint8_t *data, size_t bytes);

#endif

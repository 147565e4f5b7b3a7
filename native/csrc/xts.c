#include "xts.h"

#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "zero.h"

enum { CONTEXTS = 16 };

struct vdr_xts_context {
    pthread_mutex_t lock;
    EVP_CIPHER_CTX *encrypting, *decrypting;
    uint8_t *room; /* made on first use */
};

struct vdr_xts {
    EVP_CIPHER *cipher;
    atomic_uint next;
    vdr_xts_context contexts[CONTEXTS];
};

static EVP_CIPHER_CTX *context_make(const EVP_CIPHER *cipher, const uint8_t *key, int is_encrypting)
{
    EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
    if (made && EVP_CipherInit_ex(made, cipher, NULL, key, NULL, is_encrypting) == 1)
        return made;
    EVP_CIPHER_CTX_free(made);
    return NULL;
}

vdr_xts *vdr_xts_open(const uint8_t key[VDR_XTS_KEY_BYTES])
{
    vdr_xts *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->cipher = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
    int is_whole = made->cipher != NULL;
    for (int i = 0; i < CONTEXTS; i++) {
        vdr_xts_context *context = &made->contexts[i];
        pthread_mutex_init(&context->lock, NULL);
        context->encrypting = is_whole ? context_make(made->cipher, key, 1) : NULL;
        context->decrypting = is_whole ? context_make(made->cipher, key, 0) : NULL;
        is_whole = is_whole && context->encrypting && context->decrypting;
    }
    if (is_whole)
        return made;
    vdr_xts_close(made);
    return NULL;
}

void vdr_xts_close(vdr_xts *xts)
{
    if (!xts)
        return;
    for (int i = 0; i < CONTEXTS; i++) {
        vdr_xts_context *context = &xts->contexts[i];
        EVP_CIPHER_CTX_free(context->encrypting);
        EVP_CIPHER_CTX_free(context->decrypting);
        free(context->room);
        pthread_mutex_destroy(&context->lock);
    }
    EVP_CIPHER_free(xts->cipher);
    free(xts);
}

vdr_xts_context *vdr_xts_take(vdr_xts *xts)
{
    unsigned first = atomic_fetch_add_explicit(&xts->next, 1, memory_order_relaxed);
    for (unsigned i = 0; i < CONTEXTS; i++) {
        vdr_xts_context *context = &xts->contexts[(first + i) % CONTEXTS];
        if (pthread_mutex_trylock(&context->lock) == 0)
            return context;
    }
    pthread_mutex_lock(&xts->contexts[first % CONTEXTS].lock);
    return &xts->contexts[first % CONTEXTS];
}

void vdr_xts_give(vdr_xts_context *context)
{
    pthread_mutex_unlock(&context->lock);
}

static int transform(EVP_CIPHER_CTX *context, uint64_t block, const uint8_t *in, uint8_t *out, uint32_t bytes)
{
    uint64_t tweak[2] = {htole64(block), 0};
    int done = 0;
    return EVP_CipherInit_ex(context, NULL, NULL, NULL, (const uint8_t *)tweak, -1) == 1 &&
           EVP_CipherUpdate(context, out, &done, in, (int)bytes) == 1 && done == (int)bytes;
}

const uint8_t *vdr_xts_encrypt(vdr_xts_context *context, uint64_t first_block, uint32_t block_bytes, const uint8_t *plain,
                               size_t bytes)
{
    if (bytes > VDR_XTS_BATCH_BYTES)
        return NULL;
    if (!context->room)
        context->room = malloc(VDR_XTS_BATCH_BYTES);
    if (!context->room)
        return NULL;
    for (size_t at = 0; at < bytes; at += block_bytes)
        if (!transform(context->encrypting, first_block + at / block_bytes, plain + at, context->room + at, block_bytes))
            return NULL;
    return context->room;
}

/* Bit i is set where sector i is all zero. A block has at most 128 sectors. */
static int find_holes(const uint8_t *block, uint32_t block_bytes, uint64_t holes[2])
{
    int count = 0;
    holes[0] = holes[1] = 0;
    for (uint32_t i = 0; i < block_bytes / VDR_XTS_SECTOR_BYTES; i++)
        if (vdr_zero_is(block + (size_t)i * VDR_XTS_SECTOR_BYTES, VDR_XTS_SECTOR_BYTES)) {
            holes[i / 64] |= (uint64_t)1 << (i % 64);
            count++;
        }
    return count;
}

int vdr_xts_decrypt(vdr_xts_context *context, uint64_t first_block, uint32_t block_bytes, uint8_t *data, size_t bytes)
{
    uint32_t sectors = block_bytes / VDR_XTS_SECTOR_BYTES;
    for (size_t at = 0; at < bytes; at += block_bytes) {
        uint64_t holes[2];
        uint32_t count = (uint32_t)find_holes(data + at, block_bytes, holes);
        if (count == sectors)
            continue;
        if (!transform(context->decrypting, first_block + at / block_bytes, data + at, data + at, block_bytes))
            return VDR_E_CRYPTO;
        for (uint32_t i = 0; count > 0 && i < sectors; i++)
            if (holes[i / 64] >> (i % 64) & 1)
                memset(data + at + (size_t)i * VDR_XTS_SECTOR_BYTES, 0, VDR_XTS_SECTOR_BYTES);
    }
    return VDR_OK;
}

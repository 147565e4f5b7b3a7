#include "sm4.h"

#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "err.h"
#include "ghash.h"
#include "sm4_gcrypt.h"
#include "sm4_kernel.h"

/* Bytes that pass counter mode and GHASH together, while they are in the first-level cache. */
enum { PIECE_BYTES = 16 * 1024, TAG_BYTES = 16 };

struct vdr_sm4 {
    vdr_ghash_key ghash; /* first: it is aligned to a cache line */
    uint32_t round_keys[SM4_ROUNDS];
    sm4_ctr *ctr;
    size_t unit_bytes;
    vdr_sm4_gcrypt *gcrypt; /* in place of all of the above */
};

/* CK of the standard: byte j of constant i is (4 i + j) * 7. */
static uint32_t schedule_constant(uint32_t i) {
    uint32_t constant = 0;
    for (uint32_t j = 0; j < 4; j++)
        constant = constant << 8 | ((4 * i + j) * 7 & 0xff);
    return constant;
}

static void expand_key(const uint8_t key[16], uint32_t round_keys[SM4_ROUNDS]) {
    static const uint32_t FK[4] = {0xa3b1bac6, 0x56aa3350, 0x677d9197, 0xb27022dc};
    uint32_t k[4];
    for (int i = 0; i < 4; i++)
        k[i] = sm4_load(key + 4 * i) ^ FK[i];
    for (uint32_t i = 0; i < SM4_ROUNDS; i++) {
        uint32_t t = vdr_sm4_substitute(k[(i + 1) % 4] ^ k[(i + 2) % 4] ^ k[(i + 3) % 4] ^ schedule_constant(i));
        k[i % 4] ^= t ^ (t << 13 | t >> 19) ^ (t << 23 | t >> 9);
        round_keys[i] = k[i % 4];
    }
    explicit_bzero(k, sizeof k);
}

int vdr_sm4_available(int level) {
    switch (level) {
    case VDR_SM4_REFERENCE: return 1;
    case VDR_SM4_LIBGCRYPT: return vdr_sm4_gcrypt_available();
#if defined(__x86_64__)
    case VDR_SM4_AESNI_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes");
    case VDR_SM4_VAES_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vaes");
    case VDR_SM4_GFNI_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("gfni");
    case VDR_SM4_GFNI_AVX512:
        return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    default: return 0;
    }
}

int vdr_sm4_best(void) {
    int level = VDR_SM4_GFNI_AVX512;
    while (!vdr_sm4_available(level))
        level--;
    return level;
}

static void choose_kernel(vdr_sm4 *sm4, int level) {
    sm4->ctr = vdr_sm4_ctr_reference;
    sm4->unit_bytes = SM4_UNIT_REFERENCE;
#if defined(__x86_64__)
    if (level == VDR_SM4_GFNI_AVX512) {
        sm4->ctr = vdr_sm4_ctr_gfni_avx512;
        sm4->unit_bytes = SM4_UNIT_AVX512;
    } else if (level >= VDR_SM4_AESNI_AVX2) {
        sm4->ctr = level == VDR_SM4_GFNI_AVX2   ? vdr_sm4_ctr_gfni_avx2
                   : level == VDR_SM4_VAES_AVX2 ? vdr_sm4_ctr_vaes_avx2
                                                : vdr_sm4_ctr_aesni_avx2;
        sm4->unit_bytes = SM4_UNIT_AVX2;
    }
#else
    (void)level;
#endif
}

static int ghash_level(int level) {
    if (level == VDR_SM4_REFERENCE)
        return VDR_GHASH_SCALAR;
    if (level == VDR_SM4_GFNI_AVX512)
        return vdr_ghash_best();
    return vdr_ghash_best() < VDR_GHASH_PCLMUL ? vdr_ghash_best() : VDR_GHASH_PCLMUL;
}

vdr_sm4 *vdr_sm4_open(int level, const uint8_t key[16]) {
    static const uint8_t ZERO[SM4_BLOCK_BYTES];
    uint8_t h[SM4_BLOCK_BYTES];
    vdr_sm4 *sm4 = vdr_sm4_available(level) ? aligned_alloc(64, sizeof *sm4) : NULL;
    if (sm4 == NULL)
        return NULL;
    memset(sm4, 0, sizeof *sm4);
    expand_key(key, sm4->round_keys);
    choose_kernel(sm4, level);
    if (level == VDR_SM4_LIBGCRYPT) {
        sm4->gcrypt = vdr_sm4_gcrypt_open(key);
        if (sm4->gcrypt == NULL) {
            vdr_sm4_close(sm4);
            return NULL;
        }
    }
    vdr_sm4_encrypt_block(sm4, ZERO, h);
    vdr_ghash_open(&sm4->ghash, ghash_level(level), h);
    explicit_bzero(h, sizeof h);
    return sm4;
}

void vdr_sm4_close(vdr_sm4 *sm4) {
    if (sm4 == NULL)
        return;
    vdr_sm4_gcrypt_close(sm4->gcrypt);
    explicit_bzero(sm4, sizeof *sm4);
    free(sm4);
}

void vdr_sm4_encrypt_block(const vdr_sm4 *sm4, const uint8_t in[16], uint8_t out[16]) {
    uint8_t stream[SM4_UNIT_BYTES_MAX] = {0};
    sm4->ctr(sm4->round_keys, in, sm4_load(in + 12), stream, stream, sm4->unit_bytes);
    memcpy(out, stream, SM4_BLOCK_BYTES);
    explicit_bzero(stream, sm4->unit_bytes);
}

static void mix(uint8_t *out, const uint8_t *in, const uint8_t *stream, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = in[i] ^ stream[i];
}

/* The counter that a message's byte `at` falls under: block 1 masks the tag, the text begins with block 2. */
static uint32_t counter_at(size_t at) {
    return (uint32_t)(at / SM4_BLOCK_BYTES + 2);
}

/* Encrypt or decrypt [at, at + bytes) of a message: whole units straight, the rest through a padded block. */
static void crypt_piece(const vdr_sm4 *sm4, const uint8_t nonce[12], size_t at, const uint8_t *in, uint8_t *out,
                        size_t bytes) {
    size_t whole = bytes - bytes % sm4->unit_bytes;
    if (whole > 0)
        sm4->ctr(sm4->round_keys, nonce, counter_at(at), in, out, whole);
    if (bytes > whole) {
        uint8_t stream[SM4_UNIT_BYTES_MAX] = {0};
        sm4->ctr(sm4->round_keys, nonce, counter_at(at + whole), stream, stream, sm4->unit_bytes);
        mix(out + whole, in + whole, stream, bytes - whole);
        explicit_bzero(stream, sm4->unit_bytes);
    }
}

/* One call of the kernel gives the mask of the tag and the keystream of the message's first bytes: short messages need
 * no other. Returns how many bytes of text it covers. */
static size_t first_unit(const vdr_sm4 *sm4, const uint8_t nonce[12], size_t bytes, uint8_t stream[SM4_UNIT_BYTES_MAX]) {
    memset(stream, 0, sm4->unit_bytes);
    sm4->ctr(sm4->round_keys, nonce, 1, stream, stream, sm4->unit_bytes);
    size_t covered = sm4->unit_bytes - SM4_BLOCK_BYTES;
    return bytes < covered ? bytes : covered;
}

static void finish_tag(const vdr_sm4 *sm4, uint8_t y[16], size_t aad_bytes, size_t bytes, const uint8_t mask[16],
                       uint8_t tag[TAG_BYTES]) {
    uint64_t bits[2] = {__builtin_bswap64((uint64_t)aad_bytes * 8), __builtin_bswap64((uint64_t)bytes * 8)};
    vdr_ghash_update(&sm4->ghash, y, (const uint8_t *)bits, sizeof bits);
    mix(tag, y, mask, TAG_BYTES);
}

static int differs(const uint8_t a[TAG_BYTES], const uint8_t b[TAG_BYTES]) {
    uint8_t difference = 0;
    for (int i = 0; i < TAG_BYTES; i++)
        difference |= a[i] ^ b[i];
    return difference != 0;
}

int64_t vdr_sm4_seal(vdr_sm4 *sm4, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                     size_t bytes, uint8_t *out) {
    if (bytes > VDR_AEAD_MAX_BYTES || aad_bytes > VDR_AEAD_MAX_BYTES)
        return VDR_E_ARGUMENT;
    if (sm4->gcrypt != NULL)
        return vdr_sm4_gcrypt_seal(sm4->gcrypt, nonce, aad, aad_bytes, in, bytes, out);
    uint8_t stream[SM4_UNIT_BYTES_MAX], y[GHASH_BLOCK_BYTES] = {0};
    vdr_ghash_update(&sm4->ghash, y, aad, aad_bytes);
    size_t at = first_unit(sm4, nonce, bytes, stream);
    mix(out, in, stream + SM4_BLOCK_BYTES, at);
    vdr_ghash_update(&sm4->ghash, y, out, at);
    while (at < bytes) {
        size_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        crypt_piece(sm4, nonce, at, in + at, out + at, piece);
        vdr_ghash_update(&sm4->ghash, y, out + at, piece);
        at += piece;
    }
    finish_tag(sm4, y, aad_bytes, bytes, stream, out + bytes);
    explicit_bzero(stream, sm4->unit_bytes);
    return (int64_t)(bytes + TAG_BYTES);
}

int64_t vdr_sm4_unseal(vdr_sm4 *sm4, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                       size_t bytes, uint8_t *out) {
    if (bytes < TAG_BYTES)
        return VDR_E_AUTH;
    bytes -= TAG_BYTES;
    if (bytes > VDR_AEAD_MAX_BYTES || aad_bytes > VDR_AEAD_MAX_BYTES)
        return VDR_E_ARGUMENT;
    if (sm4->gcrypt != NULL)
        return vdr_sm4_gcrypt_unseal(sm4->gcrypt, nonce, aad, aad_bytes, in, bytes, out);
    uint8_t stream[SM4_UNIT_BYTES_MAX], y[GHASH_BLOCK_BYTES] = {0}, tag[TAG_BYTES];
    vdr_ghash_update(&sm4->ghash, y, aad, aad_bytes);
    vdr_ghash_update(&sm4->ghash, y, in, bytes);
    size_t at = first_unit(sm4, nonce, bytes, stream);
    finish_tag(sm4, y, aad_bytes, bytes, stream, tag);
    int forged = differs(tag, in + bytes);
    explicit_bzero(tag, sizeof tag); /* the right tag of a forged message is a secret */
    if (!forged) {
        mix(out, in, stream + SM4_BLOCK_BYTES, at);
        crypt_piece(sm4, nonce, at, in + at, out + at, bytes - at);
    }
    explicit_bzero(stream, sm4->unit_bytes);
    return forged ? VDR_E_AUTH : (int64_t)bytes;
}

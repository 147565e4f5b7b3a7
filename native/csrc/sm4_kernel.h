/* Private to sm4*.c: the counter-mode kernels and the constants they share. */
#ifndef VDR_SM4_KERNEL_H
#define VDR_SM4_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SM4_BLOCK_BYTES = 16, SM4_ROUNDS = 32, SM4_UNIT_BYTES_MAX = 1024 };

/* out = in XOR keystream of the counter blocks nonce || counter, nonce || counter + 1, ... (32-bit counter, big-endian,
 * wrapping as GCM's inc32). `bytes` is a multiple of the kernel's unit. May work in place. */
typedef void sm4_ctr(const uint32_t round_keys[SM4_ROUNDS], const uint8_t nonce[12], uint32_t counter,
                     const uint8_t *in, uint8_t *out, size_t bytes);

enum { SM4_UNIT_REFERENCE = 256, SM4_UNIT_AVX2 = 512, SM4_UNIT_AVX512 = 1024 };

sm4_ctr vdr_sm4_ctr_reference;
#if defined(__x86_64__)
sm4_ctr vdr_sm4_ctr_aesni_avx2, vdr_sm4_ctr_vaes_avx2, vdr_sm4_ctr_gfni_avx2, vdr_sm4_ctr_gfni_avx512;
#endif

/* The S-box on each byte of a word, in constant time. */
uint32_t vdr_sm4_substitute(uint32_t word);

static inline uint32_t sm4_load(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return __builtin_bswap32(word);
}

static inline void sm4_store(uint8_t *p, uint32_t word) {
    word = __builtin_bswap32(word);
    memcpy(p, &word, 4);
}

#endif

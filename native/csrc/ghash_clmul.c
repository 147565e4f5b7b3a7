/* GHASH with carry-less multiplication: 128-bit PCLMULQDQ, 512-bit VPCLMULQDQ.
 *
 * GCM numbers bits from the left, so operands are byte-reversed and products come out one bit short. Instead of shifting each
 * product, the key's powers are stored already multiplied by x: H' = H x, and a . H' needs no shift. Reduction modulo
 * x^128 + x^7 + x^2 + x + 1 is two multiplications by its reflected low half (Gueron, Kounavis 2010). */
#include "ghash.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define PCLMUL __attribute__((target("pclmul,ssse3")))
#define VPCLMUL __attribute__((target("pclmul,avx512f,avx512bw,avx512vl,vpclmulqdq")))

#define REFLECTED_POLYNOMIAL 0xc200000000000000
#define REVERSED 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

PCLMUL static inline __m128i load_reversed(const uint8_t *p) {
    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), _mm_set_epi8(REVERSED));
}

PCLMUL static inline void store_reversed(uint8_t *p, __m128i x) {
    _mm_storeu_si128((__m128i *)p, _mm_shuffle_epi8(x, _mm_set_epi8(REVERSED)));
}

/* low + middle x^64 + high x^128, reduced. */
PCLMUL static inline __m128i reduce(__m128i low, __m128i middle, __m128i high) {
    const __m128i polynomial = _mm_set_epi64x(0, (long long)REFLECTED_POLYNOMIAL);
    low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
    low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, polynomial, 0x00));
    low = _mm_xor_si128(_mm_shuffle_epi32(low, 0x4e), _mm_clmulepi64_si128(low, polynomial, 0x00));
    return _mm_xor_si128(high, low);
}

PCLMUL static inline __m128i middle_of(__m128i a, __m128i b) {
    return _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10));
}

PCLMUL static inline __m128i multiply(__m128i a, __m128i b) {
    return reduce(_mm_clmulepi64_si128(a, b, 0x00), middle_of(a, b), _mm_clmulepi64_si128(a, b, 0x11));
}

PCLMUL void vdr_ghash_prepare_pclmul(vdr_ghash_key *key) {
    __m128i h = load_reversed(key->h);
    /* H x: one bit to the left; if a bit fell out, the polynomial (without branching on a secret). */
    __m128i signs = _mm_srai_epi32(h, 31);
    __m128i fell_out = _mm_shuffle_epi32(signs, 0xff);
    __m128i carry = _mm_slli_si128(_mm_srli_epi64(h, 63), 8);
    __m128i polynomial = _mm_set_epi64x((long long)REFLECTED_POLYNOMIAL, 1);
    h = _mm_or_si128(_mm_slli_epi64(h, 1), carry);
    h = _mm_xor_si128(h, _mm_and_si128(fell_out, polynomial));
    __m128i power = h;
    for (int i = GHASH_POWERS - 1; i >= 0; i--) {
        _mm_store_si128((__m128i *)key->powers[i], power);
        power = multiply(power, h);
    }
}

PCLMUL void vdr_ghash_blocks_pclmul(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks) {
    __m128i state = load_reversed(y);
    while (blocks > 0) {
        size_t count = blocks < 8 ? blocks : 8;
        const uint8_t(*power)[GHASH_BLOCK_BYTES] = key->powers + GHASH_POWERS - count;
        __m128i low = _mm_setzero_si128(), middle = low, high = low;
        for (size_t i = 0; i < count; i++) {
            __m128i x = _mm_xor_si128(load_reversed(data + i * GHASH_BLOCK_BYTES), state);
            __m128i h = _mm_load_si128((const __m128i *)power[i]);
            state = _mm_setzero_si128(); /* only the first block meets the state */
            low = _mm_xor_si128(low, _mm_clmulepi64_si128(x, h, 0x00));
            high = _mm_xor_si128(high, _mm_clmulepi64_si128(x, h, 0x11));
            middle = _mm_xor_si128(middle, middle_of(x, h));
        }
        state = reduce(low, middle, high);
        data += count * GHASH_BLOCK_BYTES;
        blocks -= count;
    }
    store_reversed(y, state);
}

VPCLMUL static inline __m128i fold(__m512i x) {
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

VPCLMUL void vdr_ghash_blocks_vpclmul(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks) {
    const __m512i reversed = _mm512_broadcast_i32x4(_mm_set_epi8(REVERSED));
    __m512i powers[4];
    for (int i = 0; i < 4; i++)
        powers[i] = _mm512_load_si512(key->powers[4 * i]);
    __m128i state = load_reversed(y);
    for (; blocks >= GHASH_POWERS; blocks -= GHASH_POWERS) {
        __m512i low = _mm512_setzero_si512(), middle = low, high = low;
        for (int i = 0; i < 4; i++, data += 64) {
            __m512i x = _mm512_shuffle_epi8(_mm512_loadu_si512(data), reversed);
            if (i == 0)
                x = _mm512_xor_si512(x, _mm512_zextsi128_si512(state));
            low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128(x, powers[i], 0x00));
            high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128(x, powers[i], 0x11));
            middle = _mm512_ternarylogic_epi32(middle, _mm512_clmulepi64_epi128(x, powers[i], 0x01),
                                               _mm512_clmulepi64_epi128(x, powers[i], 0x10), 0x96);
        }
        state = reduce(fold(low), fold(middle), fold(high));
    }
    store_reversed(y, state);
    if (blocks > 0)
        vdr_ghash_blocks_pclmul(key, y, data, blocks);
}
#endif

/* AVX-512, VPCLMULQDQ and GFNI in plain C, for running the kernels that need them on any CPU with AVX2.
 *
 * Included before everything else when a noun is built a second time for its test: the intrinsics that the kernels use are
 * replaced by what Intel's manual says they do, target attributes vanish, and every CPU feature is claimed to be there. */
#ifndef VDR_TEST_EMULATED_CPU_H
#define VDR_TEST_EMULATED_CPU_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VDR_EMULATED_CPU
#define target(...)
#define __builtin_cpu_supports(feature) 1

/* A vector as its bytes and words. */
typedef union {
    __m512i z;
    __m256i y[2];
    __m128i x[4];
    uint8_t u8[64];
    uint32_t u32[16];
    uint64_t u64[8];
} emulated;

static inline __m512i emulated_each_part(__m512i a, __m512i b, __m128i (*op)(__m128i, __m128i)) {
    emulated left = {.z = a}, right = {.z = b};
    for (int i = 0; i < 4; i++)
        left.x[i] = op(left.x[i], right.x[i]);
    return left.z;
}

#define EMULATED_PARTWISE(name)                                                                                        \
    static inline __m128i emulated_part_##name(__m128i a, __m128i b) { return _mm_##name(a, b); }                      \
    static inline __m512i emulated_##name(__m512i a, __m512i b) {                                                      \
        return emulated_each_part(a, b, emulated_part_##name);                                                         \
    }
EMULATED_PARTWISE(unpacklo_epi32)
EMULATED_PARTWISE(unpackhi_epi32)
EMULATED_PARTWISE(unpacklo_epi64)
EMULATED_PARTWISE(unpackhi_epi64)
EMULATED_PARTWISE(shuffle_epi8)
EMULATED_PARTWISE(xor_si128)
EMULATED_PARTWISE(or_si128)
#define _mm512_unpacklo_epi32 emulated_unpacklo_epi32
#define _mm512_unpackhi_epi32 emulated_unpackhi_epi32
#define _mm512_unpacklo_epi64 emulated_unpacklo_epi64
#define _mm512_unpackhi_epi64 emulated_unpackhi_epi64
#define _mm512_shuffle_epi8 emulated_shuffle_epi8
#define _mm512_xor_si512 emulated_xor_si128
#define _mm512_or_si512 emulated_or_si128

static inline __m512i emulated_load(const void *p) {
    emulated v;
    memcpy(&v, p, sizeof v);
    return v.z;
}
#define _mm512_load_si512 emulated_load
#define _mm512_loadu_si512 emulated_load

static inline __m512i emulated_broadcast(__m128i part) {
    return (emulated){.x = {part, part, part, part}}.z;
}
#define _mm512_broadcast_i32x4 emulated_broadcast
#define _mm512_setzero_si512() emulated_broadcast(_mm_setzero_si128())
#define _mm512_set1_epi64(value) emulated_broadcast(_mm_set1_epi64x(value))

static inline __m512i emulated_widen(__m128i part) {
    __m128i zero = _mm_setzero_si128();
    return (emulated){.x = {part, zero, zero, zero}}.z;
}
#define _mm512_zextsi128_si512 emulated_widen
#define _mm512_castsi512_si256(a) ((emulated){.z = (a)}.y[0])
#define _mm512_extracti64x4_epi64(a, i) ((emulated){.z = (a)}.y[i])

/* Two parts chosen from a, then two from b. */
static inline __m512i emulated_shuffle_parts(__m512i a, __m512i b, int choice) {
    emulated left = {.z = a}, right = {.z = b}, out;
    for (int i = 0; i < 4; i++)
        out.x[i] = (i < 2 ? left : right).x[choice >> (2 * i) & 3];
    return out.z;
}
#undef _mm512_shuffle_i32x4
#define _mm512_shuffle_i32x4 emulated_shuffle_parts

/* Bit i of `table` is the result where the bits of a, b, c spell i. */
static inline __m512i emulated_ternary(__m512i a, __m512i b, __m512i c, int table) {
    emulated x = {.z = a}, y = {.z = b}, z = {.z = c}, out = {.u64 = {0}};
    for (int word = 0; word < 8; word++)
        for (int i = 0; i < 8; i++)
            if (table >> i & 1)
                out.u64[word] |= (i & 4 ? x.u64[word] : ~x.u64[word]) & (i & 2 ? y.u64[word] : ~y.u64[word]) &
                                 (i & 1 ? z.u64[word] : ~z.u64[word]);
    return out.z;
}
#undef _mm512_ternarylogic_epi32
#define _mm512_ternarylogic_epi32 emulated_ternary

static inline __m512i emulated_rotate_left(__m512i a, int bits) {
    emulated v = {.z = a};
    for (int i = 0; i < 16; i++)
        v.u32[i] = v.u32[i] << bits | v.u32[i] >> (32 - bits);
    return v.z;
}
#undef _mm512_rol_epi32
#undef _mm512_ror_epi32
#undef _mm256_ror_epi32
#undef _mm_ror_epi32
#define _mm512_rol_epi32 emulated_rotate_left
#define _mm512_ror_epi32(a, bits) emulated_rotate_left(a, 32 - (bits))
#define _mm256_ror_epi32(a, bits) _mm256_or_si256(_mm256_srli_epi32(a, bits), _mm256_slli_epi32(a, 32 - (bits)))
#define _mm_ror_epi32(a, bits) _mm_or_si128(_mm_srli_epi32(a, bits), _mm_slli_epi32(a, 32 - (bits)))

static inline unsigned emulated_test(__m512i a, __m512i b) {
    emulated x = {.z = a}, y = {.z = b};
    unsigned mask = 0;
    for (int i = 0; i < 16; i++)
        mask |= (unsigned)((x.u32[i] & y.u32[i]) != 0) << i;
    return mask;
}
#define _mm512_test_epi32_mask emulated_test

static inline __m512i emulated_multiply(__m512i a, __m512i b, int halves) {
    emulated x = {.z = a}, y = {.z = b};
    for (int i = 0; i < 4; i++) {
        uint64_t p = x.u64[2 * i + (halves & 1)], q = y.u64[2 * i + (halves >> 4 & 1)], low = 0, high = 0;
        for (int bit = 0; bit < 64; bit++)
            if (q >> bit & 1) {
                low ^= p << bit;
                high ^= bit == 0 ? 0 : p >> (64 - bit);
            }
        x.u64[2 * i] = low;
        x.u64[2 * i + 1] = high;
    }
    return x.z;
}
#undef _mm512_clmulepi64_epi128
#define _mm512_clmulepi64_epi128 emulated_multiply

/* GF2P8AFFINEQB: output bit i of a byte is the parity of byte 7 - i of the matrix and the input, plus bit i. */
static inline uint8_t emulated_affine_byte(uint64_t matrix, uint8_t x, int constant) {
    int out = constant;
    for (int i = 0; i < 8; i++)
        out ^= __builtin_parity((unsigned)(matrix >> (8 * (7 - i)) & x)) << i;
    return (uint8_t)out;
}

/* 1/x in AES's field, 0 for 0: x^254. */
static inline uint8_t emulated_inverse_byte(uint8_t x) {
    unsigned power = 1;
    for (int n = 0; n < 254; n++) {
        unsigned product = 0;
        for (int bit = 0; bit < 8; bit++)
            if (x >> bit & 1)
                product ^= power << bit;
        for (int bit = 14; bit >= 8; bit--)
            if (product >> bit & 1)
                product ^= 0x11bu << (bit - 8);
        power = product;
    }
    return (uint8_t)(x == 0 ? 0 : power);
}

static inline __m512i emulated_affine(__m512i a, __m512i matrices, int constant, int invert) {
    static uint8_t inverse[256];
    emulated x = {.z = a}, m = {.z = matrices};
    if (inverse[1] == 0)
        for (int i = 0; i < 256; i++)
            inverse[i] = emulated_inverse_byte((uint8_t)i);
    for (int i = 0; i < 64; i++)
        x.u8[i] = emulated_affine_byte(m.u64[i / 8], invert ? inverse[x.u8[i]] : x.u8[i], constant);
    return x.z;
}

static inline __m256i emulated_affine_256(__m256i a, __m256i matrices, int constant, int invert) {
    emulated x = {.y = {a}}, m = {.y = {matrices}};
    return (emulated){.z = emulated_affine(x.z, m.z, constant, invert)}.y[0];
}
#undef _mm512_gf2p8affine_epi64_epi8
#undef _mm512_gf2p8affineinv_epi64_epi8
#undef _mm256_gf2p8affine_epi64_epi8
#undef _mm256_gf2p8affineinv_epi64_epi8
#define _mm512_gf2p8affine_epi64_epi8(a, m, c) emulated_affine(a, m, c, 0)
#define _mm512_gf2p8affineinv_epi64_epi8(a, m, c) emulated_affine(a, m, c, 1)
#define _mm256_gf2p8affine_epi64_epi8(a, m, c) emulated_affine_256(a, m, c, 0)
#define _mm256_gf2p8affineinv_epi64_epi8(a, m, c) emulated_affine_256(a, m, c, 1)

#endif

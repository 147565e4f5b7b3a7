/* Private to blake3_avx*.c: square transpositions of 32-bit words in vectors. The order of unpackings is the usual
 * butterfly: pairs of words, pairs of double words, then whole 128-bit lanes. */
#ifndef VDR_BLAKE3_TRANSPOSE_H
#define VDR_BLAKE3_TRANSPOSE_H

#include <immintrin.h>

__attribute__((target("avx2"), always_inline)) static inline void transpose4(void *rows) {
    __m128i *r = rows;
    __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]);
    __m128i c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
    r[0] = _mm_unpacklo_epi64(a, c);
    r[1] = _mm_unpackhi_epi64(a, c);
    r[2] = _mm_unpacklo_epi64(b, d);
    r[3] = _mm_unpackhi_epi64(b, d);
}

__attribute__((target("avx2"), always_inline)) static inline void transpose8(void *rows) {
    __m256i *r = rows, a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(b[i], b[4 + i], 0x20);
        r[4 + i] = _mm256_permute2x128_si256(b[i], b[4 + i], 0x31);
    }
}

__attribute__((target("avx512f"), always_inline)) static inline void transpose16(void *rows) {
    __m512i *r = rows, a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    /* b[4q + j] holds word 4l + j of rows 4q..4q+3 in its 128-bit lane l: now a transposition of lanes. */
    for (int j = 0; j < 4; j++) {
        __m512i even01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88), odd01 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
        __m512i even23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
        __m512i odd23 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
        r[j] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        r[8 + j] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        r[4 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        r[12 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
}

#endif

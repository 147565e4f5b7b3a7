/* SM4 in counter mode on 256-bit vectors.
 *
 * The S-box is an inversion in AES's field between two affine maps. Words are kept as the first of these maps leaves them (B w
 * for a word w, byte by byte), so a round needs no map before the inversion; the map after it, the linear layer L and B again are
 * one linear map. On the bytes w0 w1 w2 w3 of a word, first to last, byte i of L is
 *     F w[i] + (F + E) w[i + 1] + (F + E) w[i + 2] + E w[i + 3]  =  g[i] + g[i + 1] + g[i + 2],  g[i] = F w[i] + E w[i + 1]
 * where F w = w ^ (w << 2) and E w = w ^ (w >> 6) on 8 bits: two maps of a byte and three rotations of a word are the whole
 * round. With GFNI each map and the inversion are one instruction; with AES instructions AESENCLAST with a zero key inverts, the
 * maps are nibble tables in registers, and its ShiftRows is undone by the rotations that are needed anyway. */
#include "sm4_field.h"
#include "sm4_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Four vectors in flight: the latency of a round is some 14 cycles, in which two keep half of the processor idle. */
#define VECTOR_BYTES 32
#define V(op) _mm256_##op

#define BYTES(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define SHUFFLE(x, ...) _mm256_shuffle_epi8(x, BYTES(__VA_ARGS__))
#define XOR3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define SWAP_BYTES(x) ((VECTOR)SHUFFLE((__m256i)(x), 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))

#define AVX2 __attribute__((target("avx2")))

/* ---- GFNI ---- */

#define GFNI __attribute__((target("avx2,gfni")))

/* g[i] + g[i + 1] + g[i + 2] out of F w and E w. */
AVX2 static inline __m256i combine(__m256i first, __m256i last) {
    const __m256i g = _mm256_xor_si256(first, SHUFFLE(last, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
    return XOR3(g, SHUFFLE(g, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14),
                SHUFFLE(g, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
}

#define AFFINE(x, matrix, constant)                                                                                    \
    _mm256_gf2p8affine_epi64_epi8((__m256i)(x), _mm256_set1_epi64x((long long)matrix), constant)
#define AFFINE_INVERSE(x, matrix, constant)                                                                            \
    _mm256_gf2p8affineinv_epi64_epi8(x, _mm256_set1_epi64x((long long)matrix), constant)

GFNI static inline __m256i mix_gfni(__m256i x) {
    return combine(AFFINE_INVERSE(x, SM4_FIRST_MATRIX, SM4_FIRST_CONSTANT),
                   AFFINE_INVERSE(x, SM4_LAST_MATRIX, SM4_LAST_CONSTANT));
}

#define NAME vdr_sm4_ctr_gfni_avx2
#define TARGET GFNI
#define STREAMS 4
#define ENTER(x) ((VECTOR)AFFINE(x, SM4_BEFORE_MATRIX, 0))
#define ENTER_KEY(x) ((VECTOR)AFFINE(x, SM4_BEFORE_MATRIX, SM4_BEFORE_CONSTANT))
#define LEAVE(x) ((VECTOR)AFFINE(x, SM4_LEAVE_MATRIX, 0))
#define MIX(x) ((VECTOR)mix_gfni((__m256i)(x)))
#include "sm4_ctr.h"

#undef ENTER
#undef ENTER_KEY
#undef LEAVE

/* ---- AES instructions ---- */

/* A linear map by its 16 + 16 bytes of nibble tables. */
AVX2 static inline __m256i by_nibbles(__m256i x, const uint8_t tables[32]) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)tables));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(tables + 16)));
    const __m256i nibble = _mm256_set1_epi8(15);
    return _mm256_xor_si256(_mm256_shuffle_epi8(low, _mm256_and_si256(x, nibble)),
                            _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi32(x, 4), nibble)));
}

static const uint8_t ENTER_TABLES[32] = {SM4_ENTER_NIBBLES}, LEAVE_TABLES[32] = {SM4_LEAVE_NIBBLES};
static const uint8_t FIRST_TABLES[32] = {SM4_FIRST_AES_NIBBLES}, LAST_TABLES[32] = {SM4_LAST_AES_NIBBLES};

/* As combine(), of bytes that ShiftRows has moved: byte 4 c + r stands where byte 4 (c + r) + r was. */
AVX2 static inline __m256i mix_shifted(__m256i x) {
    const __m256i first = by_nibbles(x, FIRST_TABLES), last = by_nibbles(x, LAST_TABLES);
    const __m256i g = _mm256_xor_si256(first, SHUFFLE(last, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2));
    return XOR3(SHUFFLE(g, 0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3), SHUFFLE(g, 7, 0, 13, 10, 11, 4, 1, 14, 15, 8, 5, 2, 3, 12, 9, 6),
                SHUFFLE(g, 10, 7, 0, 13, 14, 11, 4, 1, 2, 15, 8, 5, 6, 3, 12, 9));
}

#define ENTER(x) ((VECTOR)by_nibbles((__m256i)(x), ENTER_TABLES))
#define ENTER_KEY(x) (ENTER(x) ^ (VECTOR)_mm256_set1_epi8(SM4_BEFORE_CONSTANT))
#define LEAVE(x) ((VECTOR)by_nibbles((__m256i)(x), LEAVE_TABLES))

#define VAES __attribute__((target("avx2,vaes")))

VAES static inline __m256i mix_vaes(__m256i x) {
    return mix_shifted(_mm256_aesenclast_epi128(x, _mm256_setzero_si256()));
}

#define NAME vdr_sm4_ctr_vaes_avx2
#define TARGET VAES
#define STREAMS 4
#define MIX(x) ((VECTOR)mix_vaes((__m256i)(x)))
#include "sm4_ctr.h"

#define AESNI __attribute__((target("avx2,aes")))

AESNI static inline __m256i mix_aesni(__m256i x) {
    const __m128i zero = _mm_setzero_si128();
    const __m128i low = _mm_aesenclast_si128(_mm256_castsi256_si128(x), zero);
    const __m128i high = _mm_aesenclast_si128(_mm256_extracti128_si256(x, 1), zero);
    return mix_shifted(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

#define NAME vdr_sm4_ctr_aesni_avx2
#define TARGET AESNI
#define STREAMS 4
#define MIX(x) ((VECTOR)mix_aesni((__m256i)(x)))
#include "sm4_ctr.h"
#endif

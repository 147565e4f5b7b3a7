/* SM4 in counter mode on 256-bit vectors. The S-box is an inversion in AES's field between two affine maps: with GFNI two
 * instructions; with VAES the maps are nibble tables in registers and AESENCLAST with a zero key inverts (its ShiftRows is
 * undone by the same shuffle beforehand). */
#include "sm4_field.h"
#include "sm4_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VECTOR_BYTES 32
#define V(op) _mm256_##op

#define BYTES(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define SHUFFLE(x, ...) ((VECTOR)_mm256_shuffle_epi8((__m256i)(x), BYTES(__VA_ARGS__)))
#define ROTL8(x) SHUFFLE(x, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14)
#define ROTL16(x) SHUFFLE(x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define ROTL24(x) SHUFFLE(x, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12)
#define SWAP_BYTES(x) SHUFFLE(x, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12)
#define ROTL2(x) ((x) << 2 | (x) >> 30)
/* The rotations by 2, 10 and 18 are one rotation by 2 of the sum of those by 0, 8 and 16: no vector rotation in AVX2. */
#define DIFFUSE(x) ((x) ^ ROTL24(x) ^ ROTL2((x) ^ ROTL8(x) ^ ROTL16(x)))

#define NAME vdr_sm4_ctr_gfni_avx2
#define TARGET __attribute__((target("avx2,gfni")))
#define STREAMS 2
#define AFFINE(x, matrix, constant)                                                                                    \
    _mm256_gf2p8affine_epi64_epi8(x, _mm256_set1_epi64x((long long)matrix), constant)
#define AFFINE_INVERSE(x, matrix, constant)                                                                            \
    _mm256_gf2p8affineinv_epi64_epi8(x, _mm256_set1_epi64x((long long)matrix), constant)
#define SUBSTITUTE(x)                                                                                                  \
    ((VECTOR)AFFINE_INVERSE(AFFINE((__m256i)(x), SM4_BEFORE_MATRIX, SM4_BEFORE_CONSTANT), SM4_AFTER_MATRIX,            \
                            SM4_AFTER_CONSTANT))
#include "sm4_ctr.h"

#define VAES __attribute__((target("avx2,vaes")))

/* An affine map by its 16 + 16 bytes of nibble tables. */
VAES static inline __m256i by_nibbles(__m256i x, const uint8_t tables[32]) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)tables));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(tables + 16)));
    const __m256i nibble = _mm256_set1_epi8(15);
    return _mm256_xor_si256(_mm256_shuffle_epi8(low, _mm256_and_si256(x, nibble)),
                            _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi32(x, 4), nibble)));
}

VAES static inline __m256i substitute_vaes(__m256i x) {
    static const uint8_t BEFORE[32] = {SM4_BEFORE_NIBBLES}, AFTER[32] = {SM4_AFTER_AES_NIBBLES};
    x = _mm256_shuffle_epi8(by_nibbles(x, BEFORE), BYTES(0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3));
    return by_nibbles(_mm256_aesenclast_epi128(x, _mm256_setzero_si256()), AFTER);
}

#define NAME vdr_sm4_ctr_vaes_avx2
#define TARGET VAES
#define STREAMS 2
#define SUBSTITUTE(x) ((VECTOR)substitute_vaes((__m256i)(x)))
#include "sm4_ctr.h"
#endif

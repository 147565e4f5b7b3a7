/* BLAKE3 on 8 and on 4 lanes with AVX2. */
#include "blake3_kernel.h"

#if defined(__x86_64__)
#include <string.h>

#include "blake3_transpose.h"

#define TARGET __attribute__((target("avx2")))

/* A rotation by whole bytes is one shuffle, any other two shifts. */
#define ROT16_BYTES 13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2
#define ROT8_BYTES 12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1
#define SHIFTS(x, n) ((x) >> (n) | (x) << (32 - (n)))

#define NAME vdr_blake3_many8_avx2
#define LANES 8
#define ROTR(x, n)                                                                                                     \
    ((n) == 16  ? (VECTOR)_mm256_shuffle_epi8((__m256i)(x), _mm256_set_epi8(ROT16_BYTES, ROT16_BYTES))                 \
     : (n) == 8 ? (VECTOR)_mm256_shuffle_epi8((__m256i)(x), _mm256_set_epi8(ROT8_BYTES, ROT8_BYTES))                   \
                : SHIFTS(x, n))
#define TRANSPOSE transpose8
#include "blake3_many.h"

#define NAME vdr_blake3_many4_avx2
#define LANES 4
#define ROTR(x, n)                                                                                                     \
    ((n) == 16  ? (VECTOR)_mm_shuffle_epi8((__m128i)(x), _mm_set_epi8(ROT16_BYTES))                                    \
     : (n) == 8 ? (VECTOR)_mm_shuffle_epi8((__m128i)(x), _mm_set_epi8(ROT8_BYTES))                                     \
                : SHIFTS(x, n))
#define TRANSPOSE transpose4
#include "blake3_many.h"
#endif

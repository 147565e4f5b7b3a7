/* One compression with its state as four rows of four words: for single blocks (tails, parents, short messages), where
 * there are no lanes to fill. A row operation runs the four columns of a round at once; rotating rows 1 to 3 makes the
 * diagonals the columns. */
#include "blake3_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define ROT16 _mm_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define ROT8 _mm_setr_epi8(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12)
#define SHIFTS(x, n) _mm_or_si128(_mm_srli_epi32(x, n), _mm_slli_epi32(x, 32 - (n)))

/* The first (or second) message words of four quarter rounds. */
#define WORDS(m, a, b, c, d) _mm_setr_epi32((int)m[a], (int)m[b], (int)m[c], (int)m[d])

#define HALF_ROUND(x, y)                                                                                               \
    a = _mm_add_epi32(_mm_add_epi32(a, x), b), d = _mm_shuffle_epi8(_mm_xor_si128(d, a), ROT16);                       \
    c = _mm_add_epi32(c, d), b = _mm_xor_si128(b, c), b = SHIFTS(b, 12);                                               \
    a = _mm_add_epi32(_mm_add_epi32(a, y), b), d = _mm_shuffle_epi8(_mm_xor_si128(d, a), ROT8);                        \
    c = _mm_add_epi32(c, d), b = _mm_xor_si128(b, c), b = SHIFTS(b, 7);

#define ROUND(m, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                 \
    HALF_ROUND(WORDS(m, s0, s2, s4, s6), WORDS(m, s1, s3, s5, s7))                                                     \
    b = _mm_shuffle_epi32(b, 0x39), c = _mm_shuffle_epi32(c, 0x4e), d = _mm_shuffle_epi32(d, 0x93);                    \
    HALF_ROUND(WORDS(m, s8, s10, s12, s14), WORDS(m, s9, s11, s13, s15))                                               \
    b = _mm_shuffle_epi32(b, 0x93), c = _mm_shuffle_epi32(c, 0x4e), d = _mm_shuffle_epi32(d, 0x39);

TARGET void vdr_blake3_compress_rows(const uint32_t cv[8], const uint8_t *block, uint32_t block_bytes, uint64_t counter,
                                     uint32_t flags, uint32_t out[16]) {
    static const uint32_t IV[8] = BLAKE3_IV;
    const __m128i *chaining = (const __m128i *)cv;
    __m128i *result = (__m128i *)out;
    uint32_t m[16];
    memcpy(m, block, sizeof m);
    const __m128i high = _mm_loadu_si128(chaining), low = _mm_loadu_si128(chaining + 1);
    __m128i a = high, b = low, c = _mm_loadu_si128((const __m128i *)IV);
    __m128i d = _mm_setr_epi32((int)counter, (int)(counter >> 32), (int)block_bytes, (int)flags);
    BLAKE3_ROUNDS(ROUND, m)
    _mm_storeu_si128(result, _mm_xor_si128(a, c));
    _mm_storeu_si128(result + 1, _mm_xor_si128(b, d));
    _mm_storeu_si128(result + 2, _mm_xor_si128(c, high));
    _mm_storeu_si128(result + 3, _mm_xor_si128(d, low));
}
#endif

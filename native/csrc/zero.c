#include "zero.h"

#include <string.h>

#include "err.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static int zero_scalar(const uint8_t *data, size_t bytes) {
    uint64_t word;
    for (; bytes >= 8; data += 8, bytes -= 8) {
        memcpy(&word, data, 8);
        if (word != 0)
            return 0;
    }
    uint8_t rest = 0;
    for (size_t i = 0; i < bytes; i++)
        rest |= data[i];
    return rest == 0;
}

#if defined(__x86_64__)
/* Four vectors per test: the branch, not the load, is what costs. */
__attribute__((target("avx2"))) static int zero_avx2(const uint8_t *data, size_t bytes) {
    for (; bytes >= 128; data += 128, bytes -= 128) {
        const __m256i *p = (const __m256i *)data;
        __m256i a = _mm256_or_si256(_mm256_loadu_si256(p), _mm256_loadu_si256(p + 1));
        __m256i b = _mm256_or_si256(_mm256_loadu_si256(p + 2), _mm256_loadu_si256(p + 3));
        a = _mm256_or_si256(a, b);
        if (!_mm256_testz_si256(a, a))
            return 0;
    }
    return zero_scalar(data, bytes);
}

__attribute__((target("avx512f"))) static int zero_avx512(const uint8_t *data, size_t bytes) {
    for (; bytes >= 256; data += 256, bytes -= 256) {
        __m512i a = _mm512_or_si512(_mm512_loadu_si512(data), _mm512_loadu_si512(data + 64));
        __m512i b = _mm512_or_si512(_mm512_loadu_si512(data + 128), _mm512_loadu_si512(data + 192));
        a = _mm512_or_si512(a, b);
        if (_mm512_test_epi32_mask(a, a) != 0)
            return 0;
    }
    return zero_scalar(data, bytes);
}
#endif

int vdr_zero_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return VDR_ZERO_AVX512;
    if (__builtin_cpu_supports("avx2"))
        return VDR_ZERO_AVX2;
#endif
    return VDR_ZERO_SCALAR;
}

static int zero_at(int level, const uint8_t *data, size_t bytes) {
    /* Data seldom starts with eight zeros by chance: most questions end here. */
    if (bytes >= 8) {
        uint64_t first;
        memcpy(&first, data, 8);
        if (first != 0)
            return 0;
    }
#if defined(__x86_64__)
    if (level == VDR_ZERO_AVX512)
        return zero_avx512(data, bytes);
    if (level == VDR_ZERO_AVX2)
        return zero_avx2(data, bytes);
#endif
    (void)level;
    return zero_scalar(data, bytes);
}

int vdr_zero_is_at(int level, const uint8_t *data, size_t bytes) {
    if (level < VDR_ZERO_SCALAR || level > vdr_zero_best())
        return VDR_E_ARGUMENT;
    return zero_at(level, data, bytes);
}

int vdr_zero_is(const uint8_t *data, size_t bytes) {
    return zero_at(vdr_zero_best(), data, bytes);
}

int64_t vdr_zero_blocks(const uint8_t *data, size_t bytes, size_t block_bytes, uint8_t *flags) {
    if (block_bytes == 0)
        return VDR_E_ARGUMENT;
    int level = vdr_zero_best();
    int64_t zeros = 0;
    for (size_t at = 0; at < bytes; at += block_bytes) {
        size_t length = bytes - at < block_bytes ? bytes - at : block_bytes;
        int zero = zero_at(level, data + at, length);
        *flags++ = (uint8_t)zero;
        zeros += zero;
    }
    return zeros;
}

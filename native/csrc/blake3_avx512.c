/* BLAKE3 on 16, 8 and 4 lanes with AVX-512, which rotates in one instruction and has registers for all of the state. */
#include "blake3_kernel.h"

#if defined(__x86_64__)
#include <string.h>

#include "blake3_transpose.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))

#define NAME vdr_blake3_many16_avx512
#define LANES 16
#define ROTR(x, n) ((VECTOR)_mm512_ror_epi32((__m512i)(x), n))
#define TRANSPOSE transpose16
#include "blake3_many.h"

#define NAME vdr_blake3_many8_avx512
#define LANES 8
#define ROTR(x, n) ((VECTOR)_mm256_ror_epi32((__m256i)(x), n))
#define TRANSPOSE transpose8
#include "blake3_many.h"

#define NAME vdr_blake3_many4_avx512
#define LANES 4
#define ROTR(x, n) ((VECTOR)_mm_ror_epi32((__m128i)(x), n))
#define TRANSPOSE transpose4
#include "blake3_many.h"
#endif

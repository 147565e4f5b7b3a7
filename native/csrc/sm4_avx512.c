/* SM4 in counter mode on 512-bit vectors with GFNI: two instructions for the S-box, rotations in one. */
#include "sm4_field.h"
#include "sm4_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME vdr_sm4_ctr_gfni_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,gfni")))
#define VECTOR_BYTES 64
#define STREAMS 4
#define V(op) _mm512_##op

#define AFFINE(x, matrix, constant)                                                                                    \
    _mm512_gf2p8affine_epi64_epi8(x, _mm512_set1_epi64((long long)matrix), constant)
#define AFFINE_INVERSE(x, matrix, constant)                                                                            \
    _mm512_gf2p8affineinv_epi64_epi8(x, _mm512_set1_epi64((long long)matrix), constant)
#define SUBSTITUTE(x)                                                                                                  \
    ((VECTOR)AFFINE_INVERSE(AFFINE((__m512i)(x), SM4_BEFORE_MATRIX, SM4_BEFORE_CONSTANT), SM4_AFTER_MATRIX,            \
                            SM4_AFTER_CONSTANT))

#define ROTL(x, n) _mm512_rol_epi32((__m512i)(x), n)
#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define DIFFUSE(x)                                                                                                     \
    ((VECTOR)XOR3(XOR3((__m512i)(x), ROTL(x, 2), ROTL(x, 10)), ROTL(x, 18), ROTL(x, 24)))
#define SWAP_BYTES(x)                                                                                                  \
    ((VECTOR)_mm512_shuffle_epi8((__m512i)(x), _mm512_broadcast_i32x4(_mm_setr_epi8(                                   \
                                                   3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))))
#define ENTER(x) (x)
#define ENTER_KEY(x) (x)
#define LEAVE(x) (x)
#define MIX(x) DIFFUSE(SUBSTITUTE(x))
#include "sm4_ctr.h"
#endif

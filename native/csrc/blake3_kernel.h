/* Private to blake3*.c: the compression function and its many-lane forms. */
#ifndef VDR_BLAKE3_KERNEL_H
#define VDR_BLAKE3_KERNEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    BLAKE3_BLOCK_BYTES = 64,
    BLAKE3_CHUNK_BYTES = 1024,
    BLAKE3_CHUNK_BLOCKS = 16,
    BLAKE3_CV_BYTES = 32,
};

enum {
    BLAKE3_CHUNK_START = 1,
    BLAKE3_CHUNK_END = 2,
    BLAKE3_PARENT = 4,
    BLAKE3_ROOT = 8,
    BLAKE3_KEYED_HASH = 16,
    BLAKE3_DERIVE_KEY_CONTEXT = 32,
    BLAKE3_DERIVE_KEY_MATERIAL = 64,
};

#define BLAKE3_IV                                                                                                      \
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

/* One round: columns, then diagonals, each `G` taking its two message words; s0..s15 is the round's message order. */
#define BLAKE3_ROUND(G, v, m, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                    \
    G(v[0], v[4], v[8], v[12], m[s0], m[s1])                                                                           \
    G(v[1], v[5], v[9], v[13], m[s2], m[s3])                                                                           \
    G(v[2], v[6], v[10], v[14], m[s4], m[s5])                                                                          \
    G(v[3], v[7], v[11], v[15], m[s6], m[s7])                                                                          \
    G(v[0], v[5], v[10], v[15], m[s8], m[s9])                                                                          \
    G(v[1], v[6], v[11], v[12], m[s10], m[s11])                                                                        \
    G(v[2], v[7], v[8], v[13], m[s12], m[s13])                                                                         \
    G(v[3], v[4], v[9], v[14], m[s14], m[s15])

/* All seven rounds; each order is the one before it under the specification's permutation. */
#define BLAKE3_ROUNDS(ROUND, ...)                                                                                      \
    ROUND(__VA_ARGS__, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)                                           \
    ROUND(__VA_ARGS__, 2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)                                           \
    ROUND(__VA_ARGS__, 3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)                                           \
    ROUND(__VA_ARGS__, 10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)                                           \
    ROUND(__VA_ARGS__, 12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)                                           \
    ROUND(__VA_ARGS__, 9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)                                           \
    ROUND(__VA_ARGS__, 11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)

/* What the inputs of a many-lane call have in common. */
typedef struct {
    uint32_t key[8];       /* chaining value every lane starts from */
    uint32_t flags;        /* of every block */
    uint32_t first, last;  /* added for the first and the last block of each lane */
    uint32_t counter_step; /* lane i counts as counter + i * counter_step: 1 for chunks, 0 for parents */
} blake3_lanes;

/* Hash a fixed number of lanes, lane i being the `blocks` whole blocks at in + i * stride; the chaining values go to
 * consecutive 32 bytes of `out`. All input is read before any output is written, so parents may be made in place. */
typedef void blake3_many(const blake3_lanes *common, const uint8_t *in, size_t stride, size_t blocks, uint64_t counter,
                         uint8_t *out);

#if defined(__x86_64__)
/* One block; out as the specification's compress(): the new chaining value, then the rest of the extended output. */
void vdr_blake3_compress_rows(const uint32_t cv[8], const uint8_t *block, uint32_t block_bytes, uint64_t counter,
                              uint32_t flags, uint32_t out[16]);

blake3_many vdr_blake3_many4_avx2, vdr_blake3_many8_avx2;
blake3_many vdr_blake3_many4_avx512, vdr_blake3_many8_avx512, vdr_blake3_many16_avx512;
#endif

#endif

/* Template of a counter-mode kernel, included once for each kind of vector by sm4_avx2.c and sm4_avx512.c with
 *     NAME           the function to define
 *     TARGET         its target attribute
 *     VECTOR_BYTES   32 or 64
 *     STREAMS        vectors of blocks in flight: enough to hide the latency of a round
 *     V(op)          intrinsic `op` of this width, such as V(unpacklo_epi32)
 *     ENTER(x)       into the form that words have during the rounds: any linear map, on each byte
 *     ENTER_KEY(x)   the same for round keys, with what is to be added in each round besides
 *     MIX(x)         what a round does to the sum of three words and the key: S-box, x ^ (x <<< 2) ^ (x <<< 10) ^ (x <<< 18) ^
 *                    (x <<< 24); both in that form
 *     LEAVE(x)       back from it
 *     SWAP_BYTES(x)  of every word
 *
 * A vector holds the same word of LANES blocks. The transposition at the end works inside 128-bit parts: its output k takes
 * element 4 l + k of the input vectors into part l. So that output k holds consecutive blocks, element e counts as block
 * (e % 4) * PARTS + e / 4. */

#define JOIN(a, b) a##b
#define JOINED(a, b) JOIN(a, b)
#define VECTOR JOINED(NAME, _vector)
#define INTRINSIC JOINED(NAME, _intrinsic)

typedef uint32_t VECTOR __attribute__((vector_size(VECTOR_BYTES)));
typedef long long INTRINSIC __attribute__((vector_size(VECTOR_BYTES), may_alias));

/* Two rounds: both need the sum of c and d. */
#define ROUNDS(a, b, c, d, key)                                                                                        \
    {                                                                                                                  \
        const VECTOR first_key = (VECTOR){0} + (key)[0], second_key = (VECTOR){0} + (key)[1];                          \
        _Pragma("GCC unroll 8") for (int s = 0; s < STREAMS; s++) {                                                    \
            const VECTOR sum = c[s] ^ d[s];                                                                            \
            a[s] ^= MIX(sum ^ first_key ^ b[s]);                                                                       \
            b[s] ^= MIX(sum ^ second_key ^ a[s]);                                                                      \
        }                                                                                                              \
    }

TARGET void NAME(const uint32_t round_keys[SM4_ROUNDS], const uint8_t nonce[12], uint32_t counter, const uint8_t *in,
                 uint8_t *out, size_t bytes) {
    enum { LANES = VECTOR_BYTES / 4, PARTS = LANES / 4, UNIT_BYTES = STREAMS * LANES * SM4_BLOCK_BYTES };
    VECTOR order;
    for (uint32_t e = 0; e < LANES; e++)
        order[e] = e % 4 * PARTS + e / 4;
    const VECTOR n0 = ENTER((VECTOR){0} + sm4_load(nonce)), n1 = ENTER((VECTOR){0} + sm4_load(nonce + 4)),
                 n2 = ENTER((VECTOR){0} + sm4_load(nonce + 8));
    uint32_t keys[SM4_ROUNDS];
    for (size_t i = 0; i < SM4_ROUNDS; i += LANES) {
        VECTOR some;
        memcpy(&some, round_keys + i, sizeof some);
        some = ENTER_KEY(some);
        memcpy(keys + i, &some, sizeof some);
    }
    for (; bytes > 0; bytes -= UNIT_BYTES) {
        VECTOR a[STREAMS], b[STREAMS], c[STREAMS], d[STREAMS];
        for (int s = 0; s < STREAMS; s++, counter += LANES) {
            a[s] = n0;
            b[s] = n1;
            c[s] = n2;
            d[s] = ENTER(order + counter);
        }
        for (int round = 0; round < SM4_ROUNDS; round += 4) {
            ROUNDS(a, b, c, d, keys + round)
            ROUNDS(c, d, a, b, keys + round + 2)
        }
        for (int s = 0; s < STREAMS; s++) {
            INTRINSIC x = (INTRINSIC)V(unpacklo_epi32)((INTRINSIC)d[s], (INTRINSIC)c[s]);
            INTRINSIC y = (INTRINSIC)V(unpackhi_epi32)((INTRINSIC)d[s], (INTRINSIC)c[s]);
            INTRINSIC z = (INTRINSIC)V(unpacklo_epi32)((INTRINSIC)b[s], (INTRINSIC)a[s]);
            INTRINSIC w = (INTRINSIC)V(unpackhi_epi32)((INTRINSIC)b[s], (INTRINSIC)a[s]);
            VECTOR blocks[4] = {(VECTOR)V(unpacklo_epi64)(x, z), (VECTOR)V(unpackhi_epi64)(x, z),
                                (VECTOR)V(unpacklo_epi64)(y, w), (VECTOR)V(unpackhi_epi64)(y, w)};
            for (int k = 0; k < 4; k++, in += VECTOR_BYTES, out += VECTOR_BYTES) {
                VECTOR text;
                memcpy(&text, in, sizeof text);
                text ^= SWAP_BYTES(LEAVE(blocks[k]));
                memcpy(out, &text, sizeof text);
            }
        }
    }
    explicit_bzero(keys, sizeof keys);
}

#undef JOIN
#undef JOINED
#undef VECTOR
#undef INTRINSIC
#undef ROUNDS
#undef NAME
#undef TARGET
#undef STREAMS
#undef MIX

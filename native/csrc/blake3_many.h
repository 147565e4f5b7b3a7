/* Template of a many-lane compression, included once for each kind of vector by blake3_avx2.c and blake3_avx512.c with
 *     NAME           the function to define
 *     TARGET         its target attribute
 *     LANES          4, 8 or 16: how many 32-bit lanes a vector has
 *     ROTR(x, n)     rotation of every lane, n one of 16, 12, 8, 7
 *     TRANSPOSE(r)   of LANES vectors of LANES words, in place
 * A vector holds the same word of LANES inputs, so one call runs the scalar algorithm on all of them. */

#define JOIN(a, b) a##b
#define JOINED(a, b) JOIN(a, b)
#define VECTOR JOINED(NAME, _vector)

typedef uint32_t VECTOR __attribute__((vector_size(4 * LANES)));

/* Half a round: the four quarter rounds on columns (turn 0) or diagonals (turn 1), step by step side by side. One after
 * the other, each would be a chain of dependent instructions that fills the CPU's window before the next one begins. */
#define A(i) v[i]
#define B(i, turn) v[4 + ((i) + (turn)) % 4]
#define C(i, turn) v[8 + ((i) + 2 * (turn)) % 4]
#define D(i, turn) v[12 + ((i) + 3 * (turn)) % 4]
#define MIX_AD(i, turn, word, bits) A(i) += B(i, turn) + (word), D(i, turn) = ROTR(D(i, turn) ^ A(i), bits)
#define MIX_CB(i, turn, bits) C(i, turn) += D(i, turn), B(i, turn) = ROTR(B(i, turn) ^ C(i, turn), bits)
#define HALF_ROUND(turn, x0, x1, x2, x3, y0, y1, y2, y3)                                                               \
    MIX_AD(0, turn, x0, 16), MIX_AD(1, turn, x1, 16), MIX_AD(2, turn, x2, 16), MIX_AD(3, turn, x3, 16);                \
    MIX_CB(0, turn, 12), MIX_CB(1, turn, 12), MIX_CB(2, turn, 12), MIX_CB(3, turn, 12);                                \
    MIX_AD(0, turn, y0, 8), MIX_AD(1, turn, y1, 8), MIX_AD(2, turn, y2, 8), MIX_AD(3, turn, y3, 8);                    \
    MIX_CB(0, turn, 7), MIX_CB(1, turn, 7), MIX_CB(2, turn, 7), MIX_CB(3, turn, 7);
#define ROUND(m, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                 \
    HALF_ROUND(0, m[s0], m[s2], m[s4], m[s6], m[s1], m[s3], m[s5], m[s7])                                              \
    HALF_ROUND(1, m[s8], m[s10], m[s12], m[s14], m[s9], m[s11], m[s13], m[s15])

TARGET void NAME(const blake3_lanes *common, const uint8_t *in, size_t stride, size_t blocks, uint64_t counter,
                 uint8_t *out) {
    static const uint32_t IV[8] = BLAKE3_IV;
    VECTOR h[8], m[16], v[16], low, high;
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint64_t count = counter + lane * common->counter_step;
        low[lane] = (uint32_t)count;
        high[lane] = (uint32_t)(count >> 32);
    }
    for (int i = 0; i < 8; i++)
        h[i] = (VECTOR){0} + common->key[i];
    for (size_t block = 0; block < blocks; block++) {
        uint32_t flags = common->flags;
        if (block == 0)
            flags |= common->first;
        if (block + 1 == blocks)
            flags |= common->last;
        for (size_t part = 0; part < 16; part += LANES) {
            for (size_t lane = 0; lane < LANES; lane++)
                memcpy(&m[part + lane], in + lane * stride + block * BLAKE3_BLOCK_BYTES + 4 * part, sizeof m[0]);
            TRANSPOSE(m + part);
        }
        for (int i = 0; i < 8; i++)
            v[i] = h[i];
        for (int i = 0; i < 4; i++)
            v[8 + i] = (VECTOR){0} + IV[i];
        v[12] = low;
        v[13] = high;
        v[14] = (VECTOR){0} + (uint32_t)BLAKE3_BLOCK_BYTES;
        v[15] = (VECTOR){0} + flags;
        BLAKE3_ROUNDS(ROUND, m)
        for (int i = 0; i < 8; i++)
            h[i] = v[i] ^ v[i + 8];
    }
    /* Word-major to lane-major: with 4 lanes in two halves, with 16 only the first eight words of each row count. */
    enum { PART = LANES < 8 ? LANES : 8 };
    VECTOR rows[LANES < 8 ? 8 : LANES];
    for (int i = 0; i < 8; i++)
        rows[i] = h[i];
#if LANES > 8
    for (int i = 8; i < LANES; i++)
        rows[i] = (VECTOR){0};
#endif
    for (int part = 0; part < 8; part += PART) {
        TRANSPOSE(rows + part);
        for (int lane = 0; lane < LANES; lane++)
            memcpy(out + lane * BLAKE3_CV_BYTES + 4 * part, &rows[part + lane], 4 * PART);
    }
}

#undef JOIN
#undef JOINED
#undef VECTOR
#undef NAME
#undef LANES
#undef ROTR
#undef TRANSPOSE
#undef A
#undef B
#undef C
#undef D
#undef MIX_AD
#undef MIX_CB
#undef HALF_ROUND
#undef ROUND

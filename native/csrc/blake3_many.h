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
#define G(a, b, c, d, x, y)                                                                                            \
    a += b + (x), d ^= a, d = ROTR(d, 16), c += d, b ^= c, b = ROTR(b, 12);                                            \
    a += b + (y), d ^= a, d = ROTR(d, 8), c += d, b ^= c, b = ROTR(b, 7);
        BLAKE3_ROUNDS(BLAKE3_ROUND, G, v, m)
#undef G
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

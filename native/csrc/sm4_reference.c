/* SM4 without tables and without vector instructions: the S-box is computed, not looked up, on 64 bytes at once that are
 * turned into eight planes of bits. Slow (tens of MB/s), the same time for every key and text. */
#include "sm4_field.h"
#include "sm4_kernel.h"

enum { WORDS = 16 }; /* of one call of the S-box: one word of each of sixteen blocks */

/* Bit k of plane[b] is bit b of byte k. */
typedef struct {
    uint64_t bit[8];
} planes;

/* Transpose an 8 x 8 matrix of bits held in a word, row i in byte i. */
static uint64_t transpose_bits(uint64_t x) {
    uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aa;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000cccc;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0;
    return x ^ t ^ t << 28;
}

static planes to_planes(const uint32_t words[WORDS]) {
    planes p = {{0}};
    for (int i = 0; i < 8; i++) {
        uint64_t rows = transpose_bits((uint64_t)words[2 * i + 1] << 32 | words[2 * i]);
        for (int b = 0; b < 8; b++)
            p.bit[b] |= (rows >> (8 * b) & 0xff) << (8 * i);
    }
    return p;
}

static void from_planes(const planes *p, uint32_t words[WORDS]) {
    for (int i = 0; i < 8; i++) {
        uint64_t rows = 0;
        for (int b = 0; b < 8; b++)
            rows |= (p->bit[b] >> (8 * i) & 0xff) << (8 * b);
        rows = transpose_bits(rows);
        words[2 * i] = (uint32_t)rows;
        words[2 * i + 1] = (uint32_t)(rows >> 32);
    }
}

/* Modulo x^8 + x^7 + x^6 + x^5 + x^4 + x^2 + 1. */
static planes reduce(uint64_t r[15]) {
    planes p;
    for (int k = 14; k >= 8; k--) {
        r[k - 1] ^= r[k];
        r[k - 2] ^= r[k];
        r[k - 3] ^= r[k];
        r[k - 4] ^= r[k];
        r[k - 6] ^= r[k];
        r[k - 8] ^= r[k];
    }
    memcpy(p.bit, r, sizeof p.bit);
    return p;
}

static planes multiply(planes a, planes b) {
    uint64_t r[15] = {0};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            r[i + j] ^= a.bit[i] & b.bit[j];
    return reduce(r);
}

static planes square(planes a, int times) {
    for (; times > 0; times--) {
        uint64_t r[15] = {0};
        for (int i = 0; i < 8; i++)
            r[2 * i] = a.bit[i];
        a = reduce(r);
    }
    return a;
}

static planes affine(planes a) {
    static const uint8_t ROWS[8] = {SM4_ROWS};
    planes p;
    for (int i = 0; i < 8; i++) {
        p.bit[i] = SM4_ROWS_CONSTANT >> i & 1 ? ~UINT64_C(0) : 0;
        for (int j = 0; j < 8; j++)
            if (ROWS[i] >> j & 1)
                p.bit[i] ^= a.bit[j];
    }
    return p;
}

/* x^254, which is 1/x and maps 0 to 0. */
static planes inverse(planes x) {
    planes x2 = square(x, 1);
    planes x3 = multiply(x2, x);
    planes x12 = square(x3, 2);
    planes x240 = square(multiply(x12, x3), 4);
    return multiply(multiply(x240, x12), x2);
}

static void substitute(uint32_t words[WORDS]) {
    planes p = affine(inverse(affine(to_planes(words))));
    from_planes(&p, words);
}

uint32_t vdr_sm4_substitute(uint32_t word) {
    uint32_t words[WORDS] = {word};
    substitute(words);
    return words[0];
}

static uint32_t rotl(uint32_t x, int bits) {
    return x << bits | x >> (32 - bits);
}

static void encrypt(const uint32_t round_keys[SM4_ROUNDS], uint32_t state[4][WORDS]) {
    for (int round = 0; round < SM4_ROUNDS; round++) {
        uint32_t *a = state[round % 4], *b = state[(round + 1) % 4], *c = state[(round + 2) % 4],
                 *d = state[(round + 3) % 4];
        uint32_t t[WORDS];
        for (int i = 0; i < WORDS; i++)
            t[i] = b[i] ^ c[i] ^ d[i] ^ round_keys[round];
        substitute(t);
        for (int i = 0; i < WORDS; i++)
            a[i] ^= t[i] ^ rotl(t[i], 2) ^ rotl(t[i], 10) ^ rotl(t[i], 18) ^ rotl(t[i], 24);
    }
}

void vdr_sm4_ctr_reference(const uint32_t round_keys[SM4_ROUNDS], const uint8_t nonce[12], uint32_t counter,
                           const uint8_t *in, uint8_t *out, size_t bytes) {
    for (; bytes > 0; bytes -= SM4_UNIT_REFERENCE) {
        uint32_t state[4][WORDS];
        for (int i = 0; i < WORDS; i++) {
            for (int word = 0; word < 3; word++)
                state[word][i] = sm4_load(nonce + 4 * word);
            state[3][i] = counter++;
        }
        encrypt(round_keys, state);
        for (int i = 0; i < WORDS; i++, in += SM4_BLOCK_BYTES, out += SM4_BLOCK_BYTES)
            for (int word = 0; word < 4; word++) /* the last word comes out first */
                sm4_store(out + 4 * word, sm4_load(in + 4 * word) ^ state[3 - word][i]);
    }
}

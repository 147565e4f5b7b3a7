#include "ghash.h"

#include <string.h>

static uint64_t load_be64(const uint8_t *p) {
    uint64_t value;
    memcpy(&value, p, 8);
    return __builtin_bswap64(value);
}

static void store_be64(uint8_t *p, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(p, &value, 8);
}

/* x *= h, bit by bit as the standard writes it, with masks in place of branches. */
static void multiply(uint64_t x[2], const uint64_t h[2]) {
    uint64_t high = 0, low = 0, v_high = h[0], v_low = h[1];
    for (int i = 0; i < 128; i++) {
        uint64_t take = 0 - (x[i / 64] >> (63 - i % 64) & 1);
        high ^= v_high & take;
        low ^= v_low & take;
        uint64_t carry = 0 - (v_low & 1);
        v_low = v_low >> 1 | v_high << 63;
        v_high = v_high >> 1 ^ (carry & 0xe100000000000000);
    }
    x[0] = high;
    x[1] = low;
}

static void blocks_scalar(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks) {
    uint64_t h[2] = {load_be64(key->h), load_be64(key->h + 8)};
    uint64_t x[2] = {load_be64(y), load_be64(y + 8)};
    for (; blocks > 0; blocks--, data += GHASH_BLOCK_BYTES) {
        x[0] ^= load_be64(data);
        x[1] ^= load_be64(data + 8);
        multiply(x, h);
    }
    store_be64(y, x[0]);
    store_be64(y + 8, x[1]);
}

int vdr_ghash_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("ssse3")) {
        if (__builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl"))
            return VDR_GHASH_VPCLMUL;
        return VDR_GHASH_PCLMUL;
    }
#endif
    return VDR_GHASH_SCALAR;
}

void vdr_ghash_open(vdr_ghash_key *key, int level, const uint8_t h[16]) {
    key->level = level;
    memcpy(key->h, h, sizeof key->h);
#if defined(__x86_64__)
    if (level >= VDR_GHASH_PCLMUL)
        vdr_ghash_prepare_pclmul(key);
#endif
}

static void update(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks) {
#if defined(__x86_64__)
    if (key->level == VDR_GHASH_VPCLMUL) {
        vdr_ghash_blocks_vpclmul(key, y, data, blocks);
        return;
    }
    if (key->level == VDR_GHASH_PCLMUL) {
        vdr_ghash_blocks_pclmul(key, y, data, blocks);
        return;
    }
#endif
    blocks_scalar(key, y, data, blocks);
}

void vdr_ghash_update(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t bytes) {
    size_t blocks = bytes / GHASH_BLOCK_BYTES, rest = bytes % GHASH_BLOCK_BYTES;
    if (blocks > 0)
        update(key, y, data, blocks);
    if (rest > 0) {
        uint8_t last[GHASH_BLOCK_BYTES] = {0};
        memcpy(last, data + blocks * GHASH_BLOCK_BYTES, rest);
        update(key, y, last, 1);
    }
}

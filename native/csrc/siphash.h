/* SipHash-2-4 (Aumasson and Bernstein, 2012), 64 bits: a short MAC for what peers hand back, such as file handles. */
#ifndef VDR_SIPHASH_H
#define VDR_SIPHASH_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

enum { VDR_SIPHASH_KEY_BYTES = 16 };

static inline void vdr_siphash_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
    v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
    v[0] = v[0] << 32 | v[0] >> 32;
    v[2] += v[1];
    v[0] += v[3];
    v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
    v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
    v[2] = v[2] << 32 | v[2] >> 32;
}

static inline void vdr_siphash_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    vdr_siphash_round(v);
    vdr_siphash_round(v);
    v[0] ^= word;
}

static inline uint64_t vdr_siphash(const uint8_t key[VDR_SIPHASH_KEY_BYTES], const void *data, size_t bytes)
{
    uint64_t k[2], word;
    memcpy(k, key, sizeof k);
    k[0] = le64toh(k[0]);
    k[1] = le64toh(k[1]);
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575u, k[1] ^ 0x646f72616e646f6du, k[0] ^ 0x6c7967656e657261u,
                     k[1] ^ 0x7465646279746573u};
    const uint8_t *next = data;
    for (size_t left = bytes; left >= 8; left -= 8, next += 8) {
        memcpy(&word, next, 8);
        vdr_siphash_word(v, le64toh(word));
    }
    word = 0;
    memcpy(&word, next, bytes % 8);
    vdr_siphash_word(v, le64toh(word) | (uint64_t)bytes << 56);
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        vdr_siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif

/* GHASH, the universal hash of GCM (NIST SP 800-38D). Private to the C core. Constant-time in key and data. */
#ifndef VDR_GHASH_H
#define VDR_GHASH_H

#include <stddef.h>
#include <stdint.h>

enum { GHASH_BLOCK_BYTES = 16, GHASH_POWERS = 16 };

typedef enum { VDR_GHASH_SCALAR = 0, VDR_GHASH_PCLMUL = 1, VDR_GHASH_VPCLMUL = 2 } vdr_ghash_level;

/* A key H: as it is, and powers[i] = H^(GHASH_POWERS - i) prepared for carry-less multiplication, so that sixteen blocks
 * need one reduction. */
typedef struct {
    uint8_t h[GHASH_BLOCK_BYTES];
    uint8_t powers[GHASH_POWERS][GHASH_BLOCK_BYTES] __attribute__((aligned(64)));
    int level;
} vdr_ghash_key;

int vdr_ghash_best(void);

/* `level` must be at most vdr_ghash_best(). */
void vdr_ghash_open(vdr_ghash_key *key, int level, const uint8_t h[16]);

/* Take data into the state y (zero at the start); a last incomplete block is filled with zeros, so only the last call for
 * one kind of data (associated data, ciphertext) may have bytes % 16 != 0. */
void vdr_ghash_update(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t bytes);

/* Kernels: whole blocks only. */
void vdr_ghash_prepare_pclmul(vdr_ghash_key *key);
void vdr_ghash_blocks_pclmul(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks);
void vdr_ghash_blocks_vpclmul(const vdr_ghash_key *key, uint8_t y[16], const uint8_t *data, size_t blocks);

#endif

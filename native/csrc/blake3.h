/* BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs): chunk ids, key derivation, fingerprints. Stateless; thread-safe;
 * no allocation. Data may be NULL when its length is 0. Digests are 32 bytes unless a length is given. */
#ifndef VDR_BLAKE3_H
#define VDR_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
/* How the compression function is run; a higher level is faster and needs a newer CPU. All give the same digest. */
typedef enum { VDR_BLAKE3_SCALAR = 0, VDR_BLAKE3_AVX2 = 1, VDR_BLAKE3_AVX512 = 2 } vdr_blake3_level;

/* Plain hash. Returns VDR_OK. */
int vdr_blake3_hash(const uint8_t *data, size_t bytes, uint8_t out[32]);

/* Keyed hash: names a chunk so that only holders of the key can tell which content it has. Returns VDR_OK. */
int vdr_blake3_keyed(const uint8_t key[32], const uint8_t *data, size_t bytes, uint8_t out[32]);

/* Keyed hash of `count` pieces: piece i is data[offsets[i]], lengths[i] bytes long; its digest goes to out + 32 * i.
 * Pieces may overlap and be empty. The caller has checked that they lie inside the data. Returns `count`. */
int64_t vdr_blake3_keyed_batch(const uint8_t key[32], const uint8_t *data, const uint64_t *offsets,
                               const uint32_t *lengths, size_t count, uint8_t *out);

/* derive_key mode: `out_bytes` bytes of key from key material, bound to a context string that is a constant of the
 * program and used for nothing else. Returns VDR_OK. */
int vdr_blake3_derive(const char *context, const uint8_t *ikm, size_t bytes, uint8_t *out, size_t out_bytes);

/* Best level of this CPU, and for tests the keyed hash at a given level; VDR_E_ARGUMENT when the CPU lacks it. */
int vdr_blake3_best(void);
int vdr_blake3_keyed_at(int level, const uint8_t key[32], const uint8_t *data, size_t bytes, uint8_t out[32]);
/* cffi: end */

#endif

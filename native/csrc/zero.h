/* Finding zeros: holes that must not be hashed, compressed or stored. Reads each byte once at memory speed and stops at the
 * first byte that is not zero. */
#ifndef VDR_ZERO_H
#define VDR_ZERO_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
/* How the bytes are read; a higher level is faster and needs a newer CPU. All give the same answer. */
typedef enum { VDR_ZERO_SCALAR = 0, VDR_ZERO_AVX2 = 1, VDR_ZERO_AVX512 = 2 } vdr_zero_level;

/* 1 if all `bytes` bytes are zero (none at all counts as zero), else 0. */
int vdr_zero_is(const uint8_t *data, size_t bytes);

/* Cut `data` into blocks of `block_bytes` (> 0; the last may be short) and set flags[i] to 1 where block i is all zero,
 * else 0. `flags` holds ceil(bytes / block_bytes). Returns the number of zero blocks. */
int64_t vdr_zero_blocks(const uint8_t *data, size_t bytes, size_t block_bytes, uint8_t *flags);

/* Best level of this CPU, and for tests the question asked at a given level (VDR_E_ARGUMENT when the
 * CPU lacks the level). */
int vdr_zero_best(void);
int vdr_zero_is_at(int level, const uint8_t *data, size_t bytes);
/* cffi: end */

#endif

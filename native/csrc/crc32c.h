/* CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected, as in RFC 3720): framing checks against accidents, not against
 * an attacker. One SSE4.2 instruction per eight bytes where the CPU has it, else a table. */
#ifndef VDR_CRC32C_H
#define VDR_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
/* CRC of `previous`'s bytes followed by `data`; start with previous = 0. Check value: "123456789" -> 0xe3069283. */
uint32_t vdr_crc32c(uint32_t previous, const uint8_t *data, size_t bytes);

/* For tests: the same through the table, whatever the CPU offers. */
uint32_t vdr_crc32c_table(uint32_t previous, const uint8_t *data, size_t bytes);
/* cffi: end */

#endif

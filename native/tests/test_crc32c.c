/* CRC-32C: check values, and the instruction the same as the table. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "crc32c.h"
#include "pattern.h"

int main(void) {
    uint8_t data[1000], zeros[32] = {0}, ones[32];
    memset(ones, 0xff, sizeof ones);
    assert(vdr_crc32c(0, (const uint8_t *)"123456789", 9) == 0xe3069283);
    assert(vdr_crc32c(0, zeros, 32) == 0x8a9136aa); /* RFC 3720, B.4 */
    assert(vdr_crc32c(0, ones, 32) == 0x62a8ab43);
    assert(vdr_crc32c(77, NULL, 0) == 77);
    fill_pattern(4, data, sizeof data);
    for (size_t bytes = 0; bytes < sizeof data; bytes++) {
        uint32_t whole = vdr_crc32c_table(0, data, bytes);
        assert(vdr_crc32c(0, data, bytes) == whole);
        assert(vdr_crc32c(vdr_crc32c(0, data, bytes / 3), data + bytes / 3, bytes - bytes / 3) == whole);
    }
    return 0;
}

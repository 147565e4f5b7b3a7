/* Zero detection: one byte anywhere is seen, at every level, length and alignment. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "zero.h"

static void check_level(int level, uint8_t *data) {
    for (size_t start = 0; start < 9; start += 4)
        for (size_t bytes = 0; bytes < 900; bytes += 1 + bytes / 50) {
            assert(vdr_zero_is_at(level, data + start, bytes) == 1);
            for (size_t at = 0; at < bytes; at += 1 + at / 60) {
                data[start + at] = 0x10;
                assert(vdr_zero_is_at(level, data + start, bytes) == 0);
                data[start + at] = 0;
            }
            data[start + bytes] = 1; /* just outside */
            assert(vdr_zero_is_at(level, data + start, bytes) == 1);
            data[start + bytes] = 0;
        }
}

int main(void) {
    uint8_t data[2000] = {0}, flags[3];
    for (int level = VDR_ZERO_SCALAR; level <= vdr_zero_best(); level++)
        check_level(level, data);
    assert(vdr_zero_is_at(vdr_zero_best() + 1, data, 8) == VDR_E_ARGUMENT);
    assert(vdr_zero_is(NULL, 0) == 1);
    data[700] = 1;
    assert(vdr_zero_blocks(data, 1700, 600, flags) == 2);
    assert(flags[0] == 1 && flags[1] == 0 && flags[2] == 1);
    data[1699] = 1;
    assert(vdr_zero_blocks(data, 1700, 600, flags) == 1 && flags[2] == 0);
    assert(vdr_zero_blocks(data, 0, 600, flags) == 0);
    assert(vdr_zero_blocks(data, 10, 0, flags) == VDR_E_ARGUMENT);
    return 0;
}

/* Reproducible bytes for tests: the same seed gives the same bytes on every machine. */
#ifndef VDR_TEST_PATTERN_H
#define VDR_TEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>

/* splitmix64, one byte of each output. */
static inline void fill_pattern(uint64_t seed, uint8_t *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        out[i] = (uint8_t)(z >> 40);
    }
}

static inline void from_hex(const char *hex, uint8_t *out) {
    for (; hex[0] != 0; hex += 2) {
        int high = hex[0] <= '9' ? hex[0] - '0' : hex[0] - 'a' + 10;
        int low = hex[1] <= '9' ? hex[1] - '0' : hex[1] - 'a' + 10;
        *out++ = (uint8_t)(high << 4 | low);
    }
}

#endif

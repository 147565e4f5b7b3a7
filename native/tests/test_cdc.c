/* Content-defined cuts: limits hold, buffers do not matter, an insertion moves only the cuts beside it. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc.h"
#include "pattern.h"

enum { BYTES = 8 << 20, MIN = 1024, AVERAGE = 4096, MAX = 16384, CAPACITY = BYTES / MIN + 1 };

static int64_t cut_all(const vdr_cdc *cdc, const uint8_t *data, size_t bytes, uint32_t *lengths) {
    int64_t count = vdr_cdc_cut(cdc, data, bytes, 1, lengths, CAPACITY);
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        assert(lengths[i] <= MAX && (lengths[i] >= MIN || i == count - 1));
        sum += lengths[i];
    }
    assert(sum == bytes);
    return count;
}

static void check_buffers_do_not_matter(const vdr_cdc *cdc, const uint8_t *data, const uint32_t *whole, int64_t count) {
    uint32_t some[7];
    size_t at = 0;
    int64_t i = 0;
    for (size_t window = 3000; at < BYTES; window = (window * 7 + 13) % 60000) {
        size_t bytes = BYTES - at < window ? BYTES - at : window;
        int final = at + bytes == BYTES;
        int64_t found = vdr_cdc_cut(cdc, data + at, bytes, final, some, 7);
        assert(found >= 0 && (found > 0 || bytes < MAX));
        for (int64_t k = 0; k < found; k++, i++) {
            assert(some[k] == whole[i]);
            at += some[k];
        }
    }
    assert(i == count);
}

/* Cut places as offsets from the end agree before long after one inserted byte. */
static void check_insertion_heals(const vdr_cdc *cdc, uint8_t *data, const uint32_t *whole, int64_t count) {
    uint32_t *after = malloc(CAPACITY * sizeof *after);
    enum { PLACE = 1 << 20 };
    memmove(data + PLACE + 1, data + PLACE, BYTES - PLACE - 1); /* the last byte falls off */
    data[PLACE] ^= 0x5a;
    int64_t count_after = cut_all(cdc, data, BYTES, after);
    uint64_t a = 0, b = 0;
    int64_t i = 0, j = 0, same = 0;
    while (i < count && j < count_after) {
        if (a + 1 == b && a > PLACE)
            same++;
        if (a + 1 <= b)
            a += whole[i++];
        else
            b += after[j++];
    }
    assert(same * 10 > count * 8); /* seven eighths of the data lie behind the insertion */
    free(after);
}

int main(void) {
    uint8_t key[32] = {1}, *data = malloc(BYTES);
    uint32_t *lengths = malloc(CAPACITY * sizeof *lengths), *other = malloc(CAPACITY * sizeof *other);
    assert(data != NULL && lengths != NULL && other != NULL);
    fill_pattern(6, data, BYTES);
    vdr_cdc *cdc = vdr_cdc_open(key, MIN, AVERAGE, MAX);
    int64_t count = cut_all(cdc, data, BYTES, lengths);
    printf("%d bytes in %ld chunks: %ld on average\n", BYTES, (long)count, (long)(BYTES / count));
    assert(count > BYTES / (AVERAGE * 5 / 4) && count < BYTES / (AVERAGE * 3 / 4));
    check_buffers_do_not_matter(cdc, data, lengths, count);
    check_insertion_heals(cdc, data, lengths, count);

    key[0] = 2;
    vdr_cdc *other_key = vdr_cdc_open(key, MIN, AVERAGE, MAX);
    int64_t other_count = cut_all(other_key, data, BYTES, other);
    assert(other_count != count || memcmp(lengths, other, (size_t)count * 4) != 0);

    memset(data, 0, BYTES);
    count = cut_all(cdc, data, BYTES, lengths); /* a constant: all alike, no endless loop */
    assert(vdr_cdc_cut(cdc, data, 0, 1, lengths, 1) == 0);
    assert(vdr_cdc_cut(cdc, data, 5, 0, lengths, 1) == 0);
    assert(vdr_cdc_cut(cdc, data, 5, 1, lengths, 1) == 1 && lengths[0] == 5);
    assert(vdr_cdc_open(key, 63, 4096, 8192) == NULL && vdr_cdc_open(key, 4096, 1024, 8192) == NULL);
    assert(vdr_cdc_open(key, 64, 4096, 4095) == NULL && vdr_cdc_open(key, 64, 64, UINT32_MAX) == NULL);
    vdr_cdc_close(cdc);
    vdr_cdc_close(other_key);
    vdr_cdc_close(NULL);
    free(data);
    free(lengths);
    free(other);
    return 0;
}

/* Bitmaps against one byte per bit. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "bitmap.h"
#include "pattern.h"

enum { BITS = 300, WORDS = (BITS + 63) / 64 };

static void check_equal(const uint64_t *words, const uint8_t *model) {
    for (uint64_t bit = 0; bit < BITS; bit++)
        assert(vdr_bitmap_test(words, bit) == model[bit]);
    assert(words[WORDS - 1] >> (BITS % 64) == 0);
}

static void check_queries(const uint64_t *words, const uint8_t *model, uint64_t begin, uint64_t end) {
    uint64_t count = 0, set = end, clear = end;
    for (uint64_t bit = end; bit-- > begin;) {
        count += model[bit];
        if (model[bit])
            set = bit;
        else
            clear = bit;
    }
    assert(vdr_bitmap_count(words, begin, end) == count);
    assert(vdr_bitmap_next_set(words, begin, end) == set);
    assert(vdr_bitmap_next_clear(words, begin, end) == clear);
    /* Runs, three at a time, cover exactly the set bits. */
    vdr_bitmap_run runs[3];
    uint64_t at = begin, covered = 0;
    int64_t found;
    do {
        found = vdr_bitmap_runs(words, at, end, runs, 3);
        for (int64_t i = 0; i < found; i++) {
            assert(runs[i].begin >= at && runs[i].end > runs[i].begin && runs[i].end <= end);
            assert(runs[i].begin == begin || runs[i].begin == at || model[runs[i].begin - 1] == 0);
            for (uint64_t bit = runs[i].begin; bit < runs[i].end; bit++)
                assert(model[bit] == 1);
            covered += runs[i].end - runs[i].begin;
            at = runs[i].end;
        }
    } while (found == 3);
    assert(covered == count);
}

int main(void) {
    uint64_t words[WORDS] = {0}, other[WORDS] = {0}, result[WORDS];
    uint8_t model[BITS] = {0}, other_model[BITS] = {0}, expected[BITS], random[4000];
    fill_pattern(5, random, sizeof random);
    for (size_t i = 0; i + 4 < sizeof random; i += 4) {
        uint64_t begin = (random[i] * 256u + random[i + 1]) % BITS;
        uint64_t end = begin + random[i + 2] % (BITS - begin + 1);
        uint64_t *target = random[i + 3] & 2 ? words : other;
        uint8_t *target_model = random[i + 3] & 2 ? model : other_model;
        if (random[i + 3] & 1)
            vdr_bitmap_set(target, begin, end);
        else
            vdr_bitmap_clear(target, begin, end);
        memset(target_model + begin, random[i + 3] & 1, end - begin);
        check_equal(target, target_model);
        check_queries(target, target_model, begin / 2, end);
        check_queries(target, target_model, 0, BITS);
    }
    memcpy(result, words, sizeof words);
    vdr_bitmap_or(result, other, WORDS);
    for (int i = 0; i < BITS; i++)
        expected[i] = model[i] | other_model[i];
    check_equal(result, expected);
    memcpy(result, words, sizeof words);
    vdr_bitmap_and(result, other, WORDS);
    for (int i = 0; i < BITS; i++)
        expected[i] = model[i] & other_model[i];
    check_equal(result, expected);
    memcpy(result, words, sizeof words);
    vdr_bitmap_andnot(result, other, WORDS);
    for (int i = 0; i < BITS; i++)
        expected[i] = model[i] & !other_model[i];
    check_equal(result, expected);
    return 0;
}

#include "bitmap.h"

/* Bits of word `index` that lie in [begin, end); the word must touch the range. */
static uint64_t range_mask(uint64_t index, uint64_t begin, uint64_t end) {
    uint64_t mask = ~UINT64_C(0);
    if (index == begin / 64)
        mask &= ~UINT64_C(0) << (begin % 64);
    if (index == end / 64)
        mask &= ~(~UINT64_C(0) << (end % 64));
    return mask;
}

/* Number of the word after the last that [.., end) touches. */
static uint64_t words_end(uint64_t end) {
    return end / 64 + (end % 64 != 0);
}

void vdr_bitmap_set(uint64_t *words, uint64_t begin, uint64_t end) {
    if (begin >= end)
        return;
    for (uint64_t i = begin / 64; i < words_end(end); i++)
        words[i] |= range_mask(i, begin, end);
}

void vdr_bitmap_clear(uint64_t *words, uint64_t begin, uint64_t end) {
    if (begin >= end)
        return;
    for (uint64_t i = begin / 64; i < words_end(end); i++)
        words[i] &= ~range_mask(i, begin, end);
}

int vdr_bitmap_test(const uint64_t *words, uint64_t bit) {
    return (int)(words[bit / 64] >> (bit % 64) & 1);
}

uint64_t vdr_bitmap_count(const uint64_t *words, uint64_t begin, uint64_t end) {
    uint64_t count = 0;
    if (begin >= end)
        return 0;
    for (uint64_t i = begin / 64; i < words_end(end); i++)
        count += (uint64_t)__builtin_popcountll(words[i] & range_mask(i, begin, end));
    return count;
}

void vdr_bitmap_or(uint64_t *into, const uint64_t *from, size_t words) {
    for (size_t i = 0; i < words; i++)
        into[i] |= from[i];
}

void vdr_bitmap_and(uint64_t *into, const uint64_t *from, size_t words) {
    for (size_t i = 0; i < words; i++)
        into[i] &= from[i];
}

void vdr_bitmap_andnot(uint64_t *into, const uint64_t *from, size_t words) {
    for (size_t i = 0; i < words; i++)
        into[i] &= ~from[i];
}

/* First bit of the range in `words ^ flip`. */
static uint64_t next(const uint64_t *words, uint64_t flip, uint64_t begin, uint64_t end) {
    if (begin >= end)
        return end;
    uint64_t i = begin / 64;
    uint64_t word = (words[i] ^ flip) & (~UINT64_C(0) << (begin % 64));
    while (word == 0) {
        if (++i >= words_end(end))
            return end;
        word = words[i] ^ flip;
    }
    uint64_t bit = i * 64 + (uint64_t)__builtin_ctzll(word);
    return bit < end ? bit : end;
}

uint64_t vdr_bitmap_next_set(const uint64_t *words, uint64_t begin, uint64_t end) {
    return next(words, 0, begin, end);
}

uint64_t vdr_bitmap_next_clear(const uint64_t *words, uint64_t begin, uint64_t end) {
    return next(words, ~UINT64_C(0), begin, end);
}

int vdr_bitmap_next_run(const uint64_t *words, uint64_t begin, uint64_t end, vdr_bitmap_run *run) {
    uint64_t first = vdr_bitmap_next_set(words, begin, end);
    if (first >= end)
        return 0;
    run->begin = first;
    run->end = vdr_bitmap_next_clear(words, first, end);
    return 1;
}

int64_t vdr_bitmap_runs(const uint64_t *words, uint64_t begin, uint64_t end, vdr_bitmap_run *runs, size_t capacity) {
    size_t count = 0;
    while (count < capacity && vdr_bitmap_next_run(words, begin, end, &runs[count]))
        begin = runs[count++].end;
    return (int64_t)count;
}

/* A set of block numbers as bits: which blocks changed, which are in an overlay, which are still to be sent.
 *
 *     bit b of the map = bit (b % 64) of words[b / 64]
 *
 * On disk and on the wire the words are little-endian, so byte b / 8, bit b % 8 is the same bit. The caller owns the words;
 * ranges are half-open [begin, end) and must lie inside the map; bits past the map's end in the last word stay zero, so
 * counting and combining need no mask. Not atomic: a map that several threads write needs a lock around it. */
#ifndef VDR_BITMAP_H
#define VDR_BITMAP_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef struct { uint64_t begin, end; } vdr_bitmap_run;

void vdr_bitmap_set(uint64_t *words, uint64_t begin, uint64_t end);
void vdr_bitmap_clear(uint64_t *words, uint64_t begin, uint64_t end);
int vdr_bitmap_test(const uint64_t *words, uint64_t bit);

/* Number of set bits in the range. */
uint64_t vdr_bitmap_count(const uint64_t *words, uint64_t begin, uint64_t end);

/* into |= from; into &= from; into &= ~from. */
void vdr_bitmap_or(uint64_t *into, const uint64_t *from, size_t words);
void vdr_bitmap_and(uint64_t *into, const uint64_t *from, size_t words);
void vdr_bitmap_andnot(uint64_t *into, const uint64_t *from, size_t words);

/* First set (or clear) bit in the range, `end` if there is none. */
uint64_t vdr_bitmap_next_set(const uint64_t *words, uint64_t begin, uint64_t end);
uint64_t vdr_bitmap_next_clear(const uint64_t *words, uint64_t begin, uint64_t end);

/* First run of set bits in the range: returns 1 and fills *run, or 0 and leaves it. */
int vdr_bitmap_next_run(const uint64_t *words, uint64_t begin, uint64_t end, vdr_bitmap_run *run);

/* Up to `capacity` runs of set bits in the range, in order. Returns how many; if it equals `capacity` go on with
 * begin = runs[capacity - 1].end. */
int64_t vdr_bitmap_runs(const uint64_t *words, uint64_t begin, uint64_t end, vdr_bitmap_run *runs, size_t capacity);
/* cffi: end */

#endif

#include "cdc.h"

#include <stdlib.h>
#include <string.h>

#include "blake3.h"

struct vdr_cdc {
    uint64_t gear[256];
    uint32_t min_bytes, average_bytes, max_bytes;
    uint64_t before, after; /* a cut where the hash is below: rare before the average, easy after it */
};

vdr_cdc *vdr_cdc_open(const uint8_t key[32], uint32_t min_bytes, uint32_t average_bytes, uint32_t max_bytes) {
    if (min_bytes < VDR_CDC_WINDOW_BYTES || average_bytes < min_bytes || max_bytes < average_bytes ||
        max_bytes > INT32_MAX)
        return NULL;
    vdr_cdc *cdc = malloc(sizeof *cdc);
    if (cdc == NULL)
        return NULL;
    cdc->min_bytes = min_bytes;
    cdc->average_bytes = average_bytes;
    cdc->max_bytes = max_bytes;
    cdc->before = UINT64_MAX / ((uint64_t)average_bytes * 4);
    cdc->after = UINT64_MAX / ((uint64_t)average_bytes / 4);
    vdr_blake3_derive("vdr 2026 content-defined cuts, gear table", key, 32, (uint8_t *)cdc->gear, sizeof cdc->gear);
    return cdc;
}

void vdr_cdc_close(vdr_cdc *cdc) {
    if (cdc == NULL)
        return;
    explicit_bzero(cdc, sizeof *cdc);
    free(cdc);
}

/* Scan [from, to) with the running hash; returns the place after the first byte that makes a cut, or 0. In steps of two
 * bytes, where the second hash does not wait for the first: the chain of dependent instructions is the limit here. */
static size_t scan(const vdr_cdc *cdc, const uint8_t *data, size_t from, size_t to, uint64_t below, uint64_t *hash) {
    uint64_t h = *hash;
    size_t i = from;
    for (; i + 2 <= to; i += 2) {
        uint64_t first = cdc->gear[data[i]], second = cdc->gear[data[i + 1]];
        uint64_t between = 2 * h + first;
        h = 4 * h + (2 * first + second);
        if (between < below)
            return i + 1;
        if (h < below)
            return i + 2;
    }
    if (i < to) {
        h = 2 * h + cdc->gear[data[i]];
        if (h < below)
            return i + 1;
    }
    *hash = h;
    return 0;
}

/* Length of the chunk that begins at `data`, or 0 when more bytes are needed to tell. */
static size_t next_cut(const vdr_cdc *cdc, const uint8_t *data, size_t bytes) {
    size_t end = bytes < cdc->max_bytes ? bytes : cdc->max_bytes;
    if (bytes < cdc->min_bytes)
        return 0;
    /* The first place that is judged is after byte min_bytes: the window before it is read, not judged. */
    uint64_t hash = 0;
    for (size_t i = cdc->min_bytes - VDR_CDC_WINDOW_BYTES; i < cdc->min_bytes - 1; i++)
        hash = (hash << 1) + cdc->gear[data[i]];
    size_t middle = end < cdc->average_bytes ? end : cdc->average_bytes;
    size_t cut = scan(cdc, data, cdc->min_bytes - 1, middle, cdc->before, &hash);
    if (cut == 0)
        cut = scan(cdc, data, middle, end, cdc->after, &hash);
    if (cut == 0 && end == cdc->max_bytes)
        cut = end;
    return cut;
}

int64_t vdr_cdc_cut(const vdr_cdc *cdc, const uint8_t *data, size_t bytes, int final, uint32_t *lengths,
                    size_t capacity) {
    size_t count = 0;
    while (bytes > 0 && count < capacity) {
        size_t cut = next_cut(cdc, data, bytes);
        if (cut == 0) {
            if (!final)
                break;
            cut = bytes; /* below max_bytes, or next_cut() would have cut there */
        }
        lengths[count++] = (uint32_t)cut;
        data += cut;
        bytes -= cut;
    }
    return (int64_t)count;
}

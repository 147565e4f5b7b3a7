/* Content-defined cuts: a stream is cut where its own bytes say so, so that an insertion moves only the cuts beside it.
 *
 * A gear hash, h = 2 h + gear[byte], is the weighted sum of the last 64 bytes. A chunk ends after the first byte, at least
 * `min_bytes` into it, where h < 2^64 / n; n is 4 * average before `average_bytes` and average / 4 after it (the normalised
 * chunking of FastCDC, Xia et al., USENIX ATC 2016), and at the latest after `max_bytes`. The hash runs over the 64 bytes
 * before the place it judges, wherever the chunk began: cut points depend on content and key only. The gear table is drawn
 * from a secret key, so that the lengths of stored chunks do not tell which well-known file they came from. */
#ifndef VDR_CDC_H
#define VDR_CDC_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_CDC_WINDOW_BYTES = 64,
    VDR_CDC_MIN_BYTES = 16384,      /* what the product uses */
    VDR_CDC_AVERAGE_BYTES = 65536,
    VDR_CDC_MAX_BYTES = 262144,
};

typedef struct vdr_cdc vdr_cdc;

/* Immutable after open, so any number of threads may cut with it. NULL unless
 * 64 <= min_bytes <= average_bytes <= max_bytes < 2^31, or without memory. close(NULL) does nothing. */
vdr_cdc *vdr_cdc_open(const uint8_t key[32], uint32_t min_bytes, uint32_t average_bytes, uint32_t max_bytes);
void vdr_cdc_close(vdr_cdc *cdc);

/* Lengths of the chunks at the front of `data`, which must begin at a cut (or at the stream's start). With `final` the
 * stream ends with the data, so the last chunk ends there too, however short. Without it only chunks that are decided are
 * returned; bytes after the last of them are the start of a chunk: put them before the next data and call again (a call
 * with at least max_bytes always decides one). The answer is the same however the stream was cut into buffers.
 * Returns the number of lengths written, at most `capacity`. */
int64_t vdr_cdc_cut(const vdr_cdc *cdc, const uint8_t *data, size_t bytes, int final, uint32_t *lengths,
                    size_t capacity);
/* cffi: end */

#endif

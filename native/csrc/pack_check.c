#include "pack_check.h"

#include <errno.h>
#include <unistd.h>

#include "err.h"

#define STEP_BYTES (1u << 20) /* read at once: long enough for the disk, short enough to stay in the cache while it is checked */

static uint64_t row_end(const vdr_chunk_row *row) { return (uint64_t)row->offset + VDR_CHUNK_HEADER_BYTES + row->stored_bytes; }

/* Bytes read, fewer only at the file's end; VDR_E_IO. */
static int64_t read_at(int fd, uint8_t *out, size_t bytes, uint64_t offset) {
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, out + got, bytes - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return VDR_E_IO;
        if (n == 0) break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

/* How many of the rows from `first` on stand in order within a step; at least one. */
static size_t rows_together(const vdr_chunk_row *rows, size_t count, size_t first) {
    size_t end = first + 1;
    while (end < count && rows[end].offset >= row_end(&rows[end - 1]) && row_end(&rows[end]) - rows[first].offset <= STEP_BYTES) end++;
    return end - first;
}

int64_t vdr_pack_check_records(int fd, vdr_aead *aead, int encryption, vdr_decoder *decoder, const uint8_t *id_keys,
                               const vdr_chunk_row *rows, size_t count, uint8_t *window, int8_t *status,
                               uint64_t *read_bytes) {
    int64_t good = 0;
    *read_bytes = 0;
    size_t together;
    for (size_t first = 0; first < count; first += together) {
        together = rows_together(rows, count, first);
        uint64_t base = rows[first].offset, bytes = row_end(&rows[first + together - 1]) - base;
        if (bytes > VDR_PACK_CHECK_WINDOW_BYTES) bytes = VDR_PACK_CHECK_WINDOW_BYTES; /* a row that lies: it fails below */
        int64_t got = read_at(fd, window, (size_t)bytes, base);
        if (got < 0 && together > 1) { /* find out which of them it is */
            together = 1;
            bytes = row_end(&rows[first]) - base;
            got = read_at(fd, window, (size_t)bytes, base);
        }
        if (got < 0) {
            status[first] = VDR_E_IO;
            continue;
        }
        *read_bytes += (uint64_t)got;
        int64_t n = vdr_chunk_verify(window, (size_t)got, base, aead, encryption, decoder, id_keys, rows + first, together, status + first);
        if (n < 0) return n;
        good += n;
    }
    return good;
}

int64_t vdr_pack_check_layout(const vdr_chunk_row *rows, size_t count, uint64_t offset) {
    for (size_t i = 0; i < count; i++) {
        if (rows[i].offset != offset) return VDR_E_CORRUPT;
        offset = row_end(&rows[i]);
    }
    return (int64_t)offset;
}

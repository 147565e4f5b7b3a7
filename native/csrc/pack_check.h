/* Checking the records of a closed pack, read from its file: every byte of each, as for a restore. */
#ifndef VDR_PACK_CHECK_H
#define VDR_PACK_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "aead.h"
#include "chunk.h"

/* cffi: begin */
enum {
    VDR_PACK_CHECK_WINDOW_BYTES = 5242880, /* of the caller's window: room for the longest record */
};

/* Check the records that `rows` names in the pack open as `fd`, through `window` (VDR_PACK_CHECK_WINDOW_BYTES). status[i] = VDR_OK or
 * what is wrong with record i, VDR_E_IO where the disk does not give it. *read_bytes = bytes read. Returns the number of
 * good records or VDR_E_MEMORY. */
int64_t vdr_pack_check_records(int fd, vdr_aead *aead, int encryption, vdr_decoder *decoder, const uint8_t *id_keys,
                               const vdr_chunk_row *rows, size_t count, uint8_t *window, int8_t *status,
                               uint64_t *read_bytes);
/* Where the last record ends when they stand back to back from `offset` on; VDR_E_CORRUPT when they do not. */
int64_t vdr_pack_check_layout(const vdr_chunk_row *rows, size_t count, uint64_t offset);
/* cffi: end */

#endif

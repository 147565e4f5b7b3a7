/* Checking a pack's records from its file: all good, any one bit of them wrong, rows that lie, a file cut short. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blake3.h"
#include "err.h"
#include "pack_check.h"

#define RECORDS 40u
#define PLAIN_BYTES 65536u

static uint8_t plain[RECORDS * PLAIN_BYTES], pack[RECORDS * (PLAIN_BYTES + 72) + 64], ids[RECORDS * 32];
static uint8_t id_keys[VDR_CHUNK_KINDS * 32];
static vdr_chunk_row rows[RECORDS];

static size_t make_pack(void) {
    static vdr_chunk_entry table[RECORDS];
    static vdr_place places[RECORDS];
    vdr_blake3_derive("test noise", (const uint8_t *)"", 0, plain, sizeof plain);
    for (size_t i = 0; i < RECORDS; i++) {
        table[i] = (vdr_chunk_entry){.plain_bytes = PLAIN_BYTES, .encoded_bytes = PLAIN_BYTES, .kind = 1};
        vdr_blake3_keyed(id_keys + 32, plain + i * PLAIN_BYTES, PLAIN_BYTES, ids + 32 * i);
    }
    int64_t bytes = vdr_chunk_seal(NULL, VDR_AEAD_NONE, ids, table, NULL, RECORDS, plain, sizeof plain, 0, 64, pack + 64,
                                   sizeof pack - 64, places);
    assert(bytes > 0);
    uint64_t end;
    assert(vdr_chunk_walk(pack, (size_t)bytes + 64, 64, VDR_AEAD_NONE, rows, RECORDS, &end) == RECORDS);
    return (size_t)end;
}

int main(void) {
    size_t bytes = make_pack();
    FILE *file = tmpfile();
    int fd = fileno(file);
    assert(pwrite(fd, pack, bytes, 0) == (ssize_t)bytes);
    uint8_t *window = malloc(VDR_PACK_CHECK_WINDOW_BYTES);
    vdr_decoder *decoder = vdr_decoder_open();
    int8_t status[RECORDS];
    uint64_t read_bytes;
    assert(vdr_pack_check_records(fd, NULL, VDR_AEAD_NONE, decoder, id_keys, rows, RECORDS, window, status, &read_bytes) == RECORDS);
    assert(read_bytes == bytes - 64);
    assert(vdr_pack_check_layout(rows, RECORDS, 64) == (int64_t)bytes);
    assert(vdr_pack_check_layout(rows + 1, RECORDS - 1, 64) == VDR_E_CORRUPT);
    for (size_t at = 64; at < bytes; at += 99991) {
        uint8_t wrong = pack[at] ^ 8;
        assert(pwrite(fd, &wrong, 1, (off_t)at) == 1);
        assert(vdr_pack_check_records(fd, NULL, VDR_AEAD_NONE, decoder, id_keys, rows, RECORDS, window, status, &read_bytes) == RECORDS - 1);
        for (size_t i = 0; i < RECORDS; i++) assert((status[i] != VDR_OK) == (at >= rows[i].offset && (i + 1 == RECORDS || at < rows[i + 1].offset)));
        assert(pwrite(fd, pack + at, 1, (off_t)at) == 1);
    }
    /* Rows that lie stay inside the window and the file. */
    vdr_chunk_row lie[3] = {rows[0], rows[1], rows[2]};
    lie[0].stored_bytes = UINT32_MAX;
    lie[1].offset = UINT32_MAX - 10;
    assert(vdr_pack_check_records(fd, NULL, VDR_AEAD_NONE, decoder, id_keys, lie, 3, window, status, &read_bytes) == 1);
    assert(status[0] == VDR_E_CORRUPT && status[1] == VDR_E_CORRUPT && status[2] == VDR_OK);
    assert(ftruncate(fd, (off_t)rows[RECORDS - 1].offset + 60) == 0);
    assert(vdr_pack_check_records(fd, NULL, VDR_AEAD_NONE, decoder, id_keys, rows, RECORDS, window, status, &read_bytes) == RECORDS - 1);
    assert(status[RECORDS - 1] == VDR_E_CORRUPT);
    vdr_decoder_close(decoder);
    free(window);
    fclose(file);
    return 0;
}

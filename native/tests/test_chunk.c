/* The chunk pipeline: names, codecs, records, and what becomes of bytes that were tampered with. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "blake3.h"
#include "chunk.h"
#include "err.h"

#define PIECES 4u
#define DATA_BYTES 300000u

static uint8_t data[DATA_BYTES], payload[DATA_BYTES], pack[DATA_BYTES + 4096], plain[DATA_BYTES];
static uint8_t id_keys[VDR_CHUNK_KINDS * 32], ids[PIECES * 32];
static const uint64_t offsets[PIECES] = {0, 65536, 131072, 196608};
static const uint32_t lengths[PIECES] = {65536, 65536, 65536, 1};
static vdr_chunk_entry table[PIECES];
static vdr_place places[PIECES];

static void make_data(void) {
    for (size_t i = 0; i < 65536; i++) data[i] = (uint8_t)(i / 100);             /* compresses */
    vdr_blake3_derive("test noise", (const uint8_t *)"", 0, data + 65536, 65536);  /* does not */
    for (size_t i = 131072; i < DATA_BYTES; i++) data[i] = (uint8_t)(i * i >> 7);
    for (size_t i = 0; i < sizeof id_keys; i++) id_keys[i] = (uint8_t)i;
    for (size_t i = 0; i < PIECES; i++) vdr_blake3_keyed(id_keys + 32, data + offsets[i], lengths[i], ids + 32 * i);
}

static void check_names(void) {
    uint8_t zero[6], names[6 * 32];
    uint8_t *disk = calloc(6, 4096);
    memset(disk + 4096, 7, 4096);
    disk[5 * 4096 - 1] = 1;
    assert(vdr_chunk_name_blocks(disk, 5 * 4096 + 10, 4096, id_keys, zero, names) == 2);
    static const uint8_t want[6] = {1, 0, 1, 1, 0, 1};
    assert(memcmp(zero, want, sizeof want) == 0);
    uint8_t id[32];
    vdr_blake3_keyed(id_keys, disk + 4096, 4096, id);
    assert(memcmp(names + 32, id, 32) == 0);
    free(disk);
}

static size_t encode(int level) {
    vdr_encoder *encoder = vdr_encoder_open(level);
    int64_t bytes = vdr_encoder_run(encoder, data, offsets, lengths, NULL, PIECES, 1, table, payload, sizeof payload);
    assert(bytes > 0);
    assert(vdr_encoder_run(encoder, data, offsets, lengths, NULL, PIECES, 1, table, payload, 65536) == VDR_E_SPACE);
    assert(vdr_encoder_run(encoder, data, offsets, lengths, NULL, PIECES, 5, table, payload, sizeof payload) == VDR_E_ARGUMENT);
    bytes = vdr_encoder_run(encoder, data, offsets, lengths, NULL, PIECES, 1, table, payload, sizeof payload);
    assert(table[1].codec == VDR_CHUNK_RAW && table[3].codec == VDR_CHUNK_RAW);
    assert(level == 0 ? table[0].codec == VDR_CHUNK_RAW : table[0].codec == VDR_CHUNK_ZSTD && table[0].encoded_bytes < 8192);
    vdr_encoder_close(encoder);
    return (size_t)bytes;
}

static void check_selection(void) {
    vdr_encoder *encoder = vdr_encoder_open(3);
    static const uint8_t select[PIECES] = {0, 1, 0, 1};
    assert(vdr_encoder_run(encoder, data, offsets, lengths, select, PIECES, 2, table, payload, sizeof payload) == 65537);
    assert(table[0].plain_bytes == 65536 && table[1].plain_bytes == 1 && table[1].kind == 2);
    vdr_encoder_close(encoder);
    assert(vdr_encoder_open(20) == NULL && vdr_encoder_open(-1) == NULL);
}

static void check_batch(size_t bytes) {
    vdr_decoder *decoder = vdr_decoder_open();
    uint64_t bad = 9;
    assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes, id_keys, &bad) == PIECES);
    assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes - 1, id_keys, &bad) < 0);
    assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes + 1, id_keys, &bad) < 0 && bad == PIECES);
    ids[40] ^= 1;
    assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes, id_keys, &bad) == VDR_E_CORRUPT && bad == 1);
    ids[40] ^= 1;
    vdr_chunk_entry kept = table[0];
    static const uint32_t lies[] = {0, 1, 65535, 65537, VDR_CHUNK_BYTES_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        table[0].plain_bytes = lies[i];
        assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes, id_keys, &bad) < 0 && bad == 0);
        table[0] = kept;
        table[0].encoded_bytes = lies[i];
        assert(vdr_decoder_check(decoder, ids, table, PIECES, payload, bytes, id_keys, &bad) < 0);
        table[0] = kept;
    }
    vdr_decoder_close(decoder);
}

static void check_records(int encryption, size_t bytes) {
    uint8_t key[32] = {1, 2, 3};
    vdr_aead *aead = encryption ? vdr_aead_open(encryption, key, (size_t)vdr_aead_key_bytes(encryption)) : NULL;
    vdr_decoder *decoder = vdr_decoder_open();
    static const uint8_t skip[PIECES] = {0, 0, 1, 0};
    int64_t want = vdr_chunk_sealed_bytes(table, skip, PIECES, encryption);
    assert(vdr_chunk_seal(aead, encryption, ids, table, skip, PIECES, payload, bytes, 5, 64, pack + 64, (size_t)want - 1,
                          places) == VDR_E_SPACE);
    assert(vdr_chunk_seal(aead, encryption, ids, table, skip, PIECES, payload, bytes, 5, 64, pack + 64, sizeof pack - 64,
                          places) == want);
    assert(places[2].pack == VDR_INDEX_NO_PACK && places[0].pack == 5 && places[0].offset == 64);
    size_t end = 64 + (size_t)want;
    for (size_t i = 0; i < PIECES; i++) {
        if (skip[i]) continue;
        const uint8_t *record = pack + places[i].offset;
        size_t left = end - places[i].offset;
        assert(vdr_chunk_open(aead, encryption, decoder, record, left, places[i].offset, ids + 32 * i, id_keys, plain,
                              sizeof plain) == (int64_t)lengths[i]);
        assert(memcmp(plain, data + offsets[i], lengths[i]) == 0);
        assert(vdr_chunk_open(aead, encryption, decoder, record, left, places[i].offset, ids + 32 * i, id_keys, plain,
                              lengths[i] - 1) == VDR_E_SPACE);
        for (size_t cut = 0; cut < left && cut < 200; cut += 7)
            if (cut < VDR_CHUNK_HEADER_BYTES + places[i].stored_bytes)
                assert(vdr_chunk_open(aead, encryption, decoder, record, cut, places[i].offset, NULL, id_keys, plain,
                                      sizeof plain) == VDR_E_CORRUPT);
    }
    vdr_chunk_row rows[PIECES];
    uint64_t stop;
    assert(vdr_chunk_walk(pack, end, 64, encryption, rows, PIECES, &stop) == 3 && stop == end);
    assert(vdr_chunk_walk(pack, end - 1, 64, encryption, rows, PIECES, &stop) == 2 && stop == places[3].offset);
    assert(vdr_chunk_walk(pack, end, 64, encryption, rows, PIECES, &stop) == 3);
    vdr_chunk_row sealed[PIECES];
    assert(vdr_chunk_rows(ids, table, places, PIECES, sealed) == 3 && memcmp(sealed, rows, 3 * sizeof *rows) == 0);
    int8_t status[3];
    assert(vdr_chunk_verify(pack, end, 0, aead, encryption, decoder, id_keys, rows, 3, status) == 3);
    /* Any one bit of a record: found, and never opened as something else. */
    for (size_t at = 64; at < end; at += at < 200 ? 1 : 997) {
        pack[at] ^= 0x10;
        assert(vdr_chunk_verify(pack, end, 0, aead, encryption, decoder, id_keys, rows, 3, status) == 2);
        for (size_t i = 0; i < 3; i++) {
            int64_t n = vdr_chunk_open(aead, encryption, decoder, pack + rows[i].offset, end - rows[i].offset, rows[i].offset,
                                       rows[i].id, id_keys, plain, sizeof plain);
            size_t piece = i == 2 ? 3 : i;
            assert(n < 0 || (n == (int64_t)lengths[piece] && memcmp(plain, data + offsets[piece], lengths[piece]) == 0));
        }
        pack[at] ^= 0x10;
    }
    vdr_decoder_close(decoder);
    vdr_aead_close(aead);
}

int main(void) {
    make_data();
    check_names();
    check_selection();
    static const int levels[] = {0, 1, 3, 12};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        size_t bytes = encode(levels[i]);
        if (levels[i]) check_batch(bytes);
        check_records(VDR_AEAD_NONE, bytes);
        check_records(VDR_AEAD_AES_256_GCM, bytes);
        check_records(VDR_AEAD_SM4_GCM, bytes);
    }
    vdr_encoder_close(NULL);
    vdr_decoder_close(NULL);
    return 0;
}

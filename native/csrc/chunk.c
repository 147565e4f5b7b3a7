#include "chunk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "blake3.h"
#include "crc32c.h"
#include "err.h"
#include "zero.h"

#define SAMPLE_PARTS 8u
#define SAMPLE_PART_BYTES 512u

static const uint8_t record_magic[4] = {'V', 'C', 'H', 'K'};

/* ---- naming ---- */

int64_t vdr_chunk_name_blocks(const uint8_t *data, size_t bytes, size_t block_bytes, const uint8_t id_key[32],
                              uint8_t *zero, uint8_t *ids) {
    int64_t named = 0;
    size_t block = 0;
    for (size_t at = 0; at < bytes; at += block_bytes, block++) {
        size_t n = bytes - at < block_bytes ? bytes - at : block_bytes;
        zero[block] = (uint8_t)vdr_zero_is(data + at, n);
        if (zero[block]) continue;
        vdr_blake3_keyed(id_key, data + at, n, ids + 32 * block);
        named++;
    }
    return named;
}

int64_t vdr_chunk_read_blocks(int fd, uint64_t offset, uint8_t *data, size_t bytes, size_t block_bytes,
                              const uint8_t id_key[32], uint8_t *zero, uint8_t *ids) {
    size_t got = 0, named = 0;
    /* Reads of half a MiB, named while they are still in the cache. */
    size_t step = block_bytes >= (512u << 10) ? block_bytes : (512u << 10) / block_bytes * block_bytes;
    while (got < bytes) {
        size_t want = bytes - got < step - got % step ? bytes - got : step - got % step;
        ssize_t n = pread(fd, data + got, want, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return VDR_E_IO;
        got += (size_t)n;
        if (n == 0 || got == bytes || got % step == 0) {
            vdr_chunk_name_blocks(data + named, got - named, block_bytes, id_key, zero + named / block_bytes,
                                  ids + 32 * (named / block_bytes));
            named = got;
        }
        if (n == 0) break;
    }
    return (int64_t)got;
}

/* ---- encoding ---- */

struct vdr_encoder {
    ZSTD_CCtx *fast;   /* level 1 */
    ZSTD_CCtx *strong; /* the level asked for, NULL when that is 1 */
    int level;
};

static ZSTD_CCtx *context_open(int level) {
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context && ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level))) {
        ZSTD_freeCCtx(context);
        return NULL;
    }
    return context;
}

vdr_encoder *vdr_encoder_open(int level) {
    if (level < 0 || level > 19) return NULL;
    vdr_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) return NULL;
    encoder->level = level;
    if (level >= 1) encoder->fast = context_open(1);
    if (level >= 2) encoder->strong = context_open(level);
    if ((level >= 1 && !encoder->fast) || (level >= 2 && !encoder->strong)) {
        vdr_encoder_close(encoder);
        return NULL;
    }
    return encoder;
}

void vdr_encoder_close(vdr_encoder *encoder) {
    if (!encoder) return;
    ZSTD_freeCCtx(encoder->fast);
    ZSTD_freeCCtx(encoder->strong);
    free(encoder);
}

/* A sample whose byte counts look like noise (chi-square near its 255 degrees of freedom). */
static bool looks_random(const uint8_t *data, size_t bytes) {
    uint16_t counts[256] = {0};
    if (bytes < SAMPLE_PARTS * SAMPLE_PART_BYTES) return false;
    size_t stride = (bytes - SAMPLE_PART_BYTES) / (SAMPLE_PARTS - 1);
    for (size_t part = 0; part < SAMPLE_PARTS; part++)
        for (size_t i = 0; i < SAMPLE_PART_BYTES; i++) counts[data[part * stride + i]]++;
    uint64_t squares = 0;
    for (size_t i = 0; i < 256; i++) squares += (uint64_t)counts[i] * counts[i];
    /* 4,096 samples: 16 of each value expected; squares = 16 * chi + 65536, and chi > 400 once in 10^7 of noise. */
    return squares < 65536 + 16 * 400;
}

static size_t encode_one(vdr_encoder *encoder, const uint8_t *data, uint32_t bytes, uint8_t *out, uint8_t *codec) {
    *codec = VDR_CHUNK_RAW;
    size_t worth = bytes - bytes / 32; /* fewer than this, or it is not worth decoding */
    size_t encoded = 0;
    if (encoder->fast && worth > 1) {
        /* High levels search noise long for nothing: where the level 1 finds nothing in it either, they are not asked. */
        bool probe = !encoder->strong || looks_random(data, bytes);
        if (probe) encoded = ZSTD_compress2(encoder->fast, out, worth - 1, data, bytes);
        if (encoder->strong && !(probe && ZSTD_isError(encoded)))
            encoded = ZSTD_compress2(encoder->strong, out, worth - 1, data, bytes);
        if (!ZSTD_isError(encoded)) {
            *codec = VDR_CHUNK_ZSTD;
            return encoded;
        }
    }
    memcpy(out, data, bytes);
    return bytes;
}

int64_t vdr_encoder_run(vdr_encoder *encoder, const uint8_t *data, const uint64_t *offsets, const uint32_t *lengths,
                        const uint8_t *select, size_t count, uint8_t kind, vdr_chunk_entry *table, uint8_t *out,
                        size_t capacity) {
    size_t filled = 0, entries = 0;
    for (size_t i = 0; i < count; i++) {
        if (select && !select[i]) continue;
        uint32_t bytes = lengths[i];
        if (!bytes || bytes > VDR_CHUNK_BYTES_MAX || !kind || kind >= VDR_CHUNK_KINDS) return VDR_E_ARGUMENT;
        if (bytes > capacity - filled) return VDR_E_SPACE;
        vdr_chunk_entry *entry = &table[entries++];
        *entry = (vdr_chunk_entry){.plain_bytes = bytes, .kind = kind};
        entry->encoded_bytes = (uint32_t)encode_one(encoder, data + offsets[i], bytes, out + filled, &entry->codec);
        filled += entry->encoded_bytes;
    }
    return (int64_t)filled;
}

/* ---- decoding ---- */

struct vdr_decoder {
    ZSTD_DCtx *context;
    uint8_t *plain;     /* made at the first batch that needs them */
    uint8_t *decrypted;
};

vdr_decoder *vdr_decoder_open(void) {
    vdr_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) return NULL;
    decoder->context = ZSTD_createDCtx();
    if (!decoder->context) {
        vdr_decoder_close(decoder);
        return NULL;
    }
    return decoder;
}

void vdr_decoder_close(vdr_decoder *decoder) {
    if (!decoder) return;
    ZSTD_freeDCtx(decoder->context);
    free(decoder->plain);
    free(decoder->decrypted);
    free(decoder);
}

static bool scratch_make(uint8_t **scratch) {
    if (!*scratch) *scratch = malloc(VDR_CHUNK_BYTES_MAX + VDR_AEAD_TAG_BYTES);
    return *scratch != NULL;
}

static bool entry_holds(const vdr_chunk_entry *entry) {
    if (!entry->plain_bytes || entry->plain_bytes > VDR_CHUNK_BYTES_MAX || entry->zero) return false;
    if (!entry->kind || entry->kind >= VDR_CHUNK_KINDS || entry->codec > VDR_CHUNK_ZSTD) return false;
    return entry->codec == VDR_CHUNK_RAW ? entry->encoded_bytes == entry->plain_bytes
                                         : entry->encoded_bytes && entry->encoded_bytes < entry->plain_bytes;
}

/* Plain bytes of a payload, in place when raw. */
static int decode(vdr_decoder *decoder, uint8_t codec, const uint8_t *payload, size_t bytes, uint8_t *out,
                  size_t plain_bytes) {
    if (codec == VDR_CHUNK_RAW) {
        if (bytes != plain_bytes) return VDR_E_CORRUPT;
        if (out != payload) memcpy(out, payload, bytes);
        return VDR_OK;
    }
    size_t n = ZSTD_decompressDCtx(decoder->context, out, plain_bytes, payload, bytes);
    return !ZSTD_isError(n) && n == plain_bytes ? VDR_OK : VDR_E_CODEC;
}

static bool hash_holds(const uint8_t *id_keys, uint8_t kind, const uint8_t *plain, size_t bytes, const uint8_t *id) {
    uint8_t hash[32];
    vdr_blake3_keyed(id_keys + 32 * (size_t)kind, plain, bytes, hash);
    return !memcmp(hash, id, 32);
}

int64_t vdr_decoder_check(vdr_decoder *decoder, const uint8_t *ids, const vdr_chunk_entry *table, size_t count,
                          const uint8_t *payload, size_t bytes, const uint8_t *id_keys, uint64_t *bad) {
    size_t at = 0;
    if (!scratch_make(&decoder->plain)) return VDR_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const vdr_chunk_entry *entry = &table[i];
        *bad = i;
        if (!entry_holds(entry) || entry->encoded_bytes > bytes - at) return VDR_E_CORRUPT;
        const uint8_t *plain = payload + at;
        if (entry->codec != VDR_CHUNK_RAW) {
            int error = decode(decoder, entry->codec, plain, entry->encoded_bytes, decoder->plain, entry->plain_bytes);
            if (error) return error;
            plain = decoder->plain;
        }
        if (!hash_holds(id_keys, entry->kind, plain, entry->plain_bytes, ids + 32 * i)) return VDR_E_CORRUPT;
        at += entry->encoded_bytes;
    }
    *bad = count;
    return at == bytes ? (int64_t)count : VDR_E_CORRUPT;
}

/* ---- records ---- */

static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

static uint32_t get32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static size_t tag_bytes(int encryption) { return encryption == VDR_AEAD_NONE ? 0 : VDR_AEAD_TAG_BYTES; }

static void record_nonce(uint64_t pack_offset, uint8_t nonce[12]) {
    memcpy(nonce, &pack_offset, 8);
    memset(nonce + 8, 0, 4);
}

int64_t vdr_chunk_sealed_bytes(const vdr_chunk_entry *table, const uint8_t *skip, size_t count, int encryption) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (!entry_holds(&table[i])) return VDR_E_ARGUMENT;
        if (!skip || !skip[i]) total += VDR_CHUNK_HEADER_BYTES + table[i].encoded_bytes + tag_bytes(encryption);
    }
    return (int64_t)total;
}

int64_t vdr_chunk_seal(vdr_aead *aead, int encryption, const uint8_t *ids, const vdr_chunk_entry *table, const uint8_t *skip,
                       size_t count, const uint8_t *payload, size_t bytes, uint32_t pack, uint64_t pack_offset,
                       uint8_t *out, size_t capacity, vdr_place *places) {
    size_t at = 0, filled = 0;
    for (size_t i = 0; i < count; i++) {
        const vdr_chunk_entry *entry = &table[i];
        if (!entry_holds(entry) || entry->encoded_bytes > bytes - at) return VDR_E_ARGUMENT;
        const uint8_t *encoded = payload + at;
        at += entry->encoded_bytes;
        if (skip && skip[i]) {
            places[i] = (vdr_place){.pack = VDR_INDEX_NO_PACK};
            continue;
        }
        uint32_t stored = entry->encoded_bytes + (uint32_t)tag_bytes(encryption);
        if (VDR_CHUNK_HEADER_BYTES + stored > capacity - filled) return VDR_E_SPACE;
        uint8_t *record = out + filled, *body = record + VDR_CHUNK_HEADER_BYTES;
        memcpy(record, record_magic, 4);
        record[4] = entry->kind;
        record[5] = entry->codec;
        record[6] = record[7] = 0;
        put32(record + 8, entry->plain_bytes);
        put32(record + 12, stored);
        memcpy(record + 16, ids + 32 * i, 32);
        put32(record + 48, vdr_crc32c(0, record, 48));
        if (encryption == VDR_AEAD_NONE) {
            memcpy(body, encoded, entry->encoded_bytes);
        } else {
            uint8_t nonce[12];
            record_nonce(pack_offset + filled, nonce);
            int64_t n = vdr_aead_seal(aead, nonce, record, 48, encoded, entry->encoded_bytes, body);
            if (n != (int64_t)stored) return VDR_E_CRYPTO;
        }
        put32(record + 52, vdr_crc32c(0, body, stored));
        places[i] = (vdr_place){.pack = pack, .offset = (uint32_t)(pack_offset + filled), .stored_bytes = stored,
                                .plain_bytes = entry->plain_bytes};
        filled += VDR_CHUNK_HEADER_BYTES + stored;
    }
    return (int64_t)filled;
}

int64_t vdr_chunk_rows(const uint8_t *ids, const vdr_chunk_entry *table, const vdr_place *places, size_t count,
                       vdr_chunk_row *rows) {
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        if (places[i].pack == VDR_INDEX_NO_PACK) continue;
        vdr_chunk_row *row = &rows[filled++];
        *row = (vdr_chunk_row){.offset = places[i].offset, .stored_bytes = places[i].stored_bytes,
                               .plain_bytes = places[i].plain_bytes, .kind = table[i].kind, .codec = table[i].codec};
        memcpy(row->id, ids + 32 * i, 32);
    }
    return (int64_t)filled;
}

/* Framing of a record header: VDR_OK and the row, or VDR_E_CORRUPT. */
static int record_parse(const uint8_t *record, size_t bytes, uint64_t pack_offset, int encryption, vdr_chunk_row *row) {
    if (bytes < VDR_CHUNK_HEADER_BYTES || memcmp(record, record_magic, 4)) return VDR_E_CORRUPT;
    if (get32(record + 48) != vdr_crc32c(0, record, 48) || record[6] || record[7]) return VDR_E_CORRUPT;
    row->kind = record[4];
    row->codec = record[5];
    row->plain_bytes = get32(record + 8);
    row->stored_bytes = get32(record + 12);
    row->offset = (uint32_t)pack_offset;
    row->reserved = 0;
    memcpy(row->id, record + 16, 32);
    if (row->stored_bytes < tag_bytes(encryption)) return VDR_E_CORRUPT;
    vdr_chunk_entry entry = {.plain_bytes = row->plain_bytes, .encoded_bytes = row->stored_bytes - (uint32_t)tag_bytes(encryption),
                             .codec = row->codec, .kind = row->kind};
    if (!entry_holds(&entry) || row->stored_bytes > bytes - VDR_CHUNK_HEADER_BYTES) return VDR_E_CORRUPT;
    return VDR_OK;
}

int64_t vdr_chunk_open(vdr_aead *aead, int encryption, vdr_decoder *decoder, const uint8_t *record, size_t bytes,
                       uint64_t pack_offset, const uint8_t *id, const uint8_t *id_keys, uint8_t *out, size_t capacity) {
    vdr_chunk_row row;
    if (record_parse(record, bytes, pack_offset, encryption, &row)) return VDR_E_CORRUPT;
    if (id && memcmp(id, row.id, 32)) return VDR_E_CORRUPT;
    if (row.plain_bytes > capacity) return VDR_E_SPACE;
    const uint8_t *payload = record + VDR_CHUNK_HEADER_BYTES;
    size_t encoded_bytes = row.stored_bytes - tag_bytes(encryption);
    if (encryption != VDR_AEAD_NONE) {
        /* A raw chunk is decrypted straight to where it goes. */
        bool direct = row.codec == VDR_CHUNK_RAW;
        if (!direct && !scratch_make(&decoder->decrypted)) return VDR_E_MEMORY;
        uint8_t *decrypted = direct ? out : decoder->decrypted, nonce[12];
        record_nonce(pack_offset, nonce);
        int64_t n = vdr_aead_unseal(aead, nonce, record, 48, payload, row.stored_bytes, decrypted);
        if (n != (int64_t)encoded_bytes) return n < 0 ? n : VDR_E_CRYPTO;
        payload = decrypted;
    }
    int error = decode(decoder, row.codec, payload, encoded_bytes, out, row.plain_bytes);
    if (error) return error;
    return hash_holds(id_keys, row.kind, out, row.plain_bytes, row.id) ? (int64_t)row.plain_bytes : VDR_E_CORRUPT;
}

static bool payload_crc_holds(const uint8_t *record, const vdr_chunk_row *row) {
    return get32(record + 52) == vdr_crc32c(0, record + VDR_CHUNK_HEADER_BYTES, row->stored_bytes);
}

int64_t vdr_chunk_walk(const uint8_t *pack, size_t bytes, uint64_t offset, int encryption, vdr_chunk_row *rows,
                       size_t capacity, uint64_t *end) {
    size_t count = 0;
    while (count < capacity && offset < bytes) {
        vdr_chunk_row *row = &rows[count];
        if (record_parse(pack + offset, bytes - offset, offset, encryption, row)) break;
        if (!payload_crc_holds(pack + offset, row)) break;
        offset += VDR_CHUNK_HEADER_BYTES + row->stored_bytes;
        count++;
    }
    *end = offset;
    return (int64_t)count;
}

int64_t vdr_chunk_verify(const uint8_t *part, size_t bytes, uint64_t base, vdr_aead *aead, int encryption, vdr_decoder *decoder,
                         const uint8_t *id_keys, const vdr_chunk_row *rows, size_t count, int8_t *status) {
    int64_t good = 0;
    if (!scratch_make(&decoder->plain)) return VDR_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const vdr_chunk_row *want = &rows[i];
        vdr_chunk_row row;
        int error = VDR_E_CORRUPT;
        if (want->offset >= base && want->offset - base < bytes) {
            const uint8_t *record = part + (want->offset - base);
            size_t room = bytes - (size_t)(want->offset - base);
            if (!record_parse(record, room, want->offset, encryption, &row) && !memcmp(&row, want, sizeof row) &&
                payload_crc_holds(record, &row)) {
                int64_t n = vdr_chunk_open(aead, encryption, decoder, record, room, want->offset, want->id, id_keys,
                                           decoder->plain, VDR_CHUNK_BYTES_MAX);
                error = n < 0 ? (int)n : VDR_OK;
            }
        }
        status[i] = (int8_t)error;
        good += !error;
    }
    return good;
}

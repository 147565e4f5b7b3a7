/* The chunk pipeline, in batches: read and name, encode (zstd or raw), check what a peer sent, seal into pack records, open
 * records again. The layout of a record is in docs/formats/store.md.
 *
 * Encoders and decoders hold reusable zstd state and are not to be used by two threads at once. */
#ifndef VDR_CHUNK_H
#define VDR_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "aead.h"
#include "index.h"

/* cffi: begin */
enum {
    VDR_CHUNK_BYTES_MAX = 4194304,   /* plain bytes of one chunk */
    VDR_CHUNK_HEADER_BYTES = 56,     /* of a record, before its payload */
    VDR_CHUNK_KINDS = 5,             /* kinds 1 to 4 exist; arrays of keys are indexed by kind and begin with an unused one */
    VDR_CHUNK_RAW = 0,
    VDR_CHUNK_ZSTD = 1,
};

/* One chunk of a batch: 12 bytes, little-endian, `<IIBBH`. */
typedef struct {
    uint32_t plain_bytes;
    uint32_t encoded_bytes;
    uint8_t codec;
    uint8_t kind;
    uint16_t zero;
} vdr_chunk_entry;

/* Cut `data` into blocks of `block_bytes` (the last may be short); zero[i] = 1 where block i is all zero, else its id under
 * `id_key` goes to ids + 32 * i (an all-zero block's id is left alone). Returns the number of blocks that are not zero. */
int64_t vdr_chunk_name_blocks(const uint8_t *data, size_t bytes, size_t block_bytes, const uint8_t id_key[32],
                              uint8_t *zero, uint8_t *ids);
/* Read `bytes` bytes at `offset` of a file or device into `data` and name the blocks. Returns the bytes read: fewer only when
 * the file ends (then the blocks read are named); VDR_E_IO. */
int64_t vdr_chunk_read_blocks(int fd, uint64_t offset, uint8_t *data, size_t bytes, size_t block_bytes,
                              const uint8_t id_key[32], uint8_t *zero, uint8_t *ids);

typedef struct vdr_encoder vdr_encoder;
/* `level` is zstd's (1 to 19); 0 stores everything raw. NULL when out of range or without memory. */
vdr_encoder *vdr_encoder_open(int level);
void vdr_encoder_close(vdr_encoder *encoder);
/* Encode the pieces data[offsets[i]], lengths[i] (1 to VDR_CHUNK_BYTES_MAX) whose select[i] is not 0 (all when NULL) into
 * `out`, back to back, one table entry each. `capacity` must hold the sum of the selected lengths. A piece that zstd makes
 * less than 1/32 smaller is stored raw. Returns the bytes written; the entries are as many as were selected. */
int64_t vdr_encoder_run(vdr_encoder *encoder, const uint8_t *data, const uint64_t *offsets, const uint32_t *lengths,
                        const uint8_t *select, size_t count, uint8_t kind, vdr_chunk_entry *table, uint8_t *out,
                        size_t capacity);

typedef struct vdr_decoder vdr_decoder;
vdr_decoder *vdr_decoder_open(void);
void vdr_decoder_close(vdr_decoder *decoder);
/* Check a batch from elsewhere: sizes within bounds and adding up to `bytes`, each chunk decodes to plain bytes that hash to its
 * id under id_keys + 32 * kind. Returns `count`, or VDR_E_CORRUPT (VDR_E_CODEC, VDR_E_MEMORY) with *bad = the chunk's
 * number (`count` when the sizes do not add up). */
int64_t vdr_decoder_check(vdr_decoder *decoder, const uint8_t *ids, const vdr_chunk_entry *table, size_t count,
                          const uint8_t *payload, size_t bytes, const uint8_t *id_keys, uint64_t *bad);

/* Bytes that sealing the entries with skip[i] = 0 (all when NULL) takes; VDR_E_ARGUMENT when an entry is out of bounds. */
int64_t vdr_chunk_sealed_bytes(const vdr_chunk_entry *table, const uint8_t *skip, size_t count, int encryption);
/* Write records for those entries to `out`, whose first byte is byte `pack_offset` of the pack. `places` gets the place of each
 * (pack number `pack`; VDR_INDEX_NO_PACK for a skipped one). Returns the bytes written or VDR_E_SPACE, VDR_E_ARGUMENT,
 * VDR_E_CRYPTO. `aead` may be NULL for encryption none. */
int64_t vdr_chunk_seal(vdr_aead *aead, int encryption, const uint8_t *ids, const vdr_chunk_entry *table, const uint8_t *skip,
                       size_t count, const uint8_t *payload, size_t bytes, uint32_t pack, uint64_t pack_offset,
                       uint8_t *out, size_t capacity, vdr_place *places);
/* Open the record at `record` (`bytes` bytes from there are readable), which stands at `pack_offset` of its pack: check framing,
 * decrypt, decode, compare the hash. With `id` the record must be that chunk. The plain bytes go to `out`. Returns their
 * number, or VDR_E_CORRUPT, VDR_E_AUTH, VDR_E_CODEC, VDR_E_SPACE. */
int64_t vdr_chunk_open(vdr_aead *aead, int encryption, vdr_decoder *decoder, const uint8_t *record, size_t bytes,
                       uint64_t pack_offset, const uint8_t *id, const uint8_t *id_keys, uint8_t *out, size_t capacity);

/* What a walk over records says of one of them. */
typedef struct {
    uint8_t id[32];
    uint32_t offset;
    uint32_t stored_bytes;
    uint32_t plain_bytes;
    uint8_t kind;
    uint8_t codec;
    uint16_t reserved;
} vdr_chunk_row;

/* Rows of the entries that were sealed (places[i].pack is not VDR_INDEX_NO_PACK), in order. Returns how many. */
int64_t vdr_chunk_rows(const uint8_t *ids, const vdr_chunk_entry *table, const vdr_place *places, size_t count,
                       vdr_chunk_row *rows);

/* Walk the records in `pack` (mapped, `bytes` long) from `offset`; stop at the first whose framing or CRC does not hold, at the
 * end, or when `rows` is full. *end = where it stopped. Returns the number of rows. */
int64_t vdr_chunk_walk(const uint8_t *pack, size_t bytes, uint64_t offset, int encryption, vdr_chunk_row *rows,
                       size_t capacity, uint64_t *end);
/* Open every record that `rows` (from a pack's table) names, with the CRCs too; status[i] = VDR_OK or what is wrong, as a negative
 * code. `part` holds the bytes of the pack from offset `base` on. Returns the number of good ones. */
int64_t vdr_chunk_verify(const uint8_t *part, size_t bytes, uint64_t base, vdr_aead *aead, int encryption, vdr_decoder *decoder,
                         const uint8_t *id_keys, const vdr_chunk_row *rows, size_t count, int8_t *status);
/* cffi: end */

#endif

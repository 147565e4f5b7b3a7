/* Reads chunks by id: index, pack file, decrypt, decode, compare the hash. What does not verify is never handed out: the index
 * is told that the record is damaged, and another copy is tried if there is one.
 *
 * Thread-safe; each call runs in the caller's thread with scratch space of its own from a pool. Files of packs stay open in a
 * small cache, so a pack that is removed under a reader still serves what is being read from it. */
#ifndef VDR_READER_H
#define VDR_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"

/* cffi: begin */
typedef struct vdr_reader vdr_reader;

/* Read packs `<xx>/<id>.pack` below the directory `packs_fd` (or `../tmp/<id>.pack` while written), which is duplicated; the index is retained. `cache_bytes` bounds the
 * plain bytes kept for pin(). NULL without memory or descriptors. Counted like an index. */
vdr_reader *vdr_reader_open(vdr_index *index, int packs_fd, int encryption, uint64_t cache_bytes);
void vdr_reader_retain(vdr_reader *reader);
void vdr_reader_close(vdr_reader *reader);

/* Keys of one key domain and epoch: id keys by kind (VDR_CHUNK_KINDS * 32 bytes) and the pack root. Copied. */
int vdr_reader_keys_add(vdr_reader *reader, uint32_t domain, uint32_t epoch, const uint8_t *id_keys,
                        const uint8_t pack_root[32]);

/* Read chunk i to out + offsets[i], where capacities[i] bytes are free; lengths[i] = its plain bytes. In whatever order the disk
 * likes best. Returns `count`, or the error of the first chunk that failed with *bad = its number and *bad_pack = the
 * pack it was read from (VDR_INDEX_NO_PACK when it has none): VDR_E_MISSING, VDR_E_CORRUPT, VDR_E_AUTH, VDR_E_CODEC,
 * VDR_E_SPACE, VDR_E_IO, VDR_E_MEMORY. */
int64_t vdr_reader_fetch(vdr_reader *reader, const uint8_t *ids, size_t count, const uint64_t *offsets,
                         const uint32_t *capacities, uint8_t *out, uint32_t *lengths, uint64_t *bad, uint32_t *bad_pack);

/* A chunk in the cache, read if need be. It stays valid until unpin. NULL with *error = the code. */
typedef struct vdr_pin vdr_pin;
vdr_pin *vdr_reader_pin(vdr_reader *reader, const uint8_t id[32], int *error);
const uint8_t *vdr_pin_data(const vdr_pin *pin);
uint32_t vdr_pin_bytes(const vdr_pin *pin);
void vdr_reader_unpin(vdr_reader *reader, vdr_pin *pin);

/* Counters since open, for statistics. */
typedef struct {
    uint64_t chunks;      /* opened from packs */
    uint64_t read_bytes;  /* read from packs */
    uint64_t cache_hits;
    uint64_t cache_misses;
    uint64_t cached_bytes;
    uint64_t ahead_chunks;  /* read in the background before they were asked for */
} vdr_reader_counts;
void vdr_reader_statistics(vdr_reader *reader, vdr_reader_counts *counts);
/* cffi: end */

enum { VDR_READER_PINS_MAX = 64 };

/* Pin up to VDR_READER_PINS_MAX chunks at once: those not in the cache are read together, and by two threads when they are
 * many. VDR_OK, or the error of one of them and then none is pinned. Ids may repeat. */
int vdr_reader_pin_all(vdr_reader *reader, const uint8_t *ids, size_t count, vdr_pin **pins);

/* Let background threads read what is not in the cache, in order. A hint: false when there is no room for it now; with
 * `waits` it waits for room. Errors are met by whoever wants the chunk. */
bool vdr_reader_prefetch(vdr_reader *reader, const uint8_t *ids, size_t count, bool waits);

/* How far ahead of a reader it is worth reading. */
uint64_t vdr_reader_ahead_bytes(const vdr_reader *reader);

#endif

/* The chunk index: chunk id to place (pack, offset, lengths). Written chunks stand in sorted segments, which are mapped files;
 * chunks since the last segment stand in a hash table in memory. Ids are uniform, so a look-up in a segment interpolates.
 *
 * All functions are thread-safe. Packs are known by a number that is given out here and is good for this object only. A
 * chunk may have several places: the table answers first, then the newest segment; places in a retired pack are passed over.
 * A place whose record is known not to hold (damage_add) answers only where there is no other, and a backup hears that the
 * chunk is lacking: it is stored again, and the new place answers from then on. */
#ifndef VDR_INDEX_H
#define VDR_INDEX_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_INDEX_ID_BYTES = 32,
    VDR_INDEX_PACK_ID_BYTES = 16,
    VDR_INDEX_ENTRY_BYTES = 48,       /* id 32, pack u32, offset u32, stored bytes u32, plain bytes u32 */
    VDR_INDEX_PLANES = 3,             /* sets of marks: who is alive, and what belongs to whom */
    VDR_INDEX_NO_PACK = 0xffffffff,   /* a place whose pack is this is no place */
};

typedef struct vdr_index vdr_index;

/* Where a chunk's record stands: `offset` of the record in the pack, `stored_bytes` of its payload as it lies there. */
typedef struct {
    uint32_t pack;
    uint32_t offset;
    uint32_t stored_bytes;
    uint32_t plain_bytes;
} vdr_place;

/* NULL without memory. An index is counted: the opener holds one reference, retain takes another, close drops one and the
 * last one frees it. close(NULL) does nothing. */
vdr_index *vdr_index_open(void);
void vdr_index_retain(vdr_index *index);
void vdr_index_close(vdr_index *index);

/* Make a pack known and return its number; the same number again for a pack known already (a retired one stays retired). */
int64_t vdr_index_pack_add(vdr_index *index, const uint8_t pack_id[16], uint32_t domain, uint32_t epoch);
/* The number of a pack, or VDR_E_MISSING. */
int64_t vdr_index_pack_find(vdr_index *index, const uint8_t pack_id[16]);
/* Id, domain and key epoch of a pack that is not retired; VDR_E_MISSING else. */
int vdr_index_pack_get(vdr_index *index, uint32_t pack, uint8_t pack_id[16], uint32_t *domain, uint32_t *epoch);
/* Number of packs ever made known, retired ones included. */
int64_t vdr_index_pack_count(vdr_index *index);
/* Pass over all places in a pack from now on. With `ids` (count may be 0) the pack stays, and 0 is returned, if any of these
 * chunks was claimed at its place there since the last touch_clear. Returns 1 when retired. */
int vdr_index_pack_retire(vdr_index *index, uint32_t pack, const uint8_t *ids, size_t count);

/* Map `count` entries at `entries_offset` of an open file (the descriptor may be closed afterwards). Entry pack numbers count
 * into `packs`, which gives this index's numbers. Returns a handle, VDR_E_IO, VDR_E_CORRUPT when the file is too short. */
int64_t vdr_index_segment_add(vdr_index *index, int fd, uint64_t entries_offset, uint64_t count, const uint32_t *packs,
                              size_t pack_count);
/* Unmap a segment. Its entries must stand elsewhere by now, or be unwanted. */
int vdr_index_segment_drop(vdr_index *index, int64_t handle);

/* Put entries in the table. An id that is there already keeps its place, unless that is damaged. Returns the number added or
 * VDR_E_MEMORY. */
int64_t vdr_index_insert(vdr_index *index, const uint8_t *ids, const vdr_place *places, size_t count);
/* Find places; a missing chunk gets pack = VDR_INDEX_NO_PACK. Returns how many were found. */
int64_t vdr_index_find(vdr_index *index, const uint8_t *ids, size_t count, vdr_place *places);
/* As find, for a backup that asks what to send: lacking[i] = 1 where the chunk has no place in a pack of this key domain, or
 * only damaged ones. A chunk that is found is touched, so that its pack is not retired under the backup. Returns how many are
 * lacking. */
int64_t vdr_index_claim(vdr_index *index, uint32_t domain, const uint8_t *ids, size_t count, uint8_t *lacking);
/* Which chunks have no place but damaged ones; touches nothing. */
int64_t vdr_index_lacking(vdr_index *index, const uint8_t *ids, size_t count, uint8_t *lacking);
/* Forget all touches: no backup is open. */
void vdr_index_touch_clear(vdr_index *index);

/* A record that does not hold: 40 bytes. */
typedef struct {
    uint32_t pack;
    uint32_t offset;
    uint8_t id[32];
} vdr_damage;

/* Know that the record at `offset` of a pack, which should be chunk `id`, does not hold; or that it does after all. Returns 1
 * when that is news, 0 when it is not, VDR_E_MEMORY. */
int vdr_index_damage_add(vdr_index *index, uint32_t pack, uint32_t offset, const uint8_t id[32]);
int vdr_index_damage_remove(vdr_index *index, uint32_t pack, uint32_t offset);
/* Copy what is known, at most `capacity`, in no order; returns how many there are. Those of retired packs are left out. */
int64_t vdr_index_damage_list(vdr_index *index, vdr_damage *damages, size_t capacity);
/* Grows with every change of what is known. */
uint64_t vdr_index_damage_version(vdr_index *index);

/* Write the entries of some segments and, with `from_table`, of the table, sorted and each id once (at a place that is not damaged, if it
 * has one), to `fd` from `offset`. Pack
 * numbers are translated by `translate` (VDR_INDEX_NO_PACK leaves the entry out; packs past `translate_count` are left out).
 * Returns the number of entries, VDR_E_IO or VDR_E_MEMORY. Nothing else changes. No segment may be added or dropped meanwhile. */
int64_t vdr_index_write(vdr_index *index, const int64_t *handles, size_t handle_count, int from_table,
                        const uint32_t *translate, size_t translate_count, int fd, uint64_t offset);
/* Take the entries of these packs (flags[pack] = 1) out of the table: a segment has them now. Returns how many went. */
int64_t vdr_index_table_drop(vdr_index *index, const uint8_t *flags, size_t pack_count);
/* Entries that have their place in `pack`, sorted by nothing, at most `capacity`: ids[32 * i] and places[i]. Returns how many there
 * are. Looks at every entry of the index. */
int64_t vdr_index_pack_entries(vdr_index *index, uint32_t pack, uint8_t *ids, vdr_place *places, size_t capacity);
/* Number of entries in the table and in all segments. */
int64_t vdr_index_table_count(vdr_index *index);
int64_t vdr_index_segment_entries(vdr_index *index);

/* Marking what is alive, on one of several planes (below VDR_INDEX_PLANES). begin() forgets earlier marks. mark() says for each
 * id: 0 marked before, 1 marked now, 2 missing. unmarked() sets 1 where a chunk is there and has no mark, and changes nothing.
 * usage() and marked() look at plane 0. usage() adds up, per pack number, the marked records and their bytes (56-byte record headers included); what stands in the
 * table counts as marked. Returns VDR_OK, VDR_E_MEMORY or a count. */
void vdr_index_mark_begin(vdr_index *index, uint32_t plane);
int64_t vdr_index_mark(vdr_index *index, uint32_t plane, const uint8_t *ids, size_t count, uint8_t *fresh);
int64_t vdr_index_unmarked(vdr_index *index, uint32_t plane, const uint8_t *ids, size_t count, uint8_t *unmarked);
int64_t vdr_index_usage(vdr_index *index, uint64_t *live_bytes, uint32_t *live_chunks, size_t pack_count);
/* live[i] = 1 where the place of ids[i] in `pack` is the one that is marked. Returns how many are. */
int64_t vdr_index_marked(vdr_index *index, uint32_t pack, const uint8_t *ids, size_t count, uint8_t *live);
/* cffi: end */

#endif

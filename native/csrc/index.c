#include "index.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"

#define RECORD_HEADER_BYTES 56u
#define WRITE_ENTRIES 4096u /* entries gathered before a write: 192 KiB */

typedef struct {
    uint8_t id[16];
    uint32_t domain;
    uint32_t epoch;
    bool retired;
} pack_row;

typedef struct {
    uint8_t id[32];
    vdr_place place; /* pack == VDR_INDEX_NO_PACK: the slot is free */
    uint8_t touched;
    uint8_t marked; /* one bit a plane */
} table_slot;

typedef struct {
    int64_t handle;
    uint8_t *map;
    size_t map_bytes;
    const uint8_t *entries;
    uint64_t count;
    uint32_t *packs;
    size_t pack_count;
    uint8_t *touched; /* one bit an entry */
    uint8_t *marked[VDR_INDEX_PLANES];
} segment;

struct vdr_index {
    pthread_rwlock_t lock;
    int references;
    pack_row *packs;
    size_t pack_count, pack_capacity;
    uint32_t *pack_slots; /* hash of pack ids to number + 1 */
    size_t pack_slot_count;
    segment *segments; /* oldest first */
    size_t segment_count, segment_capacity;
    int64_t next_handle;
    table_slot *table;
    size_t table_slots, table_used;
    vdr_damage *damages; /* hash set by pack and offset; pack == VDR_INDEX_NO_PACK: the slot is free */
    size_t damage_slots, damage_count;
    uint64_t damage_version;
};

static uint64_t id_prefix(const uint8_t *id) {
    uint64_t big;
    memcpy(&big, id, 8);
    return __builtin_bswap64(big);
}

static uint64_t id_hash(const uint8_t *id) {
    uint64_t word;
    memcpy(&word, id + 8, 8);
    return word;
}

/* ---- packs ---- */

static uint64_t pack_hash(const uint8_t id[16]) {
    uint64_t a, b;
    memcpy(&a, id, 8);
    memcpy(&b, id + 8, 8);
    return (a ^ b) * 0x9e3779b97f4a7c15ull >> 7;
}

static int64_t pack_lookup(const vdr_index *index, const uint8_t id[16]) {
    if (!index->pack_slot_count) return VDR_E_MISSING;
    size_t mask = index->pack_slot_count - 1;
    for (size_t slot = pack_hash(id) & mask; index->pack_slots[slot]; slot = (slot + 1) & mask) {
        uint32_t number = index->pack_slots[slot] - 1;
        if (!memcmp(index->packs[number].id, id, 16)) return number;
    }
    return VDR_E_MISSING;
}

static int pack_slots_grow(vdr_index *index) {
    if ((index->pack_count + 1) * 2 <= index->pack_slot_count) return VDR_OK;
    size_t wanted = index->pack_slot_count ? index->pack_slot_count * 2 : 1024;
    uint32_t *slots = calloc(wanted, sizeof *slots);
    if (!slots) return VDR_E_MEMORY;
    for (size_t number = 0; number < index->pack_count; number++) {
        size_t slot = pack_hash(index->packs[number].id) & (wanted - 1);
        while (slots[slot]) slot = (slot + 1) & (wanted - 1);
        slots[slot] = (uint32_t)number + 1;
    }
    free(index->pack_slots);
    index->pack_slots = slots;
    index->pack_slot_count = wanted;
    return VDR_OK;
}

static int64_t pack_add(vdr_index *index, const uint8_t id[16], uint32_t domain, uint32_t epoch) {
    int64_t known = pack_lookup(index, id);
    if (known >= 0) return known;
    if (index->pack_count == index->pack_capacity) {
        size_t wanted = index->pack_capacity ? index->pack_capacity * 2 : 256;
        pack_row *grown = realloc(index->packs, wanted * sizeof *grown);
        if (!grown) return VDR_E_MEMORY;
        index->packs = grown;
        index->pack_capacity = wanted;
    }
    if (pack_slots_grow(index)) return VDR_E_MEMORY;
    pack_row *row = &index->packs[index->pack_count];
    memcpy(row->id, id, 16);
    row->domain = domain;
    row->epoch = epoch;
    row->retired = false;
    size_t mask = index->pack_slot_count - 1;
    size_t slot = pack_hash(id) & mask;
    while (index->pack_slots[slot]) slot = (slot + 1) & mask;
    index->pack_slots[slot] = (uint32_t)index->pack_count + 1;
    return (int64_t)index->pack_count++;
}

static bool pack_serves(const vdr_index *index, uint32_t pack) {
    return pack < index->pack_count && !index->packs[pack].retired;
}

/* ---- damage ---- */

static size_t damage_hash(uint32_t pack, uint32_t offset) {
    return (size_t)((((uint64_t)pack << 32 | offset) * 0x9e3779b97f4a7c15ull) >> 32);
}

/* The slot of a record, or the free one where it would go. */
static size_t damage_slot(const vdr_damage *set, size_t slots, uint32_t pack, uint32_t offset) {
    size_t slot = damage_hash(pack, offset) & (slots - 1);
    while (set[slot].pack != VDR_INDEX_NO_PACK && (set[slot].pack != pack || set[slot].offset != offset))
        slot = (slot + 1) & (slots - 1);
    return slot;
}

static bool is_damaged(const vdr_index *index, const vdr_place *place) {
    if (!index->damage_count) return false;
    return index->damages[damage_slot(index->damages, index->damage_slots, place->pack, place->offset)].pack != VDR_INDEX_NO_PACK;
}

static int damages_grow(vdr_index *index) {
    if ((index->damage_count + 1) * 2 <= index->damage_slots) return VDR_OK;
    size_t wanted = index->damage_slots ? index->damage_slots * 2 : 64;
    vdr_damage *fresh = malloc(wanted * sizeof *fresh);
    if (!fresh) return VDR_E_MEMORY;
    for (size_t i = 0; i < wanted; i++) fresh[i].pack = VDR_INDEX_NO_PACK;
    for (size_t i = 0; i < index->damage_slots; i++) {
        const vdr_damage *old = &index->damages[i];
        if (old->pack != VDR_INDEX_NO_PACK) fresh[damage_slot(fresh, wanted, old->pack, old->offset)] = *old;
    }
    free(index->damages);
    index->damages = fresh;
    index->damage_slots = wanted;
    return VDR_OK;
}

/* ---- table ---- */

static table_slot *table_slot_of(const vdr_index *index, const uint8_t *id) {
    if (!index->table_slots) return NULL;
    size_t mask = index->table_slots - 1;
    size_t slot = id_hash(id) & mask;
    while (index->table[slot].place.pack != VDR_INDEX_NO_PACK && memcmp(index->table[slot].id, id, 32))
        slot = (slot + 1) & mask;
    return &index->table[slot];
}

static void carry_flags(vdr_index *index, const uint8_t *id, bool touched, uint8_t marked);

/* Rehash without the entries of dropped packs; what was known about those goes to where the chunk stands now. */
static int table_resize(vdr_index *index, size_t wanted, const uint8_t *drop, size_t drop_count) {
    table_slot *old = index->table;
    size_t old_slots = index->table_slots;
    table_slot *fresh = malloc(wanted * sizeof *fresh);
    if (!fresh) return VDR_E_MEMORY;
    for (size_t i = 0; i < wanted; i++) fresh[i].place.pack = VDR_INDEX_NO_PACK;
    index->table = fresh;
    index->table_slots = wanted;
    index->table_used = 0;
    for (size_t i = 0; i < old_slots; i++) {
        uint32_t pack = old[i].place.pack;
        if (pack == VDR_INDEX_NO_PACK || (pack < drop_count && drop[pack])) continue;
        *table_slot_of(index, old[i].id) = old[i];
        index->table_used++;
    }
    for (size_t i = 0; i < old_slots; i++) {
        uint32_t pack = old[i].place.pack;
        if (pack < drop_count && drop[pack]) carry_flags(index, old[i].id, old[i].touched, old[i].marked);
    }
    free(old);
    return VDR_OK;
}

/* ---- segments ---- */

static const uint8_t *entry_at(const segment *s, uint64_t position) {
    return s->entries + position * VDR_INDEX_ENTRY_BYTES;
}

/* First position whose id is not below `id`. The file is foreign: nothing here trusts it to be sorted or uniform. */
static uint64_t segment_lower(const segment *s, const uint8_t *id) {
    uint64_t low = 0, high = s->count; /* the answer lies in [low, high] */
    uint64_t want = id_prefix(id), low_key = 0, high_key = UINT64_MAX;
    for (int step = 0; high - low > 8; step++) {
        uint64_t middle;
        if (step < 12 && high_key > low_key) {
            unsigned __int128 reach = (unsigned __int128)(want - low_key) * (high - low);
            middle = low + (uint64_t)(reach / (high_key - low_key));
            if (middle >= high) middle = high - 1;
        } else {
            middle = low + (high - low) / 2;
        }
        const uint8_t *entry = entry_at(s, middle);
        uint64_t key = id_prefix(entry);
        if (memcmp(entry, id, 32) < 0) {
            low = middle + 1;
            if (key > low_key && key <= want) low_key = key;
        } else {
            high = middle;
            if (key < high_key && key >= want) high_key = key;
        }
    }
    while (low < high && memcmp(entry_at(s, low), id, 32) < 0) low++;
    return low;
}

static void entry_place(const vdr_index *index, const segment *s, const uint8_t *entry, vdr_place *place) {
    memcpy(place, entry + 32, sizeof *place);
    place->pack = place->pack < s->pack_count ? s->packs[place->pack] : VDR_INDEX_NO_PACK;
    if (!pack_serves(index, place->pack)) place->pack = VDR_INDEX_NO_PACK;
}

typedef struct {
    vdr_place place;
    table_slot *slot;  /* where it was found: here, */
    segment *segment;  /* or there */
    uint64_t position;
    bool damaged;      /* there is no better place */
} hit;

static bool lookup(const vdr_index *index, const uint8_t *id, hit *found) {
    *found = (hit){.place.pack = VDR_INDEX_NO_PACK};
    table_slot *slot = table_slot_of(index, id);
    if (slot && slot->place.pack != VDR_INDEX_NO_PACK && pack_serves(index, slot->place.pack)) {
        *found = (hit){.place = slot->place, .slot = slot, .damaged = is_damaged(index, &slot->place)};
        if (!found->damaged) return true;
    }
    for (size_t i = index->segment_count; i-- > 0;) {
        segment *s = &index->segments[i];
        for (uint64_t p = segment_lower(s, id); p < s->count && !memcmp(entry_at(s, p), id, 32); p++) {
            hit next = {.segment = s, .position = p};
            entry_place(index, s, entry_at(s, p), &next.place);
            if (next.place.pack == VDR_INDEX_NO_PACK) continue;
            next.damaged = is_damaged(index, &next.place);
            if (!next.damaged || found->place.pack == VDR_INDEX_NO_PACK) *found = next;
            if (!next.damaged) return true;
        }
    }
    return found->place.pack != VDR_INDEX_NO_PACK;
}

static size_t bits_bytes(uint64_t count) { return (size_t)(count / 8 + 1); }

static bool bit_get(const uint8_t *bits, uint64_t i) { return bits[i / 8] >> (i % 8) & 1; }

/* Bits are set under the shared lock by several threads at once. */
static bool bit_set(uint8_t *bits, uint64_t i) {
    uint8_t bit = (uint8_t)(1u << (i % 8));
    return __atomic_fetch_or(&bits[i / 8], bit, __ATOMIC_RELAXED) & bit;
}

static uint8_t marks_at(const segment *s, uint64_t position) {
    uint8_t marked = 0;
    for (uint32_t plane = 0; plane < VDR_INDEX_PLANES; plane++)
        marked |= (uint8_t)(bit_get(s->marked[plane], position) << plane);
    return marked;
}

static void carry_flags(vdr_index *index, const uint8_t *id, bool touched, uint8_t marked) {
    hit h;
    if (!(touched || marked) || !lookup(index, id, &h)) return;
    if (h.slot) {
        h.slot->touched |= touched;
        h.slot->marked |= marked;
    } else {
        if (touched) bit_set(h.segment->touched, h.position);
        for (uint32_t plane = 0; plane < VDR_INDEX_PLANES; plane++)
            if (marked >> plane & 1) bit_set(h.segment->marked[plane], h.position);
    }
}

/* ---- interface ---- */

vdr_index *vdr_index_open(void) {
    vdr_index *index = calloc(1, sizeof *index);
    if (index && pthread_rwlock_init(&index->lock, NULL)) {
        free(index);
        return NULL;
    }
    if (index) index->references = 1;
    return index;
}

void vdr_index_retain(vdr_index *index) { __atomic_fetch_add(&index->references, 1, __ATOMIC_RELAXED); }

static void segment_release(segment *s) {
    if (s->map != MAP_FAILED) munmap(s->map, s->map_bytes);
    free(s->packs);
    free(s->touched);
    for (uint32_t plane = 0; plane < VDR_INDEX_PLANES; plane++) free(s->marked[plane]);
}

void vdr_index_close(vdr_index *index) {
    if (!index || __atomic_fetch_sub(&index->references, 1, __ATOMIC_ACQ_REL) > 1) return;
    for (size_t i = 0; i < index->segment_count; i++) segment_release(&index->segments[i]);
    free(index->segments);
    free(index->table);
    free(index->packs);
    free(index->pack_slots);
    free(index->damages);
    pthread_rwlock_destroy(&index->lock);
    free(index);
}

int64_t vdr_index_pack_add(vdr_index *index, const uint8_t pack_id[16], uint32_t domain, uint32_t epoch) {
    pthread_rwlock_wrlock(&index->lock);
    int64_t number = pack_add(index, pack_id, domain, epoch);
    pthread_rwlock_unlock(&index->lock);
    return number;
}

int64_t vdr_index_pack_find(vdr_index *index, const uint8_t pack_id[16]) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t number = pack_lookup(index, pack_id);
    pthread_rwlock_unlock(&index->lock);
    return number;
}

int vdr_index_pack_get(vdr_index *index, uint32_t pack, uint8_t pack_id[16], uint32_t *domain, uint32_t *epoch) {
    pthread_rwlock_rdlock(&index->lock);
    int result = VDR_E_MISSING;
    if (pack_serves(index, pack)) {
        memcpy(pack_id, index->packs[pack].id, 16);
        *domain = index->packs[pack].domain;
        *epoch = index->packs[pack].epoch;
        result = VDR_OK;
    }
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int64_t vdr_index_pack_count(vdr_index *index) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t count = (int64_t)index->pack_count;
    pthread_rwlock_unlock(&index->lock);
    return count;
}

static bool is_touched_in(const vdr_index *index, uint32_t pack, const uint8_t *id) {
    const table_slot *slot = table_slot_of(index, id);
    if (slot && slot->place.pack == pack && slot->touched) return true;
    for (size_t i = 0; i < index->segment_count; i++) {
        const segment *s = &index->segments[i];
        for (uint64_t p = segment_lower(s, id); p < s->count && !memcmp(entry_at(s, p), id, 32); p++) {
            vdr_place place;
            entry_place(index, s, entry_at(s, p), &place);
            if (place.pack == pack && bit_get(s->touched, p)) return true;
        }
    }
    return false;
}

int vdr_index_pack_retire(vdr_index *index, uint32_t pack, const uint8_t *ids, size_t count) {
    pthread_rwlock_wrlock(&index->lock);
    int result = pack < index->pack_count ? 1 : VDR_E_MISSING;
    for (size_t i = 0; result == 1 && i < count; i++)
        if (is_touched_in(index, pack, ids + 32 * i)) result = 0;
    if (result == 1) index->packs[pack].retired = true;
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int64_t vdr_index_segment_add(vdr_index *index, int fd, uint64_t entries_offset, uint64_t count, const uint32_t *packs,
                              size_t pack_count) {
    struct stat st;
    if (fstat(fd, &st)) return VDR_E_IO;
    uint64_t bytes = (uint64_t)st.st_size;
    if (entries_offset > bytes || count > (bytes - entries_offset) / VDR_INDEX_ENTRY_BYTES || !bytes) return VDR_E_CORRUPT;
    segment s = {.map_bytes = bytes, .count = count, .pack_count = pack_count};
    s.packs = malloc((pack_count ? pack_count : 1) * sizeof *s.packs);
    s.touched = calloc(bits_bytes(count), 1);
    bool has_marks = true;
    for (uint32_t plane = 0; plane < VDR_INDEX_PLANES; plane++)
        has_marks &= (s.marked[plane] = calloc(bits_bytes(count), 1)) != NULL;
    s.map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (s.map == MAP_FAILED || !s.packs || !s.touched || !has_marks) {
        int error = s.map == MAP_FAILED ? VDR_E_IO : VDR_E_MEMORY, saved = errno;
        segment_release(&s);
        errno = saved;
        return error;
    }
    if (pack_count) memcpy(s.packs, packs, pack_count * sizeof *packs);
    madvise(s.map, bytes, MADV_RANDOM);
    s.entries = s.map + entries_offset;

    pthread_rwlock_wrlock(&index->lock);
    int64_t result = VDR_E_MEMORY;
    if (index->segment_count == index->segment_capacity) {
        size_t wanted = index->segment_capacity ? index->segment_capacity * 2 : 16;
        segment *grown = realloc(index->segments, wanted * sizeof *grown);
        if (grown) {
            index->segments = grown;
            index->segment_capacity = wanted;
        }
    }
    if (index->segment_count < index->segment_capacity) {
        result = s.handle = ++index->next_handle;
        index->segments[index->segment_count++] = s;
    }
    pthread_rwlock_unlock(&index->lock);
    if (result < 0) segment_release(&s);
    return result;
}

int vdr_index_segment_drop(vdr_index *index, int64_t handle) {
    pthread_rwlock_wrlock(&index->lock);
    int result = VDR_E_MISSING;
    for (size_t i = 0; i < index->segment_count; i++) {
        if (index->segments[i].handle != handle) continue;
        segment gone = index->segments[i];
        memmove(&index->segments[i], &index->segments[i + 1], (index->segment_count - i - 1) * sizeof(segment));
        index->segment_count--;
        for (uint64_t p = 0; p < gone.count; p++)
            carry_flags(index, entry_at(&gone, p), bit_get(gone.touched, p), marks_at(&gone, p));
        segment_release(&gone);
        result = VDR_OK;
        break;
    }
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int64_t vdr_index_insert(vdr_index *index, const uint8_t *ids, const vdr_place *places, size_t count) {
    pthread_rwlock_wrlock(&index->lock);
    int64_t added = 0;
    size_t wanted = index->table_slots ? index->table_slots : 1024;
    while ((index->table_used + count) * 4 > wanted * 3) wanted *= 2;
    if (wanted != index->table_slots && table_resize(index, wanted, NULL, 0)) added = VDR_E_MEMORY;
    for (size_t i = 0; added >= 0 && i < count; i++) {
        if (places[i].pack == VDR_INDEX_NO_PACK) continue;
        table_slot *slot = table_slot_of(index, ids + 32 * i);
        bool is_new = slot->place.pack == VDR_INDEX_NO_PACK;
        if (!is_new && pack_serves(index, slot->place.pack) && !is_damaged(index, &slot->place)) continue;
        memcpy(slot->id, ids + 32 * i, 32);
        slot->place = places[i];
        slot->touched = 1; /* just put by an open session */
        slot->marked = 0;
        index->table_used += is_new;
        added++;
    }
    pthread_rwlock_unlock(&index->lock);
    return added;
}

int64_t vdr_index_find(vdr_index *index, const uint8_t *ids, size_t count, vdr_place *places) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        found += lookup(index, ids + 32 * i, &h);
        places[i] = h.place;
    }
    pthread_rwlock_unlock(&index->lock);
    return found;
}

int64_t vdr_index_claim(vdr_index *index, uint32_t domain, const uint8_t *ids, size_t count, uint8_t *lacking) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        lacking[i] = !lookup(index, ids + 32 * i, &h) || h.damaged || index->packs[h.place.pack].domain != domain;
        total += lacking[i];
        if (lacking[i]) continue;
        if (h.segment) bit_set(h.segment->touched, h.position);
        else if (h.slot) __atomic_store_n(&h.slot->touched, 1, __ATOMIC_RELAXED);
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

int64_t vdr_index_lacking(vdr_index *index, const uint8_t *ids, size_t count, uint8_t *lacking) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        lacking[i] = !lookup(index, ids + 32 * i, &h) || h.damaged;
        total += lacking[i];
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

void vdr_index_touch_clear(vdr_index *index) {
    pthread_rwlock_wrlock(&index->lock);
    for (size_t i = 0; i < index->segment_count; i++) {
        memset(index->segments[i].touched, 0, bits_bytes(index->segments[i].count));
    }
    for (size_t i = 0; i < index->table_slots; i++) index->table[i].touched = 0;
    pthread_rwlock_unlock(&index->lock);
}

int vdr_index_damage_add(vdr_index *index, uint32_t pack, uint32_t offset, const uint8_t id[32]) {
    pthread_rwlock_wrlock(&index->lock);
    int result = pack < index->pack_count ? damages_grow(index) : VDR_E_MISSING;
    if (!result) {
        vdr_damage *slot = &index->damages[damage_slot(index->damages, index->damage_slots, pack, offset)];
        result = slot->pack == VDR_INDEX_NO_PACK;
        slot->pack = pack;
        slot->offset = offset;
        memcpy(slot->id, id, 32);
        index->damage_count += (size_t)result;
        index->damage_version += (uint64_t)result;
    }
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int vdr_index_damage_remove(vdr_index *index, uint32_t pack, uint32_t offset) {
    pthread_rwlock_wrlock(&index->lock);
    size_t mask = index->damage_slots - 1, gap = 0;
    int result = 0;
    if (index->damage_count) {
        gap = damage_slot(index->damages, index->damage_slots, pack, offset);
        result = index->damages[gap].pack != VDR_INDEX_NO_PACK;
    }
    if (result) {
        /* Those behind that belong at or before the gap move into it. */
        for (size_t i = (gap + 1) & mask; index->damages[i].pack != VDR_INDEX_NO_PACK; i = (i + 1) & mask) {
            size_t home = damage_hash(index->damages[i].pack, index->damages[i].offset) & mask;
            if (((i - home) & mask) < ((i - gap) & mask)) continue;
            index->damages[gap] = index->damages[i];
            gap = i;
        }
        index->damages[gap].pack = VDR_INDEX_NO_PACK;
        index->damage_count--;
        index->damage_version++;
    }
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int64_t vdr_index_damage_list(vdr_index *index, vdr_damage *damages, size_t capacity) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t count = 0;
    for (size_t i = 0; i < index->damage_slots; i++) {
        if (!pack_serves(index, index->damages[i].pack)) continue;
        if ((size_t)count < capacity) damages[count] = index->damages[i];
        count++;
    }
    pthread_rwlock_unlock(&index->lock);
    return count;
}

uint64_t vdr_index_damage_version(vdr_index *index) {
    pthread_rwlock_rdlock(&index->lock);
    uint64_t version = index->damage_version;
    pthread_rwlock_unlock(&index->lock);
    return version;
}

/* ---- writing a segment ---- */

typedef struct {
    const segment *segment; /* NULL: the sorted table */
    const uint8_t **rows;   /* of the table */
    uint64_t position, count;
    uint8_t entry[VDR_INDEX_ENTRY_BYTES]; /* the current one, pack number translated */
    bool damaged;
    bool ended;
} source;

static void source_next(const vdr_index *index, source *from, const uint32_t *translate, size_t translate_count) {
    while (from->position < from->count) {
        vdr_place place;
        if (from->segment) {
            const uint8_t *entry = entry_at(from->segment, from->position++);
            memcpy(from->entry, entry, 32);
            entry_place(index, from->segment, entry, &place);
        } else {
            const table_slot *slot = (const table_slot *)(const void *)from->rows[from->position++];
            memcpy(from->entry, slot->id, 32);
            place = slot->place;
            if (!pack_serves(index, place.pack)) place.pack = VDR_INDEX_NO_PACK;
        }
        if (place.pack >= translate_count || translate[place.pack] == VDR_INDEX_NO_PACK) continue;
        from->damaged = is_damaged(index, &place);
        place.pack = translate[place.pack];
        memcpy(from->entry + 32, &place, sizeof place);
        return;
    }
    from->ended = true;
}

static int compare_rows(const void *a, const void *b) {
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, 32);
}

static int write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset) {
    while (bytes) {
        ssize_t n = pwrite(fd, data, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return VDR_E_IO;
        data += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return VDR_OK;
}

static int64_t merge_sources(vdr_index *index, source *sources, size_t count, bool has_table, const uint32_t *translate,
                             size_t translate_count, uint8_t *buffer, int fd, uint64_t offset) {
    int64_t written = 0;
    size_t filled = 0;
    const size_t capacity = (size_t)WRITE_ENTRIES * VDR_INDEX_ENTRY_BYTES;
    bool last_damaged = false;
    for (size_t i = 0; i < count; i++) source_next(index, &sources[i], translate, translate_count);
    for (;;) {
        source *least = NULL;
        for (size_t i = 0; i < count; i++)
            if (!sources[i].ended && (!least || memcmp(sources[i].entry, least->entry, 32) < 0)) least = &sources[i];
        if (!least) break;
        bool again = filled && !memcmp(buffer + filled - VDR_INDEX_ENTRY_BYTES, least->entry, 32);
        if (!again && filled == capacity) {
            /* Segments stay as they are meanwhile, the table does not: without it, whoever waits to insert has his turn. */
            if (!has_table) pthread_rwlock_unlock(&index->lock);
            int error = write_all(fd, buffer, filled, offset);
            if (!has_table) pthread_rwlock_rdlock(&index->lock);
            if (error) return VDR_E_IO;
            offset += filled;
            filled = 0;
        }
        if (!again || (last_damaged && !least->damaged)) {
            filled -= again ? VDR_INDEX_ENTRY_BYTES : 0;
            memcpy(buffer + filled, least->entry, VDR_INDEX_ENTRY_BYTES);
            filled += VDR_INDEX_ENTRY_BYTES;
            written += !again;
            last_damaged = least->damaged;
        }
        source_next(index, least, translate, translate_count);
    }
    return write_all(fd, buffer, filled, offset) ? VDR_E_IO : written;
}

int64_t vdr_index_write(vdr_index *index, const int64_t *handles, size_t handle_count, int from_table,
                        const uint32_t *translate, size_t translate_count, int fd, uint64_t offset) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t result = VDR_E_MEMORY;
    source *sources = calloc(handle_count + 1, sizeof *sources);
    const uint8_t **rows = malloc((index->table_used + 1) * sizeof *rows);
    uint8_t *buffer = malloc((size_t)WRITE_ENTRIES * VDR_INDEX_ENTRY_BYTES);
    size_t count = 0;
    if (sources && rows && buffer) {
        if (from_table) { /* first: equal ids keep the newest place */
            size_t n = 0;
            for (size_t i = 0; i < index->table_slots; i++)
                if (index->table[i].place.pack != VDR_INDEX_NO_PACK) rows[n++] = index->table[i].id;
            qsort(rows, n, sizeof *rows, compare_rows);
            sources[count++] = (source){.rows = rows, .count = n};
        }
        for (size_t i = index->segment_count; i-- > 0;)
            for (size_t k = 0; k < handle_count; k++)
                if (index->segments[i].handle == handles[k])
                    sources[count++] = (source){.segment = &index->segments[i], .count = index->segments[i].count};
        result = merge_sources(index, sources, count, from_table != 0, translate, translate_count, buffer, fd, offset);
    }
    pthread_rwlock_unlock(&index->lock);
    free(sources);
    free(rows);
    free(buffer);
    return result;
}

int64_t vdr_index_table_drop(vdr_index *index, const uint8_t *flags, size_t pack_count) {
    pthread_rwlock_wrlock(&index->lock);
    int64_t before = (int64_t)index->table_used;
    size_t kept = 0, wanted = 1024;
    for (size_t i = 0; i < index->table_slots; i++) {
        uint32_t pack = index->table[i].place.pack;
        kept += pack != VDR_INDEX_NO_PACK && !(pack < pack_count && flags[pack]);
    }
    while (kept * 4 > wanted * 3) wanted *= 2;
    int64_t result = table_resize(index, wanted, flags, pack_count);
    if (!result) result = before - (int64_t)index->table_used;
    pthread_rwlock_unlock(&index->lock);
    return result;
}

int64_t vdr_index_pack_entries(vdr_index *index, uint32_t pack, uint8_t *ids, vdr_place *places, size_t capacity) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t count = 0;
    for (size_t i = 0; i < index->segment_count; i++) {
        const segment *s = &index->segments[i];
        for (uint64_t p = 0; p < s->count; p++) {
            vdr_place place;
            entry_place(index, s, entry_at(s, p), &place);
            if (place.pack != pack) continue;
            if ((size_t)count < capacity) {
                memcpy(ids + 32 * count, entry_at(s, p), 32);
                places[count] = place;
            }
            count++;
        }
    }
    for (size_t i = 0; i < index->table_slots; i++) {
        if (index->table[i].place.pack != pack || !pack_serves(index, pack)) continue;
        if ((size_t)count < capacity) {
            memcpy(ids + 32 * count, index->table[i].id, 32);
            places[count] = index->table[i].place;
        }
        count++;
    }
    pthread_rwlock_unlock(&index->lock);
    return count;
}

int64_t vdr_index_table_count(vdr_index *index) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t count = (int64_t)index->table_used;
    pthread_rwlock_unlock(&index->lock);
    return count;
}

int64_t vdr_index_segment_entries(vdr_index *index) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t count = 0;
    for (size_t i = 0; i < index->segment_count; i++) count += (int64_t)index->segments[i].count;
    pthread_rwlock_unlock(&index->lock);
    return count;
}

/* ---- marking ---- */

void vdr_index_mark_begin(vdr_index *index, uint32_t plane) {
    pthread_rwlock_wrlock(&index->lock);
    for (size_t i = 0; i < index->segment_count; i++)
        memset(index->segments[i].marked[plane], 0, bits_bytes(index->segments[i].count));
    for (size_t i = 0; i < index->table_slots; i++) index->table[i].marked &= (uint8_t)~(1u << plane);
    pthread_rwlock_unlock(&index->lock);
}

int64_t vdr_index_mark(vdr_index *index, uint32_t plane, const uint8_t *ids, size_t count, uint8_t *fresh) {
    uint8_t bit = (uint8_t)(1u << plane);
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        if (!lookup(index, ids + 32 * i, &h)) fresh[i] = 2;
        else if (h.slot) fresh[i] = !(__atomic_fetch_or(&h.slot->marked, bit, __ATOMIC_RELAXED) & bit);
        else fresh[i] = !bit_set(h.segment->marked[plane], h.position);
        total += fresh[i] == 1;
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

int64_t vdr_index_unmarked(vdr_index *index, uint32_t plane, const uint8_t *ids, size_t count, uint8_t *unmarked) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        unmarked[i] = 0;
        if (!lookup(index, ids + 32 * i, &h)) continue;
        if (h.slot) unmarked[i] = !(h.slot->marked >> plane & 1);
        else unmarked[i] = !bit_get(h.segment->marked[plane], h.position);
        total += unmarked[i];
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

int64_t vdr_index_usage(vdr_index *index, uint64_t *live_bytes, uint32_t *live_chunks, size_t pack_count) {
    memset(live_bytes, 0, pack_count * sizeof *live_bytes);
    memset(live_chunks, 0, pack_count * sizeof *live_chunks);
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < index->segment_count; i++) {
        const segment *s = &index->segments[i];
        for (uint64_t p = 0; p < s->count; p++) {
            if (!bit_get(s->marked[0], p)) continue;
            vdr_place place;
            entry_place(index, s, entry_at(s, p), &place);
            if (place.pack >= pack_count) continue;
            live_bytes[place.pack] += place.stored_bytes + RECORD_HEADER_BYTES;
            live_chunks[place.pack]++;
            total++;
        }
    }
    for (size_t i = 0; i < index->table_slots; i++) {
        const vdr_place *place = &index->table[i].place;
        if (place->pack == VDR_INDEX_NO_PACK || place->pack >= pack_count) continue;
        live_bytes[place->pack] += place->stored_bytes + RECORD_HEADER_BYTES;
        live_chunks[place->pack]++;
        total++;
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

int64_t vdr_index_marked(vdr_index *index, uint32_t pack, const uint8_t *ids, size_t count, uint8_t *live) {
    pthread_rwlock_rdlock(&index->lock);
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        hit h;
        live[i] = 0;
        if (lookup(index, ids + 32 * i, &h) && h.place.pack == pack)
            live[i] = h.slot ? 1 : bit_get(h.segment->marked[0], h.position);
        total += live[i];
    }
    pthread_rwlock_unlock(&index->lock);
    return total;
}

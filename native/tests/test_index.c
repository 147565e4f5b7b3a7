/* The index against a plain model: table, segments, merges, retirement, marks, and segments that lie. */
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blake3.h"
#include "err.h"
#include "index.h"

#define CHUNKS 20000u
#define PACKS 8u

static uint8_t ids[CHUNKS][32];
static vdr_place places[CHUNKS];

static void make_chunks(void) {
    for (uint32_t i = 0; i < CHUNKS; i++) {
        vdr_blake3_hash((const uint8_t *)&i, sizeof i, ids[i]);
        places[i] = (vdr_place){.pack = i % PACKS, .offset = i * 100 + 64, .stored_bytes = 40, .plain_bytes = 50};
    }
}

static vdr_index *with_packs(void) {
    vdr_index *index = vdr_index_open();
    for (uint8_t pack = 0; pack < PACKS; pack++) {
        uint8_t pack_id[16] = {pack, 1};
        assert(vdr_index_pack_add(index, pack_id, 0, 0) == pack);
        assert(vdr_index_pack_add(index, pack_id, 0, 0) == pack);
        assert(vdr_index_pack_find(index, pack_id) == pack);
    }
    uint8_t unknown[16] = {200};
    assert(vdr_index_pack_find(index, unknown) == VDR_E_MISSING);
    assert(vdr_index_pack_count(index) == PACKS);
    return index;
}

static void check_found(vdr_index *index, uint32_t from, uint32_t to, int is_there) {
    for (uint32_t i = from; i < to; i++) {
        vdr_place place;
        assert(vdr_index_find(index, ids[i], 1, &place) == is_there);
        assert(!is_there || memcmp(&place, &places[i], sizeof place) == 0);
        assert(is_there || place.pack == VDR_INDEX_NO_PACK);
    }
}

/* Write the table (or `handles`) to a file, map it, drop what it replaces. Returns the handle. */
static int64_t spill(vdr_index *index, const int64_t *handles, size_t handle_count) {
    FILE *file = tmpfile();
    uint32_t same[PACKS];
    uint8_t flags[PACKS];
    for (uint32_t i = 0; i < PACKS; i++) same[i] = i;
    memset(flags, 1, sizeof flags);
    int64_t count = vdr_index_write(index, handles, handle_count, handle_count == 0, same, PACKS, fileno(file), 64);
    assert(count >= 0);
    if (count == 0) assert(ftruncate(fileno(file), 64) == 0);
    int64_t handle = vdr_index_segment_add(index, fileno(file), 64, (uint64_t)count, same, PACKS);
    assert(handle > 0);
    if (handle_count == 0) vdr_index_table_drop(index, flags, PACKS);
    for (size_t i = 0; i < handle_count; i++) assert(vdr_index_segment_drop(index, handles[i]) == VDR_OK);
    fclose(file);
    return handle;
}

static void check_model(void) {
    vdr_index *index = with_packs();
    int64_t handles[4];
    uint32_t step = CHUNKS / 4;
    for (uint32_t part = 0; part < 4; part++) {
        check_found(index, part * step, (part + 1) * step, 0);
        assert(vdr_index_insert(index, ids[part * step], &places[part * step], step) == step);
        assert(vdr_index_insert(index, ids[part * step], &places[part * step], step) == 0);
        check_found(index, 0, (part + 1) * step, 1);
        handles[part] = spill(index, NULL, 0);
        assert(vdr_index_table_count(index) == 0);
        check_found(index, 0, (part + 1) * step, 1);
    }
    handles[0] = spill(index, handles, 4);
    check_found(index, 0, CHUNKS, 1);
    assert(vdr_index_segment_entries(index) == CHUNKS);
    assert(vdr_index_segment_drop(index, handles[3]) == VDR_E_MISSING);
    vdr_index_close(index);
}

static void check_retirement(void) {
    vdr_index *index = with_packs();
    uint8_t lacking[CHUNKS], live[CHUNKS];
    vdr_index_insert(index, ids[0], places, CHUNKS);
    vdr_index_touch_clear(index);
    spill(index, NULL, 0);
    assert(vdr_index_claim(index, 0, ids[3], 1, lacking) == 0 && !lacking[0]);
    /* A chunk of pack 3 was claimed: its pack stays, others go. */
    assert(vdr_index_pack_retire(index, 3, ids[3], 1) == 0);
    assert(vdr_index_pack_retire(index, 4, ids[4], 1) == 1);
    vdr_place place;
    assert(vdr_index_find(index, ids[4], 1, &place) == 0);
    assert(vdr_index_find(index, ids[3], 1, &place) == 1);
    /* What is known about an entry goes with it from segment to segment, and from the table to a segment. */
    int64_t handle = 1;
    spill(index, &handle, 1);
    assert(vdr_index_pack_retire(index, 3, ids[3], 1) == 0);
    vdr_index_touch_clear(index);
    vdr_index_mark_begin(index, 0);
    assert(vdr_index_mark(index, 0, ids[0], 2, live) == 2 && live[0] == 1 && live[1] == 1);
    assert(vdr_index_mark(index, 0, ids[0], 2, live) == 0 && live[0] == 0);
    assert(vdr_index_mark(index, 0, ids[4], 1, live) == 0 && live[0] == 2);
    /* Planes know nothing of each other, and all of them go along. */
    vdr_index_mark_begin(index, 2);
    assert(vdr_index_mark(index, 2, ids[1], 1, live) == 1);
    handle = 2;
    spill(index, &handle, 1);
    assert(vdr_index_unmarked(index, 2, ids[0], 2, live) == 1 && live[0] == 1 && live[1] == 0);
    assert(vdr_index_unmarked(index, 0, ids[0], 2, live) == 0);
    assert(vdr_index_unmarked(index, 1, ids[4], 1, live) == 0 && live[0] == 0);
    uint64_t live_bytes[PACKS];
    uint32_t live_chunks[PACKS];
    assert(vdr_index_usage(index, live_bytes, live_chunks, PACKS) == 2);
    assert(live_bytes[0] == 96 && live_chunks[1] == 1 && live_chunks[3] == 0);
    assert(vdr_index_marked(index, 1, ids[0], 2, live) == 1 && live[1] == 1);
    assert(vdr_index_pack_retire(index, 3, ids[3], 1) == 1);
    /* A retired pack's place is replaced by a new one. */
    vdr_place again = {.pack = 0, .offset = 7, .stored_bytes = 1, .plain_bytes = 1};
    assert(vdr_index_insert(index, ids[3], &again, 1) == 1);
    assert(vdr_index_find(index, ids[3], 1, &place) == 1 && place.offset == 7);
    vdr_index_close(index);
}

/* A damaged place answers where there is no other; a backup hears that the chunk is lacking and the new place wins, in the
 * table, in a segment, and when segments are merged. */
static void check_damage(void) {
    vdr_index *index = with_packs();
    vdr_place place;
    uint8_t lacking[2];
    vdr_index_insert(index, ids[0], places, 100);
    int64_t old = spill(index, NULL, 0);
    assert(vdr_index_damage_version(index) == 0);
    for (uint32_t i = 0; i < 100; i++) {
        assert(vdr_index_damage_add(index, places[i].pack, places[i].offset, ids[i]) == 1);
        assert(vdr_index_damage_add(index, places[i].pack, places[i].offset, ids[i]) == 0);
    }
    for (uint32_t i = 0; i < 100; i += 2) {
        assert(vdr_index_damage_remove(index, places[i].pack, places[i].offset) == 1);
        assert(vdr_index_damage_remove(index, places[i].pack, places[i].offset) == 0);
    }
    assert(vdr_index_damage_add(index, PACKS, 64, ids[0]) == VDR_E_MISSING);
    assert(vdr_index_damage_version(index) == 150);
    vdr_damage known[100];
    assert(vdr_index_damage_list(index, known, 100) == 50);
    for (uint32_t i = 0; i < 50; i++) {
        uint32_t number = (known[i].offset - 64) / 100;
        assert(number % 2 == 1 && known[i].pack == number % PACKS && !memcmp(known[i].id, ids[number], 32));
    }
    check_found(index, 0, 100, 1);
    assert(vdr_index_lacking(index, ids[0], 2, lacking) == 1 && !lacking[0] && lacking[1]);
    assert(vdr_index_claim(index, 0, ids[0], 2, lacking) == 1 && !lacking[0] && lacking[1]);

    /* Stored again: from the table, whether or not that has a damaged place itself. */
    vdr_place again[2] = {{.pack = 0, .offset = 1000000, .stored_bytes = 40, .plain_bytes = 50}, {.pack = 0, .offset = 2000000}};
    again[1].stored_bytes = 40;
    again[1].plain_bytes = 50;
    assert(vdr_index_insert(index, ids[1], &again[0], 1) == 1);
    assert(vdr_index_damage_add(index, 0, 1000000, ids[1]) == 1);
    assert(vdr_index_lacking(index, ids[1], 1, lacking) == 1);
    assert(vdr_index_insert(index, ids[1], &again[1], 1) == 1);
    assert(vdr_index_find(index, ids[1], 1, &place) == 1 && place.offset == 2000000);
    assert(vdr_index_lacking(index, ids[1], 1, lacking) == 0);

    /* A merge keeps the whole place, be it the older one or the newer one. */
    int64_t both[2] = {old, spill(index, NULL, 0)};
    vdr_place worse = {.pack = 2, .offset = 3000000, .stored_bytes = 40, .plain_bytes = 50};
    assert(vdr_index_damage_remove(index, places[3].pack, places[3].offset) == 1);
    assert(vdr_index_insert(index, ids[3], &worse, 1) == 1);
    assert(vdr_index_damage_add(index, 2, 3000000, ids[3]) == 1);
    int64_t third = spill(index, NULL, 0);
    int64_t all[3] = {both[0], both[1], third};
    spill(index, all, 3);
    assert(vdr_index_segment_entries(index) == 100);
    assert(vdr_index_find(index, ids[1], 1, &place) == 1 && place.offset == 2000000);
    assert(vdr_index_find(index, ids[3], 1, &place) == 1 && place.offset == places[3].offset);
    assert(vdr_index_lacking(index, ids[1], 1, lacking) == 0 && vdr_index_lacking(index, ids[3], 1, lacking) == 0);

    uint8_t found[100 * 32];
    vdr_place at[100];
    int64_t in_pack = vdr_index_pack_entries(index, 5, found, at, 100);
    assert(in_pack == 12);
    for (int64_t i = 0; i < in_pack; i++) {
        uint32_t number = (at[i].offset - 64) / 100;
        assert(at[i].pack == 5 && number % PACKS == 5 && !memcmp(found + 32 * i, ids[number], 32));
    }
    assert(vdr_index_pack_entries(index, 5, NULL, NULL, 0) == 12);
    assert(vdr_index_pack_retire(index, 5, NULL, 0) == 1);
    assert(vdr_index_pack_entries(index, 5, found, at, 100) == 0);
    vdr_index_close(index);
}

static void check_lying_segments(void) {
    static uint8_t junk[64 + 1000 * VDR_INDEX_ENTRY_BYTES];
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int sameness = 0; sameness < 3; sameness++) {
        if (sameness == 1) memset(junk, 0, sizeof junk);
        if (sameness == 2) memset(junk, 0xff, sizeof junk);
        FILE *file = tmpfile();
        assert(fwrite(junk, sizeof junk, 1, file) == 1 && fflush(file) == 0);
        vdr_index *index = with_packs();
        uint32_t packs[1] = {0};
        assert(vdr_index_segment_add(index, fileno(file), 64, 1001, packs, 1) == VDR_E_CORRUPT);
        assert(vdr_index_segment_add(index, fileno(file), UINT64_MAX, 1, packs, 1) == VDR_E_CORRUPT);
        assert(vdr_index_segment_add(index, fileno(file), 64, UINT64_MAX, packs, 1) == VDR_E_CORRUPT);
        assert(vdr_index_segment_add(index, fileno(file), 64, 1000, packs, 1) > 0);
        for (uint32_t i = 0; i < 1000; i++) {
            vdr_place place;
            vdr_index_find(index, ids[i], 1, &place);
            vdr_index_find(index, junk + i, 1, &place);
            assert(place.pack == 0 || place.pack == VDR_INDEX_NO_PACK);
        }
        vdr_index_close(index);
        fclose(file);
    }
}

static void *reader_thread(void *context) {
    vdr_index *index = context;
    uint8_t lacking[1];
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < CHUNKS / 2; i++) {
            assert(vdr_index_claim(index, 0, ids[i], 1, lacking) == 0);
        }
    return NULL;
}

static void check_threads(void) {
    vdr_index *index = with_packs();
    pthread_t threads[3];
    vdr_index_insert(index, ids[0], places, CHUNKS / 2);
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, reader_thread, index);
    for (uint32_t i = CHUNKS / 2; i < CHUNKS; i += 500) {
        vdr_index_insert(index, ids[i], &places[i], 500);
        spill(index, NULL, 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    check_found(index, 0, CHUNKS, 1);
    vdr_index_retain(index);
    vdr_index_close(index);
    vdr_index_close(index);
}

int main(void) {
    make_chunks();
    check_model();
    check_retirement();
    check_damage();
    check_lying_segments();
    check_threads();
    vdr_index_close(NULL);
    return 0;
}

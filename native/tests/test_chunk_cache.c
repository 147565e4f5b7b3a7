/* The cache of chunks: its budget, who goes first, one that fills while others wait, one that fails. */
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "chunk_cache.h"
#include "err.h"

enum { CHUNK = 1000, ENTRIES = 64, THREADS = 8, TURNS = 3000 };

static vdr_chunk_cache cache;

/* All ids fall into one shard, so that the budget is that of one. */
static void make_id(uint8_t id[32], unsigned number) {
    memset(id, 0, 32);
    memcpy(id, &number, sizeof number);
}

static vdr_pin *fill(unsigned number) {
    uint8_t id[32];
    bool is_new;
    make_id(id, number);
    vdr_pin *pin = vdr_chunk_cache_make(&cache, id, CHUNK, &is_new);
    assert(pin && is_new);
    memset(pin->data, (int)number, CHUNK);
    vdr_chunk_cache_filled(&cache, pin, VDR_OK, 0);
    return pin;
}

static bool has(unsigned number) {
    uint8_t id[32];
    make_id(id, number);
    return vdr_chunk_cache_has(&cache, id);
}

static void check_budget_drops_the_least_recently_used(void) {
    uint8_t id[32];
    assert(vdr_chunk_cache_open(&cache, VDR_CHUNK_CACHE_SHARDS * 4 * CHUNK));
    for (unsigned i = 0; i < 4; i++) vdr_chunk_cache_give(&cache, fill(i));
    make_id(id, 0);
    vdr_pin *used = vdr_chunk_cache_find(&cache, id);
    assert(used && vdr_chunk_cache_wait(&cache, used) == VDR_OK && used->data[CHUNK - 1] == 0);
    vdr_chunk_cache_give(&cache, used);
    vdr_chunk_cache_give(&cache, fill(4));
    assert(has(0) && !has(1) && has(2) && has(3) && has(4));
    assert(vdr_chunk_cache_bytes(&cache) == 4 * CHUNK);
    /* What is in use stays, whatever the budget says. */
    make_id(id, 2);
    used = vdr_chunk_cache_find(&cache, id);
    for (unsigned i = 10; i < 20; i++) vdr_chunk_cache_give(&cache, fill(i));
    assert(has(2) && used->data[0] == 2);
    vdr_chunk_cache_give(&cache, used);
    vdr_chunk_cache_close(&cache);
}

static void check_failed_one_leaves(void) {
    uint8_t id[32];
    bool is_new;
    assert(vdr_chunk_cache_open(&cache, 1 << 20));
    make_id(id, 7);
    vdr_pin *pin = vdr_chunk_cache_make(&cache, id, CHUNK, &is_new);
    vdr_pin *other = vdr_chunk_cache_make(&cache, id, CHUNK, &is_new);
    assert(pin == other && !is_new);
    vdr_chunk_cache_filled(&cache, pin, VDR_E_IO, ENOSPC);
    assert(!has(7) && vdr_chunk_cache_bytes(&cache) == 0);
    errno = 0;
    assert(vdr_chunk_cache_wait(&cache, other) == VDR_E_IO && errno == ENOSPC);
    vdr_chunk_cache_give(&cache, pin);
    vdr_chunk_cache_give(&cache, fill(7)); /* may be tried again while somebody still holds the failure */
    vdr_chunk_cache_give(&cache, other);
    assert(has(7));
    vdr_chunk_cache_close(&cache);
}

static unsigned fills[ENTRIES];

static void *use_many(void *context) {
    unsigned seed = (unsigned)(size_t)context;
    for (int turn = 0; turn < TURNS; turn++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned number = (seed >> 16) % ENTRIES;
        uint8_t id[32];
        bool is_new = false;
        make_id(id, number);
        id[16] = (uint8_t)(number % 5);
        vdr_pin *pin = vdr_chunk_cache_find(&cache, id);
        if (!pin) pin = vdr_chunk_cache_make(&cache, id, CHUNK, &is_new);
        assert(pin);
        if (is_new) {
            memset(pin->data, (int)number, CHUNK);
            __atomic_fetch_add(&fills[number], 1, __ATOMIC_RELAXED);
            vdr_chunk_cache_filled(&cache, pin, number % 16 == 3 ? VDR_E_AUTH : VDR_OK, 0);
        }
        int error = vdr_chunk_cache_wait(&cache, pin);
        assert(error == (number % 16 == 3 ? VDR_E_AUTH : VDR_OK));
        if (!error) assert(pin->data[0] == number && pin->data[CHUNK - 1] == number);
        vdr_chunk_cache_give(&cache, pin);
    }
    return NULL;
}

static void check_threads(uint64_t bytes_max, bool has_room) {
    pthread_t threads[THREADS];
    memset(fills, 0, sizeof fills);
    assert(vdr_chunk_cache_open(&cache, bytes_max));
    for (size_t i = 0; i < THREADS; i++) assert(!pthread_create(&threads[i], NULL, use_many, (void *)i));
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ENTRIES; i++) assert(!has_room || i % 16 == 3 || fills[i] == 1);
    assert(vdr_chunk_cache_bytes(&cache) <= bytes_max);
    vdr_chunk_cache_close(&cache);
}

int main(void) {
    check_budget_drops_the_least_recently_used();
    check_failed_one_leaves();
    check_threads(1 << 20, true);
    check_threads(VDR_CHUNK_CACHE_SHARDS * 3 * CHUNK, false);
    check_threads(0, false);
    printf("chunk cache: ok\n");
    return 0;
}

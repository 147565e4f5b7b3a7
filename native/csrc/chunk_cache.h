/* Plain chunks in memory by id, within a budget, least recently used ones dropped first.
 *
 * A chunk that is being read has its place already: whoever wants it meanwhile waits for it and does not read it again.
 * Knows nothing of packs: who took a new place fills it. Thread-safe. */
#ifndef VDR_CHUNK_CACHE_H
#define VDR_CHUNK_CACHE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VDR_CHUNK_CACHE_SHARDS = 16 };

typedef enum { VDR_PIN_LOADING, VDR_PIN_READY, VDR_PIN_FAILED } vdr_pin_state;

/* A place in the cache, for its users until they give it back. */
typedef struct vdr_pin {
    uint8_t id[32];
    struct vdr_pin *chain;         /* of its hash bucket */
    struct vdr_pin *newer, *older; /* of the shard's list, while nobody uses it */
    uint32_t bytes;
    uint32_t users;
    vdr_pin_state state;
    int error, saved_errno;        /* of a failed one */
    uint8_t data[];
} vdr_pin;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a place was filled or given up */
    vdr_pin **buckets;
    size_t bucket_count;
    vdr_pin *oldest, *newest;
    uint64_t bytes, bytes_max;
    uint32_t waiters;
} vdr_chunk_shard;

typedef struct {
    vdr_chunk_shard shards[VDR_CHUNK_CACHE_SHARDS];
} vdr_chunk_cache;

/* false without memory; close it all the same. */
bool vdr_chunk_cache_open(vdr_chunk_cache *cache, uint64_t bytes_max);
/* Nobody uses a pin any more. */
void vdr_chunk_cache_close(vdr_chunk_cache *cache);

/* The place of a chunk, ready or being filled by somebody, or NULL. To be given back. */
vdr_pin *vdr_chunk_cache_find(vdr_chunk_cache *cache, const uint8_t id[32]);
bool vdr_chunk_cache_has(vdr_chunk_cache *cache, const uint8_t id[32]);

/* Put a place of `bytes` in; *is_new = it is the caller's to fill, else somebody was quicker. NULL without memory. */
vdr_pin *vdr_chunk_cache_make(vdr_chunk_cache *cache, const uint8_t id[32], uint32_t bytes, bool *is_new);

/* The caller's new place holds the chunk, or cannot be filled (error < 0; it leaves the cache). */
void vdr_chunk_cache_filled(vdr_chunk_cache *cache, vdr_pin *pin, int error, int saved_errno);

/* Wait until it is filled: VDR_OK, or why not, with errno. */
int vdr_chunk_cache_wait(vdr_chunk_cache *cache, vdr_pin *pin);

void vdr_chunk_cache_give(vdr_chunk_cache *cache, vdr_pin *pin);

uint64_t vdr_chunk_cache_bytes(vdr_chunk_cache *cache);

#endif

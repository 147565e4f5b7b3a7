#include "chunk_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

#define BUCKET_BYTES 8192u /* map nodes are the smallest chunks there are many of */

bool vdr_chunk_cache_open(vdr_chunk_cache *cache, uint64_t bytes_max) {
    bool ok = true;
    memset(cache, 0, sizeof *cache);
    for (size_t i = 0; i < VDR_CHUNK_CACHE_SHARDS; i++) {
        vdr_chunk_shard *s = &cache->shards[i];
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->changed, NULL);
        s->bytes_max = bytes_max / VDR_CHUNK_CACHE_SHARDS;
        s->bucket_count = 64;
        while (s->bucket_count * BUCKET_BYTES < s->bytes_max) s->bucket_count *= 2;
        s->buckets = calloc(s->bucket_count, sizeof(vdr_pin *));
        ok = ok && s->buckets;
    }
    return ok;
}

void vdr_chunk_cache_close(vdr_chunk_cache *cache) {
    for (size_t i = 0; i < VDR_CHUNK_CACHE_SHARDS; i++) {
        vdr_chunk_shard *s = &cache->shards[i];
        for (size_t k = 0; s->buckets && k < s->bucket_count; k++)
            while (s->buckets[k]) {
                vdr_pin *pin = s->buckets[k];
                s->buckets[k] = pin->chain;
                free(pin);
            }
        free(s->buckets);
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->lock);
    }
}

/* ---- a shard, lock held ---- */

static vdr_chunk_shard *shard_of(vdr_chunk_cache *cache, const uint8_t *id) {
    return &cache->shards[id[16] % VDR_CHUNK_CACHE_SHARDS];
}

static vdr_pin **bucket_of(vdr_chunk_shard *s, const uint8_t *id) {
    uint64_t word;
    memcpy(&word, id, 8);
    return &s->buckets[word & (s->bucket_count - 1)];
}

static vdr_pin *find(vdr_chunk_shard *s, const uint8_t *id) {
    vdr_pin *pin = *bucket_of(s, id);
    while (pin && memcmp(pin->id, id, 32)) pin = pin->chain;
    return pin;
}

static void list_remove(vdr_chunk_shard *s, vdr_pin *pin) {
    if (pin->older) pin->older->newer = pin->newer;
    else s->oldest = pin->newer;
    if (pin->newer) pin->newer->older = pin->older;
    else s->newest = pin->older;
}

static void list_append(vdr_chunk_shard *s, vdr_pin *pin) {
    pin->newer = NULL;
    pin->older = s->newest;
    if (s->newest) s->newest->newer = pin;
    else s->oldest = pin;
    s->newest = pin;
}

static void leave(vdr_chunk_shard *s, vdr_pin *pin) {
    vdr_pin **link = bucket_of(s, pin->id);
    while (*link != pin) link = &(*link)->chain;
    *link = pin->chain;
    s->bytes -= pin->bytes;
}

static void use(vdr_chunk_shard *s, vdr_pin *pin) {
    if (pin->users++ == 0) list_remove(s, pin);
}

static void evict(vdr_chunk_shard *s) {
    while (s->bytes > s->bytes_max && s->oldest) {
        vdr_pin *pin = s->oldest;
        list_remove(s, pin);
        leave(s, pin);
        free(pin);
    }
}

/* ---- pins ---- */

vdr_pin *vdr_chunk_cache_find(vdr_chunk_cache *cache, const uint8_t id[32]) {
    vdr_chunk_shard *s = shard_of(cache, id);
    pthread_mutex_lock(&s->lock);
    vdr_pin *pin = find(s, id);
    if (pin) use(s, pin);
    pthread_mutex_unlock(&s->lock);
    return pin;
}

bool vdr_chunk_cache_has(vdr_chunk_cache *cache, const uint8_t id[32]) {
    vdr_chunk_shard *s = shard_of(cache, id);
    pthread_mutex_lock(&s->lock);
    bool has = find(s, id) != NULL;
    pthread_mutex_unlock(&s->lock);
    return has;
}

vdr_pin *vdr_chunk_cache_make(vdr_chunk_cache *cache, const uint8_t id[32], uint32_t bytes, bool *is_new) {
    vdr_chunk_shard *s = shard_of(cache, id);
    vdr_pin *made = malloc(sizeof *made + bytes);
    *is_new = false;
    if (!made) return NULL;
    memcpy(made->id, id, 32);
    made->bytes = bytes;
    made->users = 1;
    made->state = VDR_PIN_LOADING;
    made->error = made->saved_errno = 0;
    pthread_mutex_lock(&s->lock);
    vdr_pin *pin = find(s, id);
    if (pin) {
        use(s, pin);
    } else {
        vdr_pin **bucket = bucket_of(s, id);
        made->chain = *bucket;
        *bucket = pin = made;
        s->bytes += bytes;
        evict(s);
        *is_new = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (!*is_new) free(made);
    return pin;
}

void vdr_chunk_cache_filled(vdr_chunk_cache *cache, vdr_pin *pin, int error, int saved_errno) {
    vdr_chunk_shard *s = shard_of(cache, pin->id);
    pthread_mutex_lock(&s->lock);
    if (error) {
        pin->state = VDR_PIN_FAILED;
        pin->error = error;
        pin->saved_errno = saved_errno;
        leave(s, pin);
    } else {
        pin->state = VDR_PIN_READY;
    }
    if (s->waiters) pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int vdr_chunk_cache_wait(vdr_chunk_cache *cache, vdr_pin *pin) {
    vdr_chunk_shard *s = shard_of(cache, pin->id);
    pthread_mutex_lock(&s->lock);
    while (pin->state == VDR_PIN_LOADING) {
        s->waiters++;
        pthread_cond_wait(&s->changed, &s->lock);
        s->waiters--;
    }
    int error = pin->state == VDR_PIN_FAILED ? pin->error : VDR_OK;
    int number = pin->saved_errno;
    pthread_mutex_unlock(&s->lock);
    if (error) errno = number;
    return error;
}

void vdr_chunk_cache_give(vdr_chunk_cache *cache, vdr_pin *pin) {
    vdr_chunk_shard *s = shard_of(cache, pin->id);
    bool is_gone = false;
    pthread_mutex_lock(&s->lock);
    if (--pin->users == 0) {
        is_gone = pin->state == VDR_PIN_FAILED;
        if (!is_gone) {
            list_append(s, pin);
            evict(s);
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (is_gone) free(pin);
}

uint64_t vdr_chunk_cache_bytes(vdr_chunk_cache *cache) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < VDR_CHUNK_CACHE_SHARDS; i++) {
        pthread_mutex_lock(&cache->shards[i].lock);
        bytes += cache->shards[i].bytes;
        pthread_mutex_unlock(&cache->shards[i].lock);
    }
    return bytes;
}

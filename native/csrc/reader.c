#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aead.h"
#include "ahead.h"
#include "blake3.h"
#include "chunk.h"
#include "chunk_cache.h"
#include "err.h"

#define FILE_SETS 64u
#define FILE_WAYS 4u
#define SPAN_BYTES (2u << 20)   /* records read in one go */
#define GAP_BYTES (32u << 10)   /* unwanted bytes between two records that are cheaper to read than to skip */
#define LOAD_IDS 16u            /* chunks read into the cache together, */
#define LOAD_BYTES (256u << 10) /* until they are so many: others wait for the last of them */
#define SHARED_IDS 8u           /* worth a second thread */
#define AHEAD_BYTES_MAX (8u << 20)
#define KEYS_MAX 65536u

typedef struct aead_link {
    struct aead_link *next;
    vdr_aead *aead;
} aead_link;

typedef struct {
    uint32_t pack;
    int fd;
    int users;
    bool cached; /* stands in a set; else freed by its last user */
    bool partial; /* was still being written when it was opened: it may lack its last records for now */
    uint64_t last_use;
    const uint8_t *id_keys;
    uint8_t key[32];
    aead_link *free_aeads;
} pack_file;

typedef struct {
    uint32_t domain, epoch;
    uint8_t id_keys[VDR_CHUNK_KINDS * 32];
    uint8_t pack_root[32];
} key_row;

/* What one call needs for itself. */
typedef struct worker {
    struct worker *next;
    vdr_decoder *decoder;
    uint8_t *span;
    size_t span_capacity;
    vdr_place *places;
    uint32_t *order;
    size_t count_capacity;
} worker;

struct vdr_reader {
    int references;
    vdr_index *index;
    int packs_fd;
    int encryption;
    pthread_mutex_t lock; /* files, keys, workers */
    pack_file *files[FILE_SETS][FILE_WAYS];
    uint64_t clock;
    key_row **keys;
    size_t key_count;
    worker *workers;
    uint64_t cache_bytes;
    vdr_chunk_cache cache;
    vdr_ahead ahead;
    vdr_reader_counts counts;
};

static void count_add(uint64_t *counter, uint64_t n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }

static void load_ahead(void *context, const uint8_t *ids, size_t count);

/* ---- open, close ---- */

vdr_reader *vdr_reader_open(vdr_index *index, int packs_fd, int encryption, uint64_t cache_bytes) {
    vdr_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return NULL;
    reader->references = 1;
    reader->encryption = encryption;
    reader->packs_fd = fcntl(packs_fd, F_DUPFD_CLOEXEC, 0);
    bool ok = reader->packs_fd >= 0;
    pthread_mutex_init(&reader->lock, NULL);
    reader->cache_bytes = cache_bytes;
    ok = vdr_chunk_cache_open(&reader->cache, cache_bytes) && ok;
    vdr_ahead_open(&reader->ahead, load_ahead, reader);
    reader->index = index;
    vdr_index_retain(index);
    if (!ok) {
        vdr_reader_close(reader);
        return NULL;
    }
    return reader;
}

void vdr_reader_retain(vdr_reader *reader) { __atomic_fetch_add(&reader->references, 1, __ATOMIC_RELAXED); }

static void file_free(pack_file *file) {
    for (aead_link *link = file->free_aeads; link;) {
        aead_link *next = link->next;
        vdr_aead_close(link->aead);
        free(link);
        link = next;
    }
    if (file->fd >= 0) close(file->fd);
    explicit_bzero(file->key, sizeof file->key);
    free(file);
}

static void worker_free(worker *w) {
    vdr_decoder_close(w->decoder);
    free(w->span);
    free(w->places);
    free(w->order);
    free(w);
}

void vdr_reader_close(vdr_reader *reader) {
    if (!reader || __atomic_fetch_sub(&reader->references, 1, __ATOMIC_ACQ_REL) > 1) return;
    vdr_ahead_close(&reader->ahead);
    for (size_t i = 0; i < FILE_SETS * FILE_WAYS; i++)
        if (reader->files[i / FILE_WAYS][i % FILE_WAYS]) file_free(reader->files[i / FILE_WAYS][i % FILE_WAYS]);
    for (size_t i = 0; i < reader->key_count; i++) {
        explicit_bzero(reader->keys[i], sizeof *reader->keys[i]);
        free(reader->keys[i]);
    }
    free(reader->keys);
    while (reader->workers) {
        worker *w = reader->workers;
        reader->workers = w->next;
        worker_free(w);
    }
    vdr_chunk_cache_close(&reader->cache);
    if (reader->packs_fd >= 0) close(reader->packs_fd);
    pthread_mutex_destroy(&reader->lock);
    vdr_index_close(reader->index);
    free(reader);
}

int vdr_reader_keys_add(vdr_reader *reader, uint32_t domain, uint32_t epoch, const uint8_t *id_keys,
                        const uint8_t pack_root[32]) {
    key_row *row = calloc(1, sizeof *row);
    if (!row) return VDR_E_MEMORY;
    row->domain = domain;
    row->epoch = epoch;
    memcpy(row->id_keys, id_keys, sizeof row->id_keys);
    memcpy(row->pack_root, pack_root, 32);
    pthread_mutex_lock(&reader->lock);
    int result = reader->key_count < KEYS_MAX ? VDR_OK : VDR_E_ARGUMENT;
    key_row **grown = result ? NULL : realloc(reader->keys, (reader->key_count + 1) * sizeof *grown);
    if (grown) {
        reader->keys = grown;
        reader->keys[reader->key_count++] = row;
    } else {
        free(row);
        if (!result) result = VDR_E_MEMORY;
    }
    pthread_mutex_unlock(&reader->lock);
    return result;
}

/* ---- pack files ---- */

static const key_row *keys_find(const vdr_reader *reader, uint32_t domain, uint32_t epoch) {
    for (size_t i = 0; i < reader->key_count; i++)
        if (reader->keys[i]->domain == domain && reader->keys[i]->epoch == epoch) return reader->keys[i];
    return NULL;
}

/* A pack still being written is below `tmp`; it may get its name between two attempts. */
static int pack_descriptor(const vdr_reader *reader, const uint8_t id[16], bool *partial) {
    char name[33], path[64];
    for (size_t i = 0; i < 16; i++) snprintf(name + 2 * i, 3, "%02x", id[i]);
    int fd = -1;
    for (int attempt = 0; attempt < 3 && fd < 0; attempt++) {
        if (attempt == 1) snprintf(path, sizeof path, "../tmp/%s.pack", name);
        else snprintf(path, sizeof path, "%.2s/%s.pack", name, name);
        fd = openat(reader->packs_fd, path, O_RDONLY | O_CLOEXEC);
        *partial = attempt == 1;
        if (fd < 0 && errno != ENOENT) break;
    }
    return fd;
}

static int file_open(vdr_reader *reader, uint32_t pack, pack_file **out) {
    uint8_t id[16], material[48];
    uint32_t domain, epoch;
    if (vdr_index_pack_get(reader->index, pack, id, &domain, &epoch)) return VDR_E_MISSING;
    const key_row *keys = keys_find(reader, domain, epoch);
    if (!keys) return VDR_E_CRYPTO;
    pack_file *file = calloc(1, sizeof *file);
    if (!file) return VDR_E_MEMORY;
    file->pack = pack;
    file->id_keys = keys->id_keys;
    memcpy(material, keys->pack_root, 32);
    memcpy(material + 32, id, 16);
    vdr_blake3_derive("vdr 2026 pack key", material, sizeof material, file->key, 32);
    explicit_bzero(material, sizeof material);
    file->fd = pack_descriptor(reader, id, &file->partial);
    if (file->fd < 0) {
        int error = errno == ENOENT ? VDR_E_MISSING : VDR_E_IO;
        int saved = errno;
        file_free(file);
        errno = saved;
        return error;
    }
    *out = file;
    return VDR_OK;
}

/* The open file of a pack, for one user more. Opening happens under the lock: it is rare. */
static int file_acquire(vdr_reader *reader, uint32_t pack, pack_file **out) {
    pthread_mutex_lock(&reader->lock);
    pack_file **set = reader->files[pack % FILE_SETS];
    int result = VDR_OK;
    pack_file *file = NULL;
    size_t victim = FILE_WAYS;
    for (size_t way = 0; way < FILE_WAYS; way++) {
        if (set[way] && set[way]->pack == pack) file = set[way];
        else if (!set[way] || (set[way]->users == 0 && (victim == FILE_WAYS || (set[victim] && set[way]->last_use < set[victim]->last_use))))
            victim = way;
    }
    if (!file) {
        result = file_open(reader, pack, &file);
        if (!result && victim < FILE_WAYS) {
            if (set[victim]) file_free(set[victim]);
            set[victim] = file;
            file->cached = true;
        }
    }
    if (!result) {
        file->users++;
        file->last_use = ++reader->clock;
        *out = file;
    }
    pthread_mutex_unlock(&reader->lock);
    return result;
}

static void file_release(vdr_reader *reader, pack_file *file) {
    pthread_mutex_lock(&reader->lock);
    bool last = --file->users == 0 && !file->cached;
    pthread_mutex_unlock(&reader->lock);
    if (last) file_free(file);
}

static aead_link *aead_take(vdr_reader *reader, pack_file *file) {
    pthread_mutex_lock(&reader->lock);
    aead_link *link = file->free_aeads;
    if (link) file->free_aeads = link->next;
    pthread_mutex_unlock(&reader->lock);
    if (link) return link;
    link = malloc(sizeof *link);
    if (!link) return NULL;
    link->aead = vdr_aead_open(reader->encryption, file->key, (size_t)vdr_aead_key_bytes(reader->encryption));
    if (!link->aead) {
        free(link);
        return NULL;
    }
    return link;
}

static void aead_give(vdr_reader *reader, pack_file *file, aead_link *link) {
    if (!link) return;
    pthread_mutex_lock(&reader->lock);
    link->next = file->free_aeads;
    file->free_aeads = link;
    pthread_mutex_unlock(&reader->lock);
}

/* ---- fetching ---- */

static worker *worker_take(vdr_reader *reader) {
    pthread_mutex_lock(&reader->lock);
    worker *w = reader->workers;
    if (w) reader->workers = w->next;
    pthread_mutex_unlock(&reader->lock);
    if (w) return w;
    w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->decoder = vdr_decoder_open();
    if (!w->decoder) {
        free(w);
        return NULL;
    }
    return w;
}

static void worker_give(vdr_reader *reader, worker *w) {
    pthread_mutex_lock(&reader->lock);
    w->next = reader->workers;
    reader->workers = w;
    pthread_mutex_unlock(&reader->lock);
}

static bool worker_fit(worker *w, size_t count) {
    if (count <= w->count_capacity) return true;
    free(w->places);
    free(w->order);
    w->places = malloc(count * sizeof *w->places);
    w->order = malloc(count * sizeof *w->order);
    w->count_capacity = w->places && w->order ? count : 0;
    return w->count_capacity != 0;
}

static bool span_fit(worker *w, size_t bytes) {
    if (bytes <= w->span_capacity) return true;
    free(w->span);
    w->span = malloc(bytes);
    w->span_capacity = w->span ? bytes : 0;
    return w->span != NULL;
}

static bool is_before(const vdr_place *a, const vdr_place *b) {
    return a->pack != b->pack ? a->pack < b->pack : a->offset < b->offset;
}

/* Order of reading. Chunks of one backup mostly stand in order already: then insertion costs one comparison each. */
static void order_by_place(worker *w, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t at = i;
        while (at > 0 && is_before(&w->places[i], &w->places[w->order[at - 1]])) at--;
        memmove(&w->order[at + 1], &w->order[at], (i - at) * sizeof *w->order);
        w->order[at] = (uint32_t)i;
    }
}

static uint64_t record_end(const vdr_place *place) {
    return (uint64_t)place->offset + VDR_CHUNK_HEADER_BYTES + place->stored_bytes;
}

static int64_t read_full(int fd, uint8_t *out, size_t bytes, uint64_t offset) {
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, out + got, bytes - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return VDR_E_IO;
        if (n == 0) break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

typedef struct {
    vdr_reader *reader;
    worker *w;
    const uint8_t *ids;
    const uint64_t *offsets;
    const uint32_t *capacities;
    uint8_t *out;
    vdr_pin **pins; /* read into these instead of `out` */
    uint32_t *lengths;
    uint64_t bad;
    uint32_t bad_pack;
} fetch;

/* Chunks order[from, to) stand close together in one pack: read them at once, open each. */
static int fetch_span(fetch *f, pack_file *file, vdr_aead *aead, size_t from, size_t to) {
    worker *w = f->w;
    const vdr_place *first = &w->places[w->order[from]];
    uint64_t end = 0;
    for (size_t k = from; k < to; k++)
        if (record_end(&w->places[w->order[k]]) > end) end = record_end(&w->places[w->order[k]]);
    f->bad = w->order[from];
    size_t bytes = (size_t)(end - first->offset);
    if (!span_fit(w, bytes)) return VDR_E_MEMORY;
    int64_t got = read_full(file->fd, w->span, bytes, first->offset);
    if (got < 0) return (int)got;
    count_add(&f->reader->counts.read_bytes, (uint64_t)got);
    count_add(&f->reader->counts.chunks, to - from);
    for (size_t k = from; k < to; k++) {
        uint32_t i = w->order[k];
        const vdr_place *place = &w->places[i];
        size_t skip = place->offset - first->offset;
        f->bad = i;
        if (file->partial && (int64_t)(record_end(place) - first->offset) > got) return VDR_E_MISSING;
        if ((int64_t)skip >= got) return VDR_E_CORRUPT;
        uint8_t *out = f->pins ? f->pins[i]->data : f->out + f->offsets[i];
        int64_t n = vdr_chunk_open(aead, f->reader->encryption, w->decoder, w->span + skip, (size_t)got - skip, place->offset,
                                   f->ids + 32 * (size_t)i, file->id_keys, out, f->capacities[i]);
        if (n < 0) return (int)n;
        f->lengths[i] = (uint32_t)n;
    }
    return VDR_OK;
}

/* Chunks order[from, to) stand in one pack. */
static int fetch_pack(fetch *f, size_t from, size_t to) {
    worker *w = f->w;
    pack_file *file;
    f->bad = w->order[from];
    f->bad_pack = w->places[w->order[from]].pack;
    int error = file_acquire(f->reader, f->bad_pack, &file);
    if (error) return error;
    aead_link *link = NULL;
    if (f->reader->encryption != VDR_AEAD_NONE && !(link = aead_take(f->reader, file))) error = VDR_E_CRYPTO;
    for (size_t k = from; !error && k < to;) {
        size_t next = k + 1;
        uint64_t start = w->places[w->order[k]].offset, end = record_end(&w->places[w->order[k]]);
        while (next < to) {
            const vdr_place *place = &w->places[w->order[next]];
            if (place->offset > end + GAP_BYTES || record_end(place) - start > SPAN_BYTES) break;
            if (record_end(place) > end) end = record_end(place);
            next++;
        }
        error = fetch_span(f, file, link ? link->aead : NULL, k, next);
        k = next;
    }
    int saved = errno;
    aead_give(f->reader, file, link);
    file_release(f->reader, file);
    errno = saved;
    return error;
}

static int fetch_all(fetch *f, size_t count) {
    worker *w = f->w;
    if (!worker_fit(w, count)) return VDR_E_MEMORY;
    vdr_index_find(f->reader->index, f->ids, count, w->places);
    for (size_t i = 0; i < count; i++) {
        f->bad = i;
        f->bad_pack = VDR_INDEX_NO_PACK;
        if (w->places[i].pack == VDR_INDEX_NO_PACK) return VDR_E_MISSING;
        if (w->places[i].plain_bytes > f->capacities[i]) return VDR_E_SPACE;
        if (w->places[i].stored_bytes > VDR_CHUNK_BYTES_MAX + VDR_AEAD_TAG_BYTES) return VDR_E_CORRUPT;
    }
    order_by_place(w, count);
    int error = VDR_OK;
    for (size_t from = 0; !error && from < count;) {
        size_t to = from + 1;
        while (to < count && w->places[w->order[to]].pack == w->places[w->order[from]].pack) to++;
        error = fetch_pack(f, from, to);
        from = to;
    }
    return error;
}

/* After an error: know the record it met as damaged. True when the chunk has another place to try: also for a thread that meets
 * a record which another has marked since it looked it up. */
static bool try_elsewhere(const fetch *f, int error) {
    bool damaged = error == VDR_E_CORRUPT || error == VDR_E_AUTH || error == VDR_E_CODEC || (error == VDR_E_IO && errno == EIO);
    if (!damaged || f->bad_pack == VDR_INDEX_NO_PACK) return false;
    vdr_place at = f->w->places[f->bad], other;
    const uint8_t *id = f->ids + 32 * f->bad;
    int saved = errno;
    bool is_news = vdr_index_damage_add(f->reader->index, at.pack, at.offset, id) == 1;
    vdr_index_find(f->reader->index, id, 1, &other);
    uint8_t lacking = 1;
    if (!is_news) vdr_index_lacking(f->reader->index, id, 1, &lacking);
    errno = saved;
    return (is_news || !lacking) && other.pack != VDR_INDEX_NO_PACK && (other.pack != at.pack || other.offset != at.offset);
}

static int fetch_run(fetch *f, size_t count) {
    f->bad = 0;
    f->bad_pack = VDR_INDEX_NO_PACK;
    f->w = worker_take(f->reader);
    if (!f->w) return VDR_E_MEMORY;
    int error = fetch_all(f, count);
    /* A pack may have been replaced between the look-up and the read: its chunks stand elsewhere now. */
    if (error == VDR_E_MISSING) error = fetch_all(f, count);
    while (error && try_elsewhere(f, error)) error = fetch_all(f, count);
    int saved = errno;
    worker_give(f->reader, f->w);
    errno = saved;
    return error;
}

int64_t vdr_reader_fetch(vdr_reader *reader, const uint8_t *ids, size_t count, const uint64_t *offsets,
                         const uint32_t *capacities, uint8_t *out, uint32_t *lengths, uint64_t *bad, uint32_t *bad_pack) {
    if (!count) return 0;
    fetch f = {.reader = reader, .ids = ids, .offsets = offsets, .capacities = capacities, .out = out, .lengths = lengths};
    int error = fetch_run(&f, count);
    *bad = f.bad;
    *bad_pack = f.bad_pack;
    return error ? error : (int64_t)count;
}

/* ---- cache ---- */

/* Fill places of the cache, each with its chunk or the error of it alone. */
static void fill(vdr_reader *reader, vdr_pin **pins, size_t count) {
    uint8_t ids[LOAD_IDS * 32];
    uint32_t capacities[LOAD_IDS], lengths[LOAD_IDS];
    for (size_t i = 0; i < count; i++) {
        memcpy(ids + 32 * i, pins[i]->id, 32);
        capacities[i] = pins[i]->bytes;
    }
    fetch f = {.reader = reader, .ids = ids, .capacities = capacities, .pins = pins, .lengths = lengths};
    int error = fetch_run(&f, count);
    if (error && count > 1) {
        for (size_t i = 0; i < count; i++) fill(reader, pins + i, 1);
        return;
    }
    int saved = errno;
    for (size_t i = 0; i < count; i++) {
        int failed = !error && lengths[i] != pins[i]->bytes ? VDR_E_CORRUPT : error;
        vdr_chunk_cache_filled(&reader->cache, pins[i], failed, saved);
    }
}

/* Take the places of chunks that were not in the cache and fill those that are not somebody else's by now; pins[which[i]] is
 * the place of ids[which[i]]. Takes as many as are read together and returns their number; *error = the last one's if it has no
 * place and none can be made, and then it is not counted. */
static size_t load(vdr_reader *reader, const uint8_t *ids, const uint32_t *which, size_t count, vdr_pin **pins, int *error) {
    vdr_pin *fresh[LOAD_IDS];
    size_t fresh_count = 0, bytes = 0, taken = 0;
    *error = VDR_OK;
    while (taken < count && taken < LOAD_IDS && bytes < LOAD_BYTES) {
        const uint8_t *id = ids + 32 * (size_t)which[taken];
        vdr_place place;
        bool is_new;
        if (!vdr_index_find(reader->index, id, 1, &place)) *error = VDR_E_MISSING;
        else if (place.plain_bytes > VDR_CHUNK_BYTES_MAX) *error = VDR_E_CORRUPT;
        if (*error) break;
        vdr_pin *pin = vdr_chunk_cache_make(&reader->cache, id, place.plain_bytes, &is_new);
        if (!pin) {
            *error = VDR_E_MEMORY;
            break;
        }
        pins[which[taken++]] = pin;
        bytes += place.plain_bytes;
        if (is_new) fresh[fresh_count++] = pin;
    }
    if (fresh_count) fill(reader, fresh, fresh_count);
    return taken;
}

static void load_ahead(void *context, const uint8_t *ids, size_t count) {
    vdr_reader *reader = context;
    uint32_t which[VDR_AHEAD_IDS_MAX];
    vdr_pin *pins[VDR_AHEAD_IDS_MAX];
    size_t missing = 0;
    for (size_t i = 0; i < count; i++)
        if (!vdr_chunk_cache_has(&reader->cache, ids + 32 * i)) which[missing++] = (uint32_t)i;
    for (size_t at = 0; at < missing;) {
        int error;
        size_t taken = load(reader, ids, which + at, missing - at, pins, &error);
        for (size_t i = at; i < at + taken; i++) vdr_reader_unpin(reader, pins[which[i]]);
        count_add(&reader->counts.ahead_chunks, taken);
        at += taken;
        if (error) return; /* whoever wants it is told */
    }
}

bool vdr_reader_prefetch(vdr_reader *reader, const uint8_t *ids, size_t count, bool waits) {
    uint8_t wanted[VDR_AHEAD_IDS_MAX * 32];
    size_t missing = 0;
    for (size_t i = 0; i < count; i++) {
        if (!vdr_chunk_cache_has(&reader->cache, ids + 32 * i)) memcpy(wanted + 32 * missing++, ids + 32 * i, 32);
        if (missing && (missing == VDR_AHEAD_IDS_MAX || i + 1 == count)) {
            if (!vdr_ahead_add(&reader->ahead, wanted, missing, waits)) return false;
            missing = 0;
        }
    }
    return true;
}

uint64_t vdr_reader_ahead_bytes(const vdr_reader *reader) {
    uint64_t bytes = reader->cache_bytes / 8;
    return bytes < AHEAD_BYTES_MAX ? bytes : AHEAD_BYTES_MAX;
}

/* Places of all chunks, filled or being filled. Those taken are in `pins`, the others NULL. */
static int take_all(vdr_reader *reader, const uint8_t *ids, size_t count, vdr_pin **pins) {
    uint32_t which[VDR_READER_PINS_MAX];
    size_t missing = 0;
    for (size_t i = 0; i < count; i++) {
        pins[i] = vdr_chunk_cache_find(&reader->cache, ids + 32 * i);
        if (!pins[i]) which[missing++] = (uint32_t)i;
    }
    count_add(&reader->counts.cache_hits, count - missing);
    count_add(&reader->counts.cache_misses, missing);
    if (missing >= SHARED_IDS) {
        uint8_t half[VDR_READER_PINS_MAX / 2 * 32];
        size_t first = missing - missing / 2;
        for (size_t i = first; i < missing; i++) memcpy(half + 32 * (i - first), ids + 32 * (size_t)which[i], 32);
        vdr_reader_prefetch(reader, half, missing / 2, false);
    }
    for (size_t at = 0; at < missing;) {
        int error;
        at += load(reader, ids, which + at, missing - at, pins, &error);
        if (error) return error;
    }
    return VDR_OK;
}

int vdr_reader_pin_all(vdr_reader *reader, const uint8_t *ids, size_t count, vdr_pin **pins) {
    if (count > VDR_READER_PINS_MAX) return VDR_E_ARGUMENT;
    int error = take_all(reader, ids, count, pins);
    for (size_t i = 0; !error && i < count; i++) error = vdr_chunk_cache_wait(&reader->cache, pins[i]);
    if (!error) return VDR_OK;
    int saved = errno;
    for (size_t i = 0; i < count; i++)
        if (pins[i]) vdr_chunk_cache_give(&reader->cache, pins[i]);
    errno = saved;
    return error;
}

vdr_pin *vdr_reader_pin(vdr_reader *reader, const uint8_t id[32], int *error) {
    vdr_pin *pin;
    *error = vdr_reader_pin_all(reader, id, 1, &pin);
    return *error ? NULL : pin;
}

const uint8_t *vdr_pin_data(const vdr_pin *pin) { return pin->data; }

uint32_t vdr_pin_bytes(const vdr_pin *pin) { return pin->bytes; }

void vdr_reader_unpin(vdr_reader *reader, vdr_pin *pin) { vdr_chunk_cache_give(&reader->cache, pin); }

void vdr_reader_statistics(vdr_reader *reader, vdr_reader_counts *counts) {
    *counts = (vdr_reader_counts){
        .chunks = __atomic_load_n(&reader->counts.chunks, __ATOMIC_RELAXED),
        .read_bytes = __atomic_load_n(&reader->counts.read_bytes, __ATOMIC_RELAXED),
        .cache_hits = __atomic_load_n(&reader->counts.cache_hits, __ATOMIC_RELAXED),
        .cache_misses = __atomic_load_n(&reader->counts.cache_misses, __ATOMIC_RELAXED),
        .ahead_chunks = __atomic_load_n(&reader->counts.ahead_chunks, __ATOMIC_RELAXED),
        .cached_bytes = vdr_chunk_cache_bytes(&reader->cache),
    };
}

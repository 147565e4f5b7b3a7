#define _GNU_SOURCE
#include "overlay_map.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "disk_file.h"
#include "err.h"

enum {
    WORDS_PER_PAGE = VDR_OVERLAY_BLOCKS_PER_PAGE / 64,
    PAGE_BYTES = 2 * VDR_OVERLAY_SLOT_BYTES,
};

static const char header_magic[8] = "VDROVB1";
static const char slot_magic[4] = {'V', 'O', 'V', 'P'};

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t slot_bytes;
    uint32_t block_bytes;
    uint64_t size_bytes;
    uint8_t overlay_id[16];
    uint8_t lower_id[32];
    uint32_t cipher;
    uint32_t key_epoch;
    uint8_t key_check[16];
    uint8_t reserved[VDR_OVERLAY_HEADER_BYTES - 108];
    uint32_t crc;
} header_record;

typedef struct {
    char magic[4];
    uint32_t crc;
    uint64_t page;
    uint64_t generation;
    uint64_t reserved;
    uint64_t words[WORDS_PER_PAGE];
} slot_record;

_Static_assert(sizeof(header_record) == VDR_OVERLAY_HEADER_BYTES, "header layout");
_Static_assert(sizeof(slot_record) == VDR_OVERLAY_SLOT_BYTES, "slot layout");
_Static_assert(offsetof(slot_record, words) == VDR_OVERLAY_SLOT_HEADER_BYTES, "slot header layout");

typedef struct page {
    _Atomic uint64_t words[WORDS_PER_PAGE];
    atomic_int is_queued;
    struct page *next_queued, *next_frozen;
    uint64_t number;
    uint64_t generation;   /* of the newest slot on disk */
    int newest_slot;
    slot_record frozen;
} page;

struct vdr_overlay_map {
    int fd;
    vdr_overlay_identity identity;
    uint64_t blocks;
    uint64_t page_count;
    uint64_t torn_pages;
    atomic_uint_fast64_t blocks_set;
    _Atomic(page *) *pages;
    pthread_mutex_t lock;  /* guards page creation and the queue of changed pages */
    page *queue;
    page *frozen;          /* owned by the flush */
};

static uint64_t block_count(const vdr_overlay_identity *identity)
{
    return identity->size_bytes / identity->block_bytes + (identity->size_bytes % identity->block_bytes != 0);
}

static uint64_t page_count(const vdr_overlay_identity *identity)
{
    return (block_count(identity) + VDR_OVERLAY_BLOCKS_PER_PAGE - 1) / VDR_OVERLAY_BLOCKS_PER_PAGE;
}

static uint64_t page_offset(uint64_t number, int slot)
{
    return VDR_OVERLAY_HEADER_BYTES + number * PAGE_BYTES + (uint64_t)slot * VDR_OVERLAY_SLOT_BYTES;
}

static uint64_t file_bytes(const vdr_overlay_identity *identity)
{
    return page_offset(page_count(identity), 0);
}

static int geometry_is_valid(const vdr_overlay_identity *identity)
{
    uint32_t block = identity->block_bytes;
    return block >= VDR_OVERLAY_BLOCK_BYTES_MIN && block <= VDR_OVERLAY_BLOCK_BYTES_MAX && (block & (block - 1)) == 0 &&
           identity->size_bytes <= (uint64_t)1 << 60;
}

/* What belongs to a cipher is there just in the version that has one. */
static int cipher_is_valid(const vdr_overlay_identity *identity, uint32_t version)
{
    if (version > 1)
        return identity->cipher == VDR_OVERLAY_AES_256_XTS;
    uint8_t any = 0;
    for (size_t i = 0; i < sizeof identity->key_check; i++)
        any |= identity->key_check[i];
    return !identity->cipher && !identity->key_epoch && !any;
}

static uint32_t header_crc(const header_record *header)
{
    return vdr_crc32c(0, (const uint8_t *)header, offsetof(header_record, crc));
}

int vdr_overlay_map_create(int fd, const vdr_overlay_identity *identity)
{
    if (!geometry_is_valid(identity) || !cipher_is_valid(identity, identity->cipher ? 2 : 1))
        return VDR_E_ARGUMENT;
    header_record *header = calloc(1, sizeof *header);
    if (!header)
        return VDR_E_MEMORY;
    memcpy(header->magic, header_magic, sizeof header_magic);
    header->version = htole32(identity->cipher ? 2 : 1);
    header->header_bytes = htole32(VDR_OVERLAY_HEADER_BYTES);
    header->slot_bytes = htole32(VDR_OVERLAY_SLOT_BYTES);
    header->block_bytes = htole32(identity->block_bytes);
    header->size_bytes = htole64(identity->size_bytes);
    memcpy(header->overlay_id, identity->overlay_id, sizeof header->overlay_id);
    memcpy(header->lower_id, identity->lower_id, sizeof header->lower_id);
    header->cipher = htole32(identity->cipher);
    header->key_epoch = htole32(identity->key_epoch);
    memcpy(header->key_check, identity->key_check, sizeof header->key_check);
    header->crc = htole32(header_crc(header));
    int failed = ftruncate(fd, 0) || ftruncate(fd, (off_t)file_bytes(identity)) ||
                 vdr_file_write(fd, 0, header, sizeof *header) || fsync(fd);
    free(header);
    return failed ? VDR_E_IO : VDR_OK;
}

static int parse_header(const header_record *header, vdr_overlay_identity *identity)
{
    if (memcmp(header->magic, header_magic, sizeof header_magic) != 0 || le32toh(header->crc) != header_crc(header))
        return VDR_E_CORRUPT;
    uint32_t version = le32toh(header->version);
    if (version < 1 || version > VDR_OVERLAY_VERSION)
        return VDR_E_VERSION;
    *identity = (vdr_overlay_identity){.size_bytes = le64toh(header->size_bytes),
                                       .block_bytes = le32toh(header->block_bytes),
                                       .cipher = le32toh(header->cipher),
                                       .key_epoch = le32toh(header->key_epoch)};
    memcpy(identity->key_check, header->key_check, sizeof identity->key_check);
    memcpy(identity->overlay_id, header->overlay_id, sizeof identity->overlay_id);
    memcpy(identity->lower_id, header->lower_id, sizeof identity->lower_id);
    for (size_t i = 0; i < sizeof header->reserved; i++)
        if (header->reserved[i])
            return VDR_E_CORRUPT;
    int is_valid = le32toh(header->header_bytes) == VDR_OVERLAY_HEADER_BYTES &&
                   le32toh(header->slot_bytes) == VDR_OVERLAY_SLOT_BYTES && geometry_is_valid(identity) &&
                   cipher_is_valid(identity, version);
    return is_valid ? VDR_OK : VDR_E_CORRUPT;
}

int vdr_overlay_map_identify(int fd, vdr_overlay_identity *identity)
{
    struct stat status;
    if (fstat(fd, &status))
        return VDR_E_IO;
    if (!S_ISREG(status.st_mode) || status.st_size < VDR_OVERLAY_HEADER_BYTES)
        return VDR_E_CORRUPT;
    header_record *header = malloc(sizeof *header);
    if (!header)
        return VDR_E_MEMORY;
    int error = vdr_file_read(fd, 0, header, sizeof *header);
    if (!error)
        error = parse_header(header, identity);
    if (!error && (uint64_t)status.st_size != file_bytes(identity))
        error = VDR_E_CORRUPT;
    free(header);
    return error;
}

static uint32_t slot_crc(const vdr_overlay_identity *identity, const slot_record *slot)
{
    uint32_t crc = vdr_crc32c(0, identity->overlay_id, sizeof identity->overlay_id);
    return vdr_crc32c(crc, (const uint8_t *)&slot->page, sizeof *slot - offsetof(slot_record, page));
}

static int slot_is_blank(const slot_record *slot)
{
    const uint64_t *words = (const uint64_t *)slot;
    uint64_t any = 0;
    for (size_t i = 0; i < sizeof *slot / sizeof *words; i++)
        any |= words[i];
    return any == 0;
}

/* Generation of a slot that holds page `number`, 0 if it does not. */
static uint64_t slot_generation(const vdr_overlay_identity *identity, const slot_record *slot, uint64_t number)
{
    if (memcmp(slot->magic, slot_magic, sizeof slot_magic) != 0 || le64toh(slot->page) != number ||
        slot->reserved != 0 || le32toh(slot->crc) != slot_crc(identity, slot))
        return 0;
    return le64toh(slot->generation);
}

/* The page's memory, made on first use; NULL when there is none. */
static page *page_make(uint64_t number)
{
    page *made = aligned_alloc(64, (sizeof *made + 63) / 64 * 64);
    if (!made)
        return NULL;
    memset(made, 0, sizeof *made);
    made->number = number;
    made->newest_slot = 1;
    return made;
}

/* Bits past the last block must be zero; returns how many are set below it, or -1. */
static int64_t count_slot_bits(const vdr_overlay_map *map, const slot_record *slot, uint64_t number)
{
    uint64_t left = map->blocks - number * VDR_OVERLAY_BLOCKS_PER_PAGE;
    int64_t count = 0;
    for (uint64_t i = 0; i < WORDS_PER_PAGE; i++) {
        uint64_t word = le64toh(slot->words[i]);
        uint64_t inside = left >= (i + 1) * 64 ? UINT64_MAX : left <= i * 64 ? 0 : ((uint64_t)1 << (left - i * 64)) - 1;
        if (word & ~inside)
            return -1;
        count += __builtin_popcountll(word);
    }
    return count;
}

static int load_page(vdr_overlay_map *map, uint64_t number, slot_record slots[2])
{
    int error = vdr_file_read(map->fd, page_offset(number, 0), slots, PAGE_BYTES);
    if (error)
        return error;
    uint64_t generations[2];
    int blank[2];
    for (int i = 0; i < 2; i++) {
        blank[i] = slot_is_blank(&slots[i]);
        generations[i] = blank[i] ? 0 : slot_generation(&map->identity, &slots[i], number);
    }
    if (blank[0] && blank[1])
        return VDR_OK;
    int newest = generations[1] > generations[0];
    if (generations[newest] == 0) {
        /* The first write of the first slot may be torn. Everything else means that a good slot was lost. */
        if (blank[0] || !blank[1])
            return VDR_E_CORRUPT;
        map->torn_pages++;
        return VDR_OK;
    }
    map->torn_pages += !blank[!newest] && generations[!newest] == 0;
    int64_t count = count_slot_bits(map, &slots[newest], number);
    if (count < 0)
        return VDR_E_CORRUPT;
    page *made = page_make(number);
    if (!made)
        return VDR_E_MEMORY;
    for (size_t i = 0; i < WORDS_PER_PAGE; i++)
        atomic_init(&made->words[i], le64toh(slots[newest].words[i]));
    made->generation = generations[newest];
    made->newest_slot = newest;
    atomic_fetch_add(&map->blocks_set, (uint64_t)count);
    atomic_store(&map->pages[number], made);
    return VDR_OK;
}

static int load_pages(vdr_overlay_map *map)
{
    slot_record *slots = aligned_alloc(4096, PAGE_BYTES);
    if (!slots)
        return VDR_E_MEMORY;
    int error = VDR_OK;
    uint64_t number = 0;
    while (!error && number < map->page_count) {
        off_t data = lseek(map->fd, (off_t)page_offset(number, 0), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data > 0) {
            uint64_t found = ((uint64_t)data - VDR_OVERLAY_HEADER_BYTES) / PAGE_BYTES;
            number = found > number ? found : number;
        }
        if (number < map->page_count)
            error = load_page(map, number++, slots);
    }
    free(slots);
    return error;
}

int vdr_overlay_map_open(int fd, vdr_overlay_map **map)
{
    vdr_overlay_map *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->fd = fd;
    pthread_mutex_init(&made->lock, NULL);
    int error = vdr_overlay_map_identify(fd, &made->identity);
    if (!error) {
        made->blocks = block_count(&made->identity);
        made->page_count = page_count(&made->identity);
        made->pages = calloc(made->page_count ? made->page_count : 1, sizeof *made->pages);
        error = made->pages ? load_pages(made) : VDR_E_MEMORY;
    }
    if (error)
        vdr_overlay_map_close(made);
    else
        *map = made;
    return error;
}

void vdr_overlay_map_close(vdr_overlay_map *map)
{
    for (uint64_t i = 0; map->pages && i < map->page_count; i++)
        free(atomic_load(&map->pages[i]));
    free(map->pages);
    pthread_mutex_destroy(&map->lock);
    free(map);
}

const vdr_overlay_identity *vdr_overlay_map_identity(const vdr_overlay_map *map)
{
    return &map->identity;
}

static page *page_of(const vdr_overlay_map *map, uint64_t block)
{
    return atomic_load_explicit(&map->pages[block / VDR_OVERLAY_BLOCKS_PER_PAGE], memory_order_acquire);
}

int vdr_overlay_map_test(const vdr_overlay_map *map, uint64_t block)
{
    page *found = page_of(map, block);
    uint64_t bit = block % VDR_OVERLAY_BLOCKS_PER_PAGE;
    return found && (atomic_load_explicit(&found->words[bit / 64], memory_order_acquire) >> (bit % 64) & 1);
}

uint64_t vdr_overlay_map_run_end(const vdr_overlay_map *map, uint64_t block, uint64_t end, int is_set)
{
    while (block < end) {
        uint64_t bit = block % VDR_OVERLAY_BLOCKS_PER_PAGE;
        page *found = page_of(map, block);
        if (!found) {
            if (is_set)
                return block;
            block += VDR_OVERLAY_BLOCKS_PER_PAGE - bit;
            continue;
        }
        uint64_t word = atomic_load_explicit(&found->words[bit / 64], memory_order_acquire);
        /* Bits of the other state, from `bit` on. */
        uint64_t differing = (is_set ? ~word : word) >> (bit % 64);
        if (differing) {
            block += (uint64_t)__builtin_ctzll(differing);
            break;
        }
        block += 64 - bit % 64;
    }
    return block < end ? block : end;
}

static int reserve_page(vdr_overlay_map *map, uint64_t number)
{
    int failed;
    do
        failed = fallocate(map->fd, FALLOC_FL_KEEP_SIZE, (off_t)page_offset(number, 0), PAGE_BYTES);
    while (failed && errno == EINTR);
    /* A file system without fallocate may run out of space at flush; the flush then fails for good. */
    if (failed && errno != EOPNOTSUPP)
        return VDR_E_IO;
    page *made = page_make(number);
    if (!made)
        return VDR_E_MEMORY;
    atomic_store_explicit(&map->pages[number], made, memory_order_release);
    return VDR_OK;
}

int vdr_overlay_map_reserve(vdr_overlay_map *map, uint64_t block, uint64_t end)
{
    int error = VDR_OK;
    uint64_t last = (end - 1) / VDR_OVERLAY_BLOCKS_PER_PAGE;
    for (uint64_t number = block / VDR_OVERLAY_BLOCKS_PER_PAGE; number <= last && !error; number++) {
        if (atomic_load_explicit(&map->pages[number], memory_order_acquire))
            continue;
        pthread_mutex_lock(&map->lock);
        if (!atomic_load(&map->pages[number]))
            error = reserve_page(map, number);
        pthread_mutex_unlock(&map->lock);
    }
    return error;
}

void vdr_overlay_map_set(vdr_overlay_map *map, uint64_t block, uint64_t end)
{
    while (block < end) {
        page *found = page_of(map, block);
        uint64_t number = block / VDR_OVERLAY_BLOCKS_PER_PAGE, changed = 0;
        uint64_t page_end = (number + 1) * VDR_OVERLAY_BLOCKS_PER_PAGE;
        while (block < end && block < page_end) {
            uint64_t bit = block % VDR_OVERLAY_BLOCKS_PER_PAGE;
            uint64_t count = 64 - bit % 64 < end - block ? 64 - bit % 64 : end - block;
            uint64_t mask = (count == 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1) << (bit % 64);
            uint64_t before = atomic_fetch_or(&found->words[bit / 64], mask);
            changed += (uint64_t)__builtin_popcountll(mask & ~before);
            block += count;
        }
        if (!changed)
            continue;
        atomic_fetch_add_explicit(&map->blocks_set, changed, memory_order_relaxed);
        /* The bits are set before the page asks to be queued, and a snapshot clears the mark before it reads the bits: so
         * either that snapshot has the bits or the page is queued again. */
        if (atomic_exchange(&found->is_queued, 1) == 0) {
            pthread_mutex_lock(&map->lock);
            found->next_queued = map->queue;
            map->queue = found;
            pthread_mutex_unlock(&map->lock);
        }
    }
}

int64_t vdr_overlay_map_snapshot(vdr_overlay_map *map)
{
    pthread_mutex_lock(&map->lock);
    page *next = map->queue;
    map->queue = NULL;
    pthread_mutex_unlock(&map->lock);

    int64_t count = 0;
    map->frozen = NULL;
    while (next) {
        page *changed = next;
        next = changed->next_queued;
        atomic_store(&changed->is_queued, 0);
        slot_record *slot = &changed->frozen;
        memcpy(slot->magic, slot_magic, sizeof slot_magic);
        slot->page = htole64(changed->number);
        slot->generation = htole64(changed->generation + 1);
        slot->reserved = 0;
        for (size_t i = 0; i < WORDS_PER_PAGE; i++)
            slot->words[i] = htole64(atomic_load(&changed->words[i]));
        slot->crc = htole32(slot_crc(&map->identity, slot));
        changed->next_frozen = map->frozen;
        map->frozen = changed;
        count++;
    }
    return count;
}

int vdr_overlay_map_write(vdr_overlay_map *map)
{
    if (!map->frozen)
        return VDR_OK;
    for (page *next = map->frozen; next; next = next->next_frozen) {
        int error = vdr_file_write(map->fd, page_offset(next->number, !next->newest_slot), &next->frozen,
                                   sizeof next->frozen);
        if (error)
            return error;
    }
    if (fdatasync(map->fd))
        return VDR_E_IO;
    for (page *next = map->frozen; next; next = next->next_frozen) {
        next->generation++;
        next->newest_slot = !next->newest_slot;
    }
    map->frozen = NULL;
    return VDR_OK;
}

uint64_t vdr_overlay_map_block_count(const vdr_overlay_map *map)
{
    return atomic_load_explicit(&((vdr_overlay_map *)map)->blocks_set, memory_order_relaxed);
}

uint64_t vdr_overlay_map_torn_pages(const vdr_overlay_map *map)
{
    return map->torn_pages;
}

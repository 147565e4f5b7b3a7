/* Maps and the reader under them: nodes as bytes, a whole disk read through packs, damage, many threads. */
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "blake3.h"
#include "chunk.h"
#include "diskmap.h"
#include "err.h"

#define BLOCK 4096u
#define BLOCKS 700u /* three leaves below one root */
#define SIZE ((uint64_t)BLOCKS * BLOCK - 100)

static char folder[] = "/tmp/vdr-diskmap-XXXXXX";
static uint8_t *image, *pack;
static size_t pack_bytes = 64;
static uint8_t id_keys[VDR_CHUNK_KINDS * 32], pack_root[32], root_id[32];
static const uint8_t pack_id[16] = {0xab, 1};
static vdr_index *chunk_index;
static vdr_reader *reader;

static void put(const uint8_t *plain, uint32_t bytes, uint8_t kind, uint8_t *id) {
    static uint8_t key[32];
    static vdr_aead *aead;
    if (!aead) {
        uint8_t material[48];
        memcpy(material, pack_root, 32);
        memcpy(material + 32, pack_id, 16);
        vdr_blake3_derive("vdr 2026 pack key", material, 48, key, 32);
        aead = vdr_aead_open(VDR_AEAD_AES_256_GCM, key, 32);
    }
    vdr_chunk_entry entry = {.plain_bytes = bytes, .encoded_bytes = bytes, .kind = kind};
    vdr_place place;
    vdr_blake3_keyed(id_keys + 32 * kind, plain, bytes, id);
    int64_t n = vdr_chunk_seal(aead, VDR_AEAD_AES_256_GCM, id, &entry, NULL, 1, plain, bytes, 0, pack_bytes, pack + pack_bytes,
                               bytes + 72, &place);
    assert(n > 0);
    vdr_index_insert(chunk_index, id, &place, 1);
    pack_bytes += (size_t)n;
}

static int is_hole(uint64_t block) { return block % 5 == 0 || (block >= 256 && block < 512); }

static void make_store(void) {
    char path[128];
    assert(mkdtemp(folder));
    image = calloc(BLOCKS, BLOCK);
    pack = calloc(2, SIZE);
    for (size_t i = 0; i < sizeof id_keys; i++) id_keys[i] = (uint8_t)(i * 3);
    chunk_index = vdr_index_open();
    assert(vdr_index_pack_add(chunk_index, pack_id, 0, 0) == 0);
    static uint8_t ids[256 * 32], upper[256 * 32], node[VDR_DISKMAP_NODE_BYTES_MAX];
    uint8_t absent[256], upper_absent[256];
    memset(upper_absent, 1, sizeof upper_absent);
    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        memset(absent, 1, sizeof absent);
        for (uint32_t i = 0; i < 256 && leaf * 256 + i < BLOCKS; i++) {
            uint64_t block = leaf * 256 + i;
            if (is_hole(block)) continue;
            uint32_t bytes = block == BLOCKS - 1 ? BLOCK - 100 : BLOCK;
            for (uint32_t k = 0; k < bytes; k++) image[block * BLOCK + k] = (uint8_t)(block * 31 + k * k);
            put(image + block * BLOCK, bytes, 1, ids + 32 * i);
            absent[i] = 0;
        }
        int64_t n = vdr_diskmap_node_encode(1, ids, absent, node);
        upper_absent[leaf] = n == 0;
        if (n) put(node, (uint32_t)n, 2, upper + 32 * leaf);
    }
    int64_t n = vdr_diskmap_node_encode(2, upper, upper_absent, node);
    put(node, (uint32_t)n, 2, root_id);
    snprintf(path, sizeof path, "%s/ab", folder);
    assert(mkdir(path, 0700) == 0);
    snprintf(path, sizeof path, "%s/ab/ab010000000000000000000000000000.pack", folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert(write(fd, pack, pack_bytes) == (ssize_t)pack_bytes);
    close(fd);
    fd = open(folder, O_RDONLY | O_DIRECTORY);
    reader = vdr_reader_open(chunk_index, fd, VDR_AEAD_AES_256_GCM, 1 << 20);
    close(fd);
    assert(vdr_reader_keys_add(reader, 0, 0, id_keys, pack_root) == VDR_OK);
}

static void check_nodes(void) {
    static uint8_t ids[256 * 32], back[256 * 32], node[VDR_DISKMAP_NODE_BYTES_MAX + 1];
    uint8_t absent[256], absent_back[256];
    for (size_t i = 0; i < sizeof ids; i++) ids[i] = (uint8_t)(i * 7 + i / 32);
    for (int density = 1; density <= 256; density *= 2) {
        for (int i = 0; i < 256; i++) absent[i] = i % density != 0;
        int64_t n = vdr_diskmap_node_encode(3, ids, absent, node);
        assert(n == 40 + 32 * (256 / density));
        assert(vdr_diskmap_node_decode(node, (size_t)n, 3, back, absent_back) == 256 / density);
        assert(!memcmp(absent, absent_back, 256));
        for (int i = 0; i < 256; i++) assert(absent[i] || !memcmp(ids + 32 * i, back + 32 * i, 32));
        assert(vdr_diskmap_node_decode(node, (size_t)n, 2, back, absent_back) == VDR_E_CORRUPT);
        assert(vdr_diskmap_node_decode(node, (size_t)n - 1, 3, back, absent_back) == VDR_E_CORRUPT);
        assert(vdr_diskmap_node_decode(node, (size_t)n + 1, 3, back, absent_back) == VDR_E_CORRUPT);
        for (int at = 0; at < 40; at++) {
            node[at] ^= 4;
            assert(vdr_diskmap_node_decode(node, (size_t)n, 3, back, absent_back) == VDR_E_CORRUPT);
            node[at] ^= 4;
        }
    }
    memset(absent, 1, sizeof absent);
    assert(vdr_diskmap_node_encode(1, ids, absent, node) == 0);
    assert(vdr_diskmap_node_encode(7, ids, absent, node) == VDR_E_ARGUMENT);
    for (size_t bytes = 0; bytes < 72; bytes++) assert(vdr_diskmap_node_decode(node, bytes, 1, back, absent_back) == VDR_E_CORRUPT);
}

static vdr_disk *disk_open(void) {
    vdr_disk *disk;
    assert(vdr_disk_point_open(reader, root_id, 2, SIZE, BLOCK, &disk) == VDR_OK);
    return disk;
}

static void *read_everywhere(void *context) {
    vdr_disk *disk = context;
    uint8_t *got = malloc(SIZE);
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    for (int round = 0; round < 400; round++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t offset = (seed >> 20) % SIZE, left = SIZE - offset;
        size_t bytes = (size_t)((seed >> 8) % (round % 10 ? 20000 : 2000000));
        if (bytes > left) bytes = (size_t)left;
        assert(vdr_disk_read(disk, offset, got, bytes) == VDR_OK);
        assert(memcmp(got, image + offset, bytes) == 0);
    }
    assert(vdr_disk_read(disk, 0, got, SIZE) == VDR_OK && memcmp(got, image, SIZE) == 0);
    free(got);
    return NULL;
}

static void check_reads(void) {
    vdr_disk *disk = disk_open();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, read_everywhere, disk);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    vdr_reader_counts counts;
    /* What is being read ahead may be over the budget until it is there. */
    for (int attempt = 0; attempt < 60000; attempt++) {
        vdr_reader_statistics(reader, &counts);
        if (counts.cached_bytes <= (1 << 20)) break;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    assert(counts.cached_bytes <= (1 << 20) && counts.cache_hits > 0 && counts.chunks > 0);
    uint8_t byte;
    assert(vdr_disk_read(disk, SIZE, &byte, 1) == VDR_E_ARGUMENT);
    vdr_disk_close(disk);
}

/* A reader with a cache for the whole disk, of its own. */
static vdr_disk *fresh_disk_open(vdr_reader **fresh) {
    vdr_disk *disk;
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    *fresh = vdr_reader_open(chunk_index, fd, VDR_AEAD_AES_256_GCM, 64 << 20);
    close(fd);
    assert(vdr_reader_keys_add(*fresh, 0, 0, id_keys, pack_root) == VDR_OK);
    assert(vdr_disk_point_open(*fresh, root_id, 2, SIZE, BLOCK, &disk) == VDR_OK);
    return disk;
}

static void check_reading_ahead(void) {
    vdr_reader *fresh;
    vdr_reader_counts counts;
    uint8_t got[BLOCK];
    vdr_disk *disk = fresh_disk_open(&fresh);
    /* Every other block: nothing follows anything. */
    for (uint64_t block = 0; block < 128; block++)
        assert(vdr_disk_read(disk, block * 5 % 128 * 4 * BLOCK, got, 100) == VDR_OK);
    vdr_reader_statistics(fresh, &counts);
    assert(counts.ahead_chunks == 0);
    for (uint64_t at = 0; at + BLOCK <= SIZE; at += BLOCK) {
        assert(vdr_disk_read(disk, at, got, BLOCK) == VDR_OK);
        assert(!memcmp(got, image + at, BLOCK));
    }
    vdr_disk_close(disk);
    vdr_reader_close(fresh);
    /* All of it, asked for: each chunk is read once, by whomever. */
    disk = fresh_disk_open(&fresh);
    vdr_disk_prefetch(disk, 0, SIZE, 1);
    vdr_disk_prefetch(disk, 0, SIZE + 1, 1); /* not a range of it */
    uint64_t distinct = 3; /* the map's root and two leaves */
    bool is_seen[256] = {false};
    for (uint64_t block = 0; block < BLOCKS; block++) {
        if (is_hole(block)) continue;
        /* Blocks 256 apart are equal, but for the last one, which is shorter. */
        distinct += block == BLOCKS - 1 || !is_seen[block % 256];
        is_seen[block % 256] = true;
    }
    for (int attempt = 0; attempt < 60000; attempt++) {
        vdr_reader_statistics(fresh, &counts);
        if (counts.chunks == distinct && counts.ahead_chunks >= distinct - 3) break;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    uint8_t *all = malloc(SIZE);
    assert(vdr_disk_read(disk, 0, all, SIZE) == VDR_OK && !memcmp(all, image, SIZE));
    vdr_reader_statistics(fresh, &counts);
    assert(counts.chunks == distinct && counts.ahead_chunks >= distinct - 3);
    free(all);
    vdr_disk_close(disk);
    vdr_reader_close(fresh);
}

static void check_extents(void) {
    vdr_disk *disk = disk_open();
    static vdr_extent extents[1024];
    for (size_t capacity = 1; capacity <= 1024; capacity *= 32) {
        uint64_t at = 0;
        while (at < SIZE) {
            int64_t n = vdr_disk_extents(disk, at, SIZE - at, extents, capacity);
            assert(n > 0);
            for (int64_t i = 0; i < n; i++) {
                assert(extents[i].offset_bytes == at && extents[i].length_bytes > 0);
                uint64_t end = at + extents[i].length_bytes;
                for (uint64_t block = at / BLOCK; block <= (end - 1) / BLOCK; block++)
                    assert(is_hole(block) == (extents[i].kind == VDR_EXTENT_HOLE));
                at = end;
            }
        }
        assert(at == SIZE);
    }
    vdr_disk_close(disk);
}

static void check_resolve(void) {
    static uint8_t ids[BLOCKS * 32], absent[BLOCKS];
    int64_t present = 0;
    for (uint64_t block = 0; block < BLOCKS; block++) present += !is_hole(block);
    assert(vdr_diskmap_resolve(reader, root_id, 2, 0, BLOCKS, ids, absent) == present);
    for (uint64_t block = 0; block < BLOCKS; block++) assert(absent[block] == is_hole(block));
    assert(vdr_diskmap_resolve(reader, NULL, 0, 5, 9, ids, absent) == 0 && absent[8] == 1);
    assert(vdr_diskmap_resolve(reader, root_id, 2, 65530, 9, ids, absent) == VDR_E_ARGUMENT);
    assert(vdr_diskmap_resolve(reader, root_id, 1, 0, 1, ids, absent) == VDR_E_CORRUPT);
}

static void check_damage(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/ab/ab010000000000000000000000000000.pack", folder);
    int fd = open(path, O_RDWR);
    uint8_t byte = (uint8_t)(pack[64 + 100] ^ 1), got[BLOCK];
    assert(pwrite(fd, &byte, 1, 64 + 100) == 1);
    vdr_reader *fresh;
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    fresh = vdr_reader_open(chunk_index, folder_fd, VDR_AEAD_AES_256_GCM, 1 << 20);
    close(folder_fd);
    vdr_disk *disk;
    uint8_t wrong[32] = {9};
    assert(vdr_disk_point_open(fresh, root_id, 2, SIZE, BLOCK, &disk) == VDR_OK);
    assert(vdr_disk_read(disk, 0, got, BLOCK) == VDR_E_CRYPTO); /* no keys yet */
    assert(vdr_reader_keys_add(fresh, 0, 0, id_keys, pack_root) == VDR_OK);
    vdr_reader_close(fresh); /* the disk keeps it */
    assert(vdr_disk_read(disk, 0, got, BLOCK) == VDR_OK); /* block 0 is a hole */
    assert(vdr_disk_read(disk, BLOCK, got, BLOCK) == VDR_E_AUTH);
    assert(vdr_disk_read(disk, BLOCK, got, 10) == VDR_E_AUTH);
    assert(vdr_disk_read(disk, 2 * BLOCK, got, BLOCK) == VDR_OK);
    assert(ftruncate(fd, 64) == 0);
    assert(vdr_disk_read(disk, 3 * BLOCK, got, BLOCK) == VDR_E_CORRUPT);
    vdr_disk_close(disk);
    close(fd);
    assert(vdr_disk_point_open(reader, wrong, 2, SIZE, BLOCK, &disk) == VDR_OK);
    assert(vdr_disk_read(disk, 0, got, BLOCK) == VDR_E_MISSING);
    vdr_disk_close(disk);
    assert(vdr_disk_point_open(reader, root_id, 1, SIZE, BLOCK, &disk) == VDR_E_ARGUMENT);
    assert(vdr_disk_point_open(reader, root_id, 2, SIZE, 5000, &disk) == VDR_E_ARGUMENT);
}

static void remove_store(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/ab/ab010000000000000000000000000000.pack", folder);
    assert(unlink(path) == 0);
    snprintf(path, sizeof path, "%s/ab", folder);
    assert(rmdir(path) == 0 && rmdir(folder) == 0);
}

int main(void) {
    check_nodes();
    make_store();
    check_reads();
    check_reading_ahead();
    check_extents();
    check_resolve();
    check_damage();
    remove_store();
    vdr_reader_close(reader);
    vdr_index_close(chunk_index);
    free(image);
    free(pack);
    return 0;
}

/* The durable bitmap of an overlay: which blocks of a disk have been written. Format: docs/formats/overlay.md.
 *
 * Bits live in pages that exist only where something was written, in memory and on disk, so that opening and holding the
 * map of a 64 TiB disk costs what was written to it. Each page has two slots on disk; a new state goes to the older one,
 * so a torn write leaves the state before it.
 *
 * Threads may test, reserve and set at the same time. Snapshot and write belong to one flush at a time (the caller's
 * lock). Bits are only ever set. */
#ifndef VDR_OVERLAY_MAP_H
#define VDR_OVERLAY_MAP_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_OVERLAY_VERSION = 2,             /* of overlays that are encrypted; those that are not are of version 1 */
    VDR_OVERLAY_HEADER_BYTES = 4096,
    VDR_OVERLAY_SLOT_BYTES = 4096,
    VDR_OVERLAY_SLOT_HEADER_BYTES = 32,
    VDR_OVERLAY_BLOCKS_PER_PAGE = 32512, /* bits in a slot after its header */
    VDR_OVERLAY_BLOCK_BYTES_MIN = 512,
    VDR_OVERLAY_BLOCK_BYTES_MAX = 65536,
};

/* What an overlay belongs to. */
typedef struct {
    uint8_t overlay_id[16]; /* random; ties bitmap and data file together */
    uint8_t lower_id[32];   /* identity of the disk below, chosen by the caller */
    uint64_t size_bytes;
    uint32_t block_bytes;   /* a power of two */
    uint32_t cipher;        /* VDR_OVERLAY_* */
    uint32_t key_epoch;     /* which of the owner's keys; 0 without a cipher, like the next */
    uint8_t key_check[16];  /* tells the key from another one; the caller's business */
    uint32_t reserved;
} vdr_overlay_identity;

enum { VDR_OVERLAY_PLAIN = 0, VDR_OVERLAY_AES_256_XTS = 1 };
/* cffi: end */

typedef struct vdr_overlay_map vdr_overlay_map;

/* Write the header of an empty map and set the file's length; durable on return. */
int vdr_overlay_map_create(int fd, const vdr_overlay_identity *identity);

/* Read and check the header alone. VDR_E_CORRUPT: not a bitmap file or damaged. VDR_E_VERSION: newer. */
int vdr_overlay_map_identify(int fd, vdr_overlay_identity *identity);

/* Load the map. `fd` is borrowed until close. VDR_E_CORRUPT when a page has no readable slot though one was written. */
int vdr_overlay_map_open(int fd, vdr_overlay_map **map);
void vdr_overlay_map_close(vdr_overlay_map *map);

const vdr_overlay_identity *vdr_overlay_map_identity(const vdr_overlay_map *map);

int vdr_overlay_map_test(const vdr_overlay_map *map, uint64_t block);

/* First block >= `block` and < `end` whose bit is not `is_set`; `end` if there is none. Whoever tests a block and then
 * asks for its run may get `block` itself back when a writer came between: test again. */
uint64_t vdr_overlay_map_run_end(const vdr_overlay_map *map, uint64_t block, uint64_t end, int is_set);

/* Make sure that setting [block, end) cannot fail later: memory and disk space for its pages. VDR_E_IO with errno ENOSPC
 * when the file system is full. */
int vdr_overlay_map_reserve(vdr_overlay_map *map, uint64_t block, uint64_t end);

/* Set [block, end), reserved before. Call when the blocks' bytes are in the data file (not necessarily durable). */
void vdr_overlay_map_set(vdr_overlay_map *map, uint64_t block, uint64_t end);

/* Freeze the pages that changed since the last snapshot; returns how many. */
int64_t vdr_overlay_map_snapshot(vdr_overlay_map *map);

/* Write the frozen pages and make them durable. Call when the data they point at is durable. */
int vdr_overlay_map_write(vdr_overlay_map *map);

uint64_t vdr_overlay_map_block_count(const vdr_overlay_map *map);   /* blocks set */
uint64_t vdr_overlay_map_torn_pages(const vdr_overlay_map *map);    /* pages whose other slot was unreadable at open */

#endif

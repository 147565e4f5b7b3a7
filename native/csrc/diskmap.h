/* Block maps: the Merkle tree that is a disk point. A node's layout is in docs/formats/store.md. */
#ifndef VDR_DISKMAP_H
#define VDR_DISKMAP_H

#include <stddef.h>
#include <stdint.h>

#include "disk.h"
#include "reader.h"

/* cffi: begin */
enum {
    VDR_DISKMAP_FANOUT = 256,
    VDR_DISKMAP_NODE_HEADER_BYTES = 40,
    VDR_DISKMAP_NODE_BYTES_MAX = 8232,
    VDR_DISKMAP_LEVELS_MAX = 6,  /* 2^48 blocks */
    VDR_DISKMAP_BLOCK_BYTES_MIN = 4096,
    VDR_DISKMAP_BLOCK_BYTES_MAX = 4194304,
};

/* Encode a node of `level` from 256 children: absent[i] = 1 leaves child i out, else its id is at ids + 32 * i. `out` holds
 * VDR_DISKMAP_NODE_BYTES_MAX. Returns the bytes written, 0 when no child is present (such a node does not exist). */
int64_t vdr_diskmap_node_encode(uint32_t level, const uint8_t *ids, const uint8_t *absent, uint8_t *out);
/* The reverse; ids of absent children are zeroed. Returns the number present, or VDR_E_CORRUPT. */
int64_t vdr_diskmap_node_decode(const uint8_t *node, size_t bytes, uint32_t level, uint8_t *ids, uint8_t *absent);

/* Read-only disk over the map whose root node, at level `levels`, is `root_id` (NULL: all zero). Holds a reference to the
 * reader. Reads fail with VDR_E_CORRUPT, VDR_E_AUTH, VDR_E_CODEC or VDR_E_MISSING where the store is damaged; extents are
 * VDR_EXTENT_DATA and VDR_EXTENT_HOLE. VDR_E_ARGUMENT when the numbers do not fit together. */
int vdr_disk_point_open(vdr_reader *reader, const uint8_t *root_id, uint32_t levels, uint64_t size_bytes,
                        uint32_t block_bytes, vdr_disk **disk);

/* Ids of the blocks [first, first + count) of such a map: absent[i] = 1 where block first + i is all zero, else its id is at
 * ids + 32 * i. Returns the number present or an error as above. */
int64_t vdr_diskmap_resolve(vdr_reader *reader, const uint8_t *root_id, uint32_t levels, uint64_t first, size_t count,
                            uint8_t *ids, uint8_t *absent);
/* cffi: end */

#endif

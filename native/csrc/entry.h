/* Entries of a file tree: one path with everything known about it. `docs/formats/manifest.md` states the layout.
 *
 * An entry is a record of `record_bytes` bytes (a multiple of 8), little-endian, 8-byte aligned, and has two forms:
 *
 *   stored  in a manifest segment: fixed part, extents (vdr_entry_extent, chunks by number in the segment's id table), path
 *           suffix, link target, attribute block, zero padding. `shared_bytes` bytes of the path come from the entry before.
 *   loose   on its own, between the stages of a backup or restore: fixed part, pieces (vdr_piece, chunks by id), whole
 *           path, link target, attribute block, zero padding. `shared_bytes` holds a state (vdr_entry_state) instead.
 *
 * Paths are relative to the root of the tree, "" is the root itself. They are ordered by components: '/' sorts before every
 * other byte, so a directory is followed by all that is beneath it. */
#ifndef VDR_ENTRY_H
#define VDR_ENTRY_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
enum {
    VDR_ENTRY_FIXED_BYTES = 112,
    VDR_ENTRY_EXTENT_BYTES = 16,
    VDR_ENTRY_PIECE_BYTES = 48,
    VDR_ENTRY_PATH_BYTES_MAX = 65535,
    VDR_ENTRY_TARGET_BYTES_MAX = 65535,
    VDR_ENTRY_ATTRIBUTE_BYTES_MAX = 262144, /* names and values of one entry's extended attributes */
    VDR_ENTRY_EXTENTS_MAX = 64,             /* more go to a content list of their own */
    VDR_ENTRY_BYTES_MAX = 400384,           /* of one record in either form */
    VDR_ENTRY_HOLE = 0x7fffffff,            /* extent: chunk number; piece: offset_bytes of a hole */
    VDR_ENTRY_NAMED_BYTES_MAX = 4194304,    /* no chunk is longer */
};

typedef enum {
    VDR_TYPE_REGULAR = 1,
    VDR_TYPE_DIRECTORY = 2,
    VDR_TYPE_SYMLINK = 3,
    VDR_TYPE_FIFO = 4,
    VDR_TYPE_SOCKET = 5,
    VDR_TYPE_CHARACTER = 6,
    VDR_TYPE_BLOCK = 7,
} vdr_entry_type;

enum {
    VDR_FLAG_LIST = 1,       /* the content stands in a content list; the one extent names its root chunk */
    VDR_FLAG_UNREADABLE = 2, /* content (or a directory's names) could not be read and is not kept */
    VDR_FLAG_UNSTABLE = 4,   /* the file changed each time it was read; what was read last is kept */
    VDR_FLAG_UNCROSSED = 8,  /* a mount point whose file system was not entered */
    VDR_FLAG_KNOWN = 15,
};

/* States of a loose entry on its way through a backup. */
typedef enum {
    VDR_STATE_DONE = 0,     /* complete: its pieces name chunks */
    VDR_STATE_READ = 1,     /* new or doubtful: to be read */
    VDR_STATE_READ_END = 2, /* the same, and its pack ends with it */
    VDR_STATE_LINK = 3,     /* another name of a file that an earlier entry of this run reads */
    VDR_STATE_PACKED = 4,   /* read; its piece holds a pack number (u32) where the id will stand */
    VDR_STATE_LARGE = 5,    /* attributes complete; the caller reads the content */
} vdr_entry_state;

typedef struct {
    uint32_t record_bytes;
    uint16_t shared_bytes; /* stored: path bytes shared with the entry before; loose: vdr_entry_state */
    uint16_t path_bytes;   /* stored: the path's other bytes; loose: all of them */
    uint8_t type;          /* vdr_entry_type */
    uint8_t flags;         /* VDR_FLAG_* */
    uint16_t mode;         /* permission bits, 07777 */
    uint32_t uid;
    uint32_t gid;
    uint32_t inode_flags; /* FS_IOC_GETFLAGS */
    uint64_t size_bytes;  /* regular files; else 0 */
    int64_t mtime_s;
    int64_t ctime_s;
    uint32_t mtime_ns;
    uint32_t ctime_ns;
    uint64_t inode;
    uint32_t dev_major; /* of the file system it stands on */
    uint32_t dev_minor;
    uint32_t rdev_major; /* of a device node; else 0 */
    uint32_t rdev_minor;
    uint32_t nlink; /* names of this inode; 1 for directories */
    uint32_t target_bytes;
    uint32_t attribute_bytes;
    uint32_t extent_count;
    uint8_t content_hash[16]; /* first half of the id its content would have as a chunk; zero unless it is packed */
} vdr_entry;

typedef struct {
    uint32_t chunk;        /* number in the segment's id table, or VDR_ENTRY_HOLE */
    uint32_t offset_bytes; /* in the chunk; of a content list's root: its level */
    uint64_t length_bytes;
} vdr_entry_extent;

typedef struct {
    uint8_t id[32]; /* zero for a hole */
    uint64_t length_bytes;
    uint32_t offset_bytes; /* as vdr_entry_extent; VDR_ENTRY_HOLE for a hole */
    uint32_t reserved;
} vdr_piece;

/* Order of two paths by components: negative, 0, positive. */
int vdr_path_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes);

/* 1 if `path` is a relative path without empty, "." or ".." components, NUL bytes or slashes at its ends ("" is). */
int vdr_path_is_safe(const uint8_t *path, size_t path_bytes);

/* Keyed 64-bit hash that decides where manifests and packs are cut; stated in docs/formats/manifest.md. */
uint64_t vdr_path_hash(uint64_t seed, const uint8_t *path, size_t path_bytes);

/* Check one loose record at the start of `bytes` bytes. Returns its length or VDR_E_CORRUPT. Total: any bytes may be given,
 * 8-byte aligned. */
int64_t vdr_entry_check_loose(const uint8_t *record, size_t bytes);

/* Replace the pieces of the loose record at `record`, which must be the last in its buffer of `capacity` bytes (from `record`
 * on). Returns the record's new length, VDR_E_SPACE or VDR_E_ARGUMENT. */
int64_t vdr_entry_set_pieces(uint8_t *record, size_t capacity, const vdr_piece *pieces, uint32_t count);

/* Fill in the ids of VDR_STATE_PACKED records among `bytes` bytes of loose records: `ids` holds `pack_count` ids of 32 bytes.
 * They become VDR_STATE_DONE. Returns the number filled in, or VDR_E_ARGUMENT for a pack number out of range. */
int64_t vdr_entry_name_packs(uint8_t *records, size_t bytes, const uint8_t *ids, size_t pack_count);

/* Offset of the first record, at offset `from` or after it, of a regular file with several names; `bytes` when there is none. */
int64_t vdr_entry_find_linked(const uint8_t *records, size_t bytes, size_t from);
/* cffi: end */

/* Checks of the parts that both forms share: attribute block well formed, fields in range for the type. */
int vdr_entry_fields_valid(const vdr_entry *entry);
int vdr_entry_attributes_valid(const uint8_t *block, size_t block_bytes);

static inline size_t vdr_entry_pad(size_t bytes) { return (bytes + 7) & ~(size_t)7; }

static inline const vdr_piece *vdr_entry_pieces(const vdr_entry *entry) {
    return (const vdr_piece *)(const void *)((const uint8_t *)entry + VDR_ENTRY_FIXED_BYTES);
}

static inline const uint8_t *vdr_entry_loose_path(const vdr_entry *entry) {
    return (const uint8_t *)entry + VDR_ENTRY_FIXED_BYTES + (size_t)entry->extent_count * VDR_ENTRY_PIECE_BYTES;
}

#endif

/* The scratch directory of an export: real files that clients make beside the disk (lock files, descriptors, logs, swap).
 *
 *     tree/   what clients see
 *     disk    an empty file; the hard link to it in tree/ says where, and under which name, the exported disk appears
 *     new     a file that is being made (CREATE EXCLUSIVE), not yet in tree/
 *
 * The disk's name can be changed and moved like any other, but never removed or replaced. Whoever opens the scratch owns it
 * alone. No path a client gives is ever walked: names are single, checked, and opened beneath `tree` without following links.
 *
 * Functions return 0 or an errno. ESTALE: the file is gone. All are thread-safe; a change of the namespace is durable when
 * its function returns. */
#ifndef VDR_NFS_SCRATCH_H
#define VDR_NFS_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "nfs_tree.h"

typedef struct vdr_nfs_scratch vdr_nfs_scratch;

typedef struct {
    uint64_t inode;       /* 0: the top, whatever the generation */
    uint64_t generation;
} vdr_nfs_file;

typedef struct {
    vdr_nfs_node_kind kind;  /* of a disk nothing else is told */
    uint32_t mode, links;
    uint64_t size_bytes, stored_bytes, inode;
    uint64_t accessed_ns, modified_ns, changed_ns;
} vdr_nfs_file_attributes;

typedef struct {
    int sets_mode, sets_size, sets_accessed, sets_modified;
    uint32_t mode;
    uint64_t size_bytes;
    uint64_t accessed_ns, modified_ns;
} vdr_nfs_file_changes;

typedef struct {
    uint64_t bytes, bytes_max;
    uint64_t files, files_max;
} vdr_nfs_scratch_usage;

/* Open the scratch in `directory_fd` (duplicated), filling an empty one; `disk_name` is the disk's first name. VDR_E_SPACE:
 * it holds more than files_max. VDR_E_IO with errno EMFILE, ENOSPC, ... */
int vdr_nfs_scratch_open(int directory_fd, const char *disk_name, const uint8_t key[VDR_SIPHASH_KEY_BYTES],
                         uint64_t bytes_max, uint64_t files_max, vdr_nfs_scratch **scratch);
void vdr_nfs_scratch_close(vdr_nfs_scratch *scratch);
void vdr_nfs_scratch_get_usage(vdr_nfs_scratch *scratch, vdr_nfs_scratch_usage *usage);

int vdr_nfs_scratch_getattr(vdr_nfs_scratch *scratch, vdr_nfs_file file, vdr_nfs_file_attributes *attributes);

/* With `guard_ns` other than 0 only if the file was last changed just then; EBUSY if not. */
int vdr_nfs_scratch_setattr(vdr_nfs_scratch *scratch, vdr_nfs_file file, const vdr_nfs_file_changes *changes,
                            uint64_t guard_ns);

/* Names are of 1 to 255 bytes without '/' and NUL, and not "." or "..": ENAMETOOLONG, EINVAL. */
int vdr_nfs_scratch_lookup(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes,
                           vdr_nfs_file *found, vdr_nfs_node_kind *kind);

/* The directory that holds a directory; of the top: itself. */
int vdr_nfs_scratch_parent(vdr_nfs_scratch *scratch, vdr_nfs_file directory, vdr_nfs_file *parent);

typedef enum { VDR_NFS_CREATE_UNCHECKED = 0, VDR_NFS_CREATE_GUARDED = 1, VDR_NFS_CREATE_EXCLUSIVE = 2 } vdr_nfs_create_how;

/* UNCHECKED finds a file that is there already (also the disk) and leaves it as it is. EXCLUSIVE finds it if it was made with
 * the same `verifier`, which is kept in its times, so also after a restart. *is_new tells whether it was made. */
int vdr_nfs_scratch_create(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes,
                           vdr_nfs_create_how how, uint32_t mode, uint64_t verifier, vdr_nfs_file *made,
                           vdr_nfs_node_kind *kind, int *is_new);
int vdr_nfs_scratch_mkdir(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes, uint32_t mode,
                          vdr_nfs_file *made);
int vdr_nfs_scratch_symlink(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes,
                            const char *target, vdr_nfs_file *made);
int vdr_nfs_scratch_remove(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes);
int vdr_nfs_scratch_rmdir(vdr_nfs_scratch *scratch, vdr_nfs_file directory, const char *name, size_t bytes);
int vdr_nfs_scratch_rename(vdr_nfs_scratch *scratch, vdr_nfs_file from, const char *from_name, size_t from_bytes,
                           vdr_nfs_file to, const char *to_name, size_t to_bytes);
int vdr_nfs_scratch_link(vdr_nfs_scratch *scratch, vdr_nfs_file file, vdr_nfs_file directory, const char *name,
                         size_t bytes);

/* Fills at most `bytes`; *got tells how many, *is_end whether that was the rest. */
int vdr_nfs_scratch_read(vdr_nfs_scratch *scratch, vdr_nfs_file file, uint64_t offset, void *buffer, size_t bytes,
                         size_t *got, int *is_end);

/* ENOSPC: the scratch, or its file system, is full; also from whatever makes a name. */
int vdr_nfs_scratch_write(vdr_nfs_scratch *scratch, vdr_nfs_file file, uint64_t offset, const void *data, size_t bytes,
                          int is_stable);
int vdr_nfs_scratch_commit(vdr_nfs_scratch *scratch, vdr_nfs_file file);

/* Target of a symbolic link into `target`, of `capacity` bytes; *bytes tells its length. */
int vdr_nfs_scratch_readlink(vdr_nfs_scratch *scratch, vdr_nfs_file link, char *target, size_t capacity, size_t *bytes);

typedef struct {
    uint64_t cookie;
    vdr_nfs_file file;
    vdr_nfs_file_attributes attributes;
    size_t name_bytes;
    char name[VDR_NFS_FILE_NAME_BYTES_MAX + 1];
} vdr_nfs_scratch_entry;

/* The first entry after `cookie`; ENOENT at the end. */
int vdr_nfs_scratch_next(vdr_nfs_scratch *scratch, vdr_nfs_file directory, uint64_t cookie, vdr_nfs_scratch_entry *entry);

#endif

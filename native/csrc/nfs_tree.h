/* The names of a scratch directory in memory: which file has which name, so that a handle (an inode's number) leads to a path.
 *
 * Holds names and numbers only, and does no I/O: nfs_scratch.c keeps it in step with the real directory. Not thread-safe.
 * Everything is found again by a walk after a restart, for inode numbers, generations and cookies are the same then. */
#ifndef VDR_NFS_TREE_H
#define VDR_NFS_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "siphash.h"

enum {
    VDR_NFS_PATH_MAX = 4000,       /* of a path below the top, with its NUL */
    VDR_NFS_FILE_NAME_BYTES_MAX = 255,
    VDR_NFS_COOKIE_FIRST = 16,     /* of a directory's own entries; what is below is for "." and ".." */
};

typedef enum {
    VDR_NFS_NODE_FILE = 1,
    VDR_NFS_NODE_DIRECTORY = 2,
    VDR_NFS_NODE_LINK = 3,    /* symbolic */
    VDR_NFS_NODE_DISK = 4,    /* stands for the exported disk */
} vdr_nfs_node_kind;

typedef struct vdr_nfs_node vdr_nfs_node;
typedef struct vdr_nfs_name vdr_nfs_name;

/* A name in a directory. Its cookie is made of the name, so it stays whatever else comes and goes. */
struct vdr_nfs_name {
    vdr_nfs_node *directory, *node;
    vdr_nfs_name *next;        /* of the same node */
    uint64_t cookie;
    size_t bytes;
    char text[];               /* with NUL */
};

struct vdr_nfs_node {
    vdr_nfs_node *next;        /* in its bucket */
    uint64_t inode, generation;
    uint64_t stored_bytes;     /* that it takes on the file system, as far as is known */
    vdr_nfs_node_kind kind;
    vdr_nfs_name *names;       /* more than one: hard links. The top has none */
    vdr_nfs_name **entries;    /* of a directory, by cookie */
    size_t entry_count, entry_capacity;
};

typedef struct {
    uint8_t key[VDR_SIPHASH_KEY_BYTES];
    vdr_nfs_node *top;
    vdr_nfs_node **buckets;
    size_t node_count;
} vdr_nfs_tree;

/* `key` makes cookies that no client can foresee; it must be the same after a restart. */
int vdr_nfs_tree_open(vdr_nfs_tree *tree, const uint8_t key[VDR_SIPHASH_KEY_BYTES]);
void vdr_nfs_tree_close(vdr_nfs_tree *tree);

/* NULL if there is none (any more); inode 0 is the top. */
vdr_nfs_node *vdr_nfs_tree_node(const vdr_nfs_tree *tree, uint64_t inode, uint64_t generation);

vdr_nfs_name *vdr_nfs_tree_find(const vdr_nfs_tree *tree, const vdr_nfs_node *directory, const char *text, size_t bytes);

/* The first entry of a directory whose cookie is higher, or NULL. */
vdr_nfs_name *vdr_nfs_tree_after(const vdr_nfs_node *directory, uint64_t cookie);

/* Two steps, so that what follows a change of the real directory cannot fail: `prepare` makes room (NULL: out of memory, or
 * too many names with the same hash), `add` puts it in. A prepared name that is not added is given to `drop`. */
vdr_nfs_name *vdr_nfs_tree_prepare(vdr_nfs_tree *tree, vdr_nfs_node *directory, const char *text, size_t bytes);
void vdr_nfs_tree_drop(vdr_nfs_name *name);
void vdr_nfs_tree_add(vdr_nfs_tree *tree, vdr_nfs_name *name, vdr_nfs_node *node);

/* A node that has no name yet, to be added with its first; free() it if that does not happen. NULL: out of memory. */
vdr_nfs_node *vdr_nfs_tree_make_node(void);
void vdr_nfs_tree_insert(vdr_nfs_tree *tree, vdr_nfs_node *node);

/* Take a name away and free it. The node goes with its last name; returns the bytes that it took then, else 0. */
uint64_t vdr_nfs_tree_remove(vdr_nfs_tree *tree, vdr_nfs_name *name);

/* Path of a node from the top, "." for the top itself; 0 when it is too long. */
int vdr_nfs_tree_path(const vdr_nfs_node *node, char path[VDR_NFS_PATH_MAX]);

#endif

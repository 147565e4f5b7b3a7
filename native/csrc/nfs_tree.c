#include "nfs_tree.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"

enum {
    BUCKETS = 4096,
    PROBES = 16, /* names with the same hash; more are somebody's mischief */
};

int vdr_nfs_tree_open(vdr_nfs_tree *tree, const uint8_t key[VDR_SIPHASH_KEY_BYTES])
{
    memset(tree, 0, sizeof *tree);
    memcpy(tree->key, key, sizeof tree->key);
    tree->buckets = calloc(BUCKETS, sizeof *tree->buckets);
    tree->top = vdr_nfs_tree_make_node();
    if (!tree->buckets || !tree->top) {
        free(tree->buckets);
        free(tree->top);
        return VDR_E_MEMORY;
    }
    tree->top->kind = VDR_NFS_NODE_DIRECTORY;
    return VDR_OK;
}

static void free_node(vdr_nfs_node *node)
{
    for (size_t i = 0; i < node->entry_count; i++)
        free(node->entries[i]);
    free(node->entries);
    free(node);
}

void vdr_nfs_tree_close(vdr_nfs_tree *tree)
{
    for (size_t i = 0; i < BUCKETS; i++)
        while (tree->buckets[i]) {
            vdr_nfs_node *node = tree->buckets[i];
            tree->buckets[i] = node->next;
            free_node(node);
        }
    free_node(tree->top);
    free(tree->buckets);
}

static vdr_nfs_node **bucket_of(const vdr_nfs_tree *tree, uint64_t inode)
{
    return &tree->buckets[(inode * 0x9e3779b97f4a7c15u >> 32) % BUCKETS];
}

vdr_nfs_node *vdr_nfs_tree_node(const vdr_nfs_tree *tree, uint64_t inode, uint64_t generation)
{
    if (inode == 0)
        return tree->top;
    vdr_nfs_node *node = *bucket_of(tree, inode);
    while (node && node->inode != inode)
        node = node->next;
    return node && node->generation == generation ? node : NULL;
}

static uint64_t cookie_of(const vdr_nfs_tree *tree, const char *text, size_t bytes)
{
    uint64_t hash = vdr_siphash(tree->key, text, bytes) >> 1;
    return hash < VDR_NFS_COOKIE_FIRST ? hash + VDR_NFS_COOKIE_FIRST : hash;
}

/* Place of the first entry whose cookie is `cookie` or higher. */
static size_t place_of(const vdr_nfs_node *directory, uint64_t cookie)
{
    size_t low = 0, high = directory->entry_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (directory->entries[middle]->cookie < cookie)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

vdr_nfs_name *vdr_nfs_tree_find(const vdr_nfs_tree *tree, const vdr_nfs_node *directory, const char *text, size_t bytes)
{
    uint64_t cookie = cookie_of(tree, text, bytes);
    for (size_t i = place_of(directory, cookie);
         i < directory->entry_count && directory->entries[i]->cookie - cookie < PROBES; i++)
        if (directory->entries[i]->bytes == bytes && memcmp(directory->entries[i]->text, text, bytes) == 0)
            return directory->entries[i];
    return NULL;
}

vdr_nfs_name *vdr_nfs_tree_after(const vdr_nfs_node *directory, uint64_t cookie)
{
    if (cookie == UINT64_MAX)
        return NULL;
    size_t place = place_of(directory, cookie + 1);
    return place < directory->entry_count ? directory->entries[place] : NULL;
}

vdr_nfs_name *vdr_nfs_tree_prepare(vdr_nfs_tree *tree, vdr_nfs_node *directory, const char *text, size_t bytes)
{
    uint64_t cookie = cookie_of(tree, text, bytes), first = cookie;
    for (size_t i = place_of(directory, cookie);
         i < directory->entry_count && directory->entries[i]->cookie == cookie; i++)
        cookie++;
    if (cookie - first >= PROBES)
        return NULL;
    if (directory->entry_count == directory->entry_capacity) {
        size_t capacity = directory->entry_capacity ? 2 * directory->entry_capacity : 8;
        vdr_nfs_name **grown = realloc(directory->entries, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        directory->entries = grown;
        directory->entry_capacity = capacity;
    }
    vdr_nfs_name *made = calloc(1, sizeof *made + bytes + 1);
    if (!made)
        return NULL;
    made->directory = directory;
    made->cookie = cookie;
    made->bytes = bytes;
    memcpy(made->text, text, bytes);
    return made;
}

void vdr_nfs_tree_drop(vdr_nfs_name *name)
{
    free(name);
}

void vdr_nfs_tree_add(vdr_nfs_tree *tree, vdr_nfs_name *name, vdr_nfs_node *node)
{
    vdr_nfs_node *directory = name->directory;
    size_t place = place_of(directory, name->cookie);
    (void)tree;
    memmove(directory->entries + place + 1, directory->entries + place,
            (directory->entry_count - place) * sizeof *directory->entries);
    directory->entries[place] = name;
    directory->entry_count++;
    name->node = node;
    name->next = node->names;
    node->names = name;
}

vdr_nfs_node *vdr_nfs_tree_make_node(void)
{
    return calloc(1, sizeof(vdr_nfs_node));
}

void vdr_nfs_tree_insert(vdr_nfs_tree *tree, vdr_nfs_node *node)
{
    vdr_nfs_node **bucket = bucket_of(tree, node->inode);
    node->next = *bucket;
    *bucket = node;
    tree->node_count++;
}

uint64_t vdr_nfs_tree_remove(vdr_nfs_tree *tree, vdr_nfs_name *name)
{
    vdr_nfs_node *directory = name->directory, *node = name->node;
    size_t place = place_of(directory, name->cookie);
    directory->entry_count--;
    memmove(directory->entries + place, directory->entries + place + 1,
            (directory->entry_count - place) * sizeof *directory->entries);
    vdr_nfs_name **link = &node->names;
    while (*link != name)
        link = &(*link)->next;
    *link = name->next;
    free(name);
    if (node->names)
        return 0;
    vdr_nfs_node **bucket = bucket_of(tree, node->inode);
    while (*bucket != node)
        bucket = &(*bucket)->next;
    *bucket = node->next;
    tree->node_count--;
    uint64_t stored_bytes = node->stored_bytes;
    free_node(node);
    return stored_bytes;
}

int vdr_nfs_tree_path(const vdr_nfs_node *node, char path[VDR_NFS_PATH_MAX])
{
    size_t start = VDR_NFS_PATH_MAX - 1;
    path[start] = 0;
    for (; node->names; node = node->names->directory) {
        const vdr_nfs_name *name = node->names;
        if (name->bytes + 1 > start)
            return 0;
        start -= name->bytes;
        memcpy(path + start, name->text, name->bytes);
        path[--start] = '/';
    }
    if (path[start] == 0)
        memcpy(path, ".", 2);
    else
        memmove(path, path + start + 1, VDR_NFS_PATH_MAX - start - 1);
    return 1;
}

/* The MAC of handles and cookies, and the tree of names against a plain list of them. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "nfs_handle.h"
#include "nfs_tree.h"

enum { NAMES = 300, TURNS = 20000 };

static uint64_t seed = 7;

static uint32_t random_below(uint32_t bound)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % bound;
}

/* Vectors of the authors' reference implementation: key 00 to 0f, message 00, 01, ... */
static void check_siphash(void)
{
    static const struct {
        size_t bytes;
        uint64_t mac;
    } vectors[] = {{0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu}, {8, 0x93f5f5799a932462u},
                   {15, 0xa129ca6149be45e5u}};
    uint8_t key[16], message[16];
    for (uint8_t i = 0; i < 16; i++)
        key[i] = message[i] = i;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        assert(vdr_siphash(key, message, vectors[i].bytes) == vectors[i].mac);
}

static void check_handles(void)
{
    static const uint8_t key[16] = "one", other_key[16] = "other";
    vdr_nfs_handle handle = {.kind = VDR_NFS_FILE, .export_id = "export", .file = {77, 88}}, found;
    uint8_t bytes[VDR_NFS_HANDLE_BYTES];
    vdr_nfs_handle_make(key, &handle, bytes);
    assert(vdr_nfs_handle_parse(key, bytes, sizeof bytes, &found));
    assert(found.kind == VDR_NFS_FILE && found.file.inode == 77 && found.file.generation == 88);
    assert(!vdr_nfs_handle_parse(other_key, bytes, sizeof bytes, &found));
    for (size_t i = 0; i < sizeof bytes * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        assert(!vdr_nfs_handle_parse(key, bytes, sizeof bytes, &found));
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void check_listing(const vdr_nfs_tree *tree, const vdr_nfs_node *directory, vdr_nfs_name *const names[NAMES])
{
    size_t listed = 0, there = 0;
    uint64_t cookie = 0;
    for (vdr_nfs_name *name; (name = vdr_nfs_tree_after(directory, cookie)); cookie = name->cookie) {
        assert(name->cookie > cookie && name->cookie >= VDR_NFS_COOKIE_FIRST);
        assert(vdr_nfs_tree_find(tree, directory, name->text, name->bytes) == name);
        listed++;
    }
    for (int i = 0; i < NAMES; i++)
        there += names[i] != NULL;
    assert(listed == there);
}

static void check_tree(void)
{
    static const uint8_t key[16] = "cookies";
    vdr_nfs_tree tree;
    vdr_nfs_name *names[NAMES] = {0};
    uint64_t cookies[NAMES] = {0}, inodes[NAMES] = {0}, next_inode = 1;
    char text[32], path[VDR_NFS_PATH_MAX];
    assert(vdr_nfs_tree_open(&tree, key) == VDR_OK);
    for (int turn = 0; turn < TURNS; turn++) {
        uint32_t i = random_below(NAMES);
        snprintf(text, sizeof text, "name-%u", i);
        assert(vdr_nfs_tree_find(&tree, tree.top, text, strlen(text)) == names[i]);
        if (names[i]) {
            assert(vdr_nfs_tree_remove(&tree, names[i]) == inodes[i]);
            assert(!vdr_nfs_tree_node(&tree, inodes[i], 5));
            names[i] = NULL;
        } else {
            vdr_nfs_node *node = vdr_nfs_tree_make_node();
            inodes[i] = node->inode = node->stored_bytes = next_inode++;
            node->generation = 5;
            vdr_nfs_tree_insert(&tree, node);
            names[i] = vdr_nfs_tree_prepare(&tree, tree.top, text, strlen(text));
            vdr_nfs_tree_add(&tree, names[i], node);
            assert(!cookies[i] || cookies[i] == names[i]->cookie); /* the same name has the same cookie */
            cookies[i] = names[i]->cookie;
            assert(vdr_nfs_tree_node(&tree, node->inode, 5) == node && !vdr_nfs_tree_node(&tree, node->inode, 6));
            assert(vdr_nfs_tree_path(node, path) && strcmp(path, text) == 0);
        }
        if (turn % 500 == 0)
            check_listing(&tree, tree.top, names);
    }
    vdr_nfs_tree_close(&tree);
}

static void check_paths(void)
{
    static const uint8_t key[16];
    vdr_nfs_tree tree;
    char path[VDR_NFS_PATH_MAX], name[VDR_NFS_FILE_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert(vdr_nfs_tree_open(&tree, key) == VDR_OK);
    assert(vdr_nfs_tree_path(tree.top, path) && strcmp(path, ".") == 0);
    vdr_nfs_node *at = tree.top;
    for (size_t depth = 1; depth <= 20; depth++) {
        vdr_nfs_node *node = vdr_nfs_tree_make_node();
        node->inode = depth;
        node->kind = VDR_NFS_NODE_DIRECTORY;
        vdr_nfs_tree_insert(&tree, node);
        vdr_nfs_tree_add(&tree, vdr_nfs_tree_prepare(&tree, at, name, strlen(name)), node);
        at = node;
        int fits = depth * sizeof name + 1 <= sizeof path;
        assert(vdr_nfs_tree_path(at, path) == fits);
        assert(!fits || strlen(path) == depth * sizeof name - 1);
    }
    vdr_nfs_tree_close(&tree);
}

int main(void)
{
    check_siphash();
    check_handles();
    check_tree();
    check_paths();
    puts("nfs scratch: ok");
    return 0;
}

#define _GNU_SOURCE
#include "dirwalk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"
#include "err.h"

struct vdr_dirwalk {
    int root_fd;
    int fd; /* of `path`, -1 when that is the root */
    size_t path_bytes;
    uint8_t path[VDR_ENTRY_PATH_BYTES_MAX + 1];
};

vdr_dirwalk *vdr_dirwalk_open(int root_fd) {
    vdr_dirwalk *walk = calloc(1, sizeof *walk);
    if (walk == NULL) return NULL;
    walk->root_fd = root_fd;
    walk->fd = -1;
    return walk;
}

void vdr_dirwalk_forget(vdr_dirwalk *walk) {
    if (walk->fd >= 0) close(walk->fd);
    walk->fd = -1;
    walk->path_bytes = 0;
}

void vdr_dirwalk_close(vdr_dirwalk *walk) {
    if (walk == NULL) return;
    vdr_dirwalk_forget(walk);
    free(walk);
}

int vdr_dirwalk_parent(vdr_dirwalk *walk, const uint8_t *path, size_t path_bytes, size_t *name_at) {
    size_t parent_bytes = path_bytes;
    while (parent_bytes > 0 && path[parent_bytes - 1] != '/') parent_bytes--;
    *name_at = parent_bytes;
    if (parent_bytes > 0) parent_bytes--;
    if (parent_bytes > VDR_ENTRY_PATH_BYTES_MAX) return VDR_E_ARGUMENT;
    if (parent_bytes == walk->path_bytes && memcmp(path, walk->path, parent_bytes) == 0) return walk->fd >= 0 ? walk->fd : walk->root_fd;
    int is_beneath = walk->fd >= 0 && walk->path_bytes < parent_bytes && path[walk->path_bytes] == '/' &&
                     memcmp(path, walk->path, walk->path_bytes) == 0;
    if (!is_beneath) vdr_dirwalk_forget(walk);
    size_t at = walk->path_bytes;
    if (at > 0) at++;
    while (at < parent_bytes) {
        char name[256];
        size_t bytes = 0;
        while (at + bytes < parent_bytes && path[at + bytes] != '/') bytes++;
        if (bytes == 0 || bytes > 255) {
            vdr_dirwalk_forget(walk);
            errno = ENAMETOOLONG;
            return VDR_E_IO;
        }
        memcpy(name, path + at, bytes);
        name[bytes] = 0;
        int fd = openat(walk->fd >= 0 ? walk->fd : walk->root_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        if (walk->fd >= 0) close(walk->fd);
        walk->fd = fd;
        if (fd < 0) {
            walk->path_bytes = 0;
            errno = saved;
            return VDR_E_IO;
        }
        at += bytes;
        memcpy(walk->path, path, at);
        walk->path_bytes = at;
        at++;
    }
    return walk->fd >= 0 ? walk->fd : walk->root_fd;
}

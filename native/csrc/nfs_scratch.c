#define _GNU_SOURCE
#include "nfs_scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "err.h"

static const char tree_name[] = "tree", placeholder_name[] = "disk", new_name[] = "new";
static const uint64_t SECOND_NS = 1000000000u;

struct vdr_nfs_scratch {
    int fd, tree_fd;            /* the scratch and its tree/ */
    int is_root;                /* modes do not keep the superuser out of its own files */
    uint64_t bytes_max, files_max;
    uint64_t disk_inode;
    pthread_rwlock_t lock;      /* guards the tree; held for writing while the real directory changes */
    vdr_nfs_tree tree;
    pthread_mutex_t space_lock; /* guards stored_bytes, here and in the nodes */
    uint64_t stored_bytes;
};

/* Open beneath `at`, through no symbolic or magic link and into no other file system. */
static int open_beneath(int at, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC | O_NOFOLLOW,
        .mode = mode,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

static int open_node(const vdr_nfs_scratch *self, const vdr_nfs_node *node, uint64_t flags)
{
    char path[VDR_NFS_PATH_MAX];
    if (!vdr_nfs_tree_path(node, path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open_beneath(self->tree_fd, path, flags, 0);
}

/* An inode number is used again. The file system's own handle tells its users apart, where it has handles, and the time of
 * birth does, unless two were born in one tick of the clock. */
static uint64_t generation_of(int at, const char *name, const struct statx *status)
{
    static const uint8_t key[VDR_SIPHASH_KEY_BYTES];
    union {
        struct file_handle handle;
        uint8_t bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } found = {.handle.handle_bytes = MAX_HANDLE_SZ};
    int mount;
    uint64_t generation = 1;
    if (name_to_handle_at(at, name, &found.handle, &mount, *name ? 0 : AT_EMPTY_PATH) == 0)
        generation = vdr_siphash(key, found.handle.f_handle, found.handle.handle_bytes);
    if (status->stx_mask & STATX_BTIME)
        generation += (uint64_t)status->stx_btime.tv_sec * SECOND_NS + status->stx_btime.tv_nsec;
    return generation;
}

static int stat_at(int fd, const char *name, struct statx *status)
{
    return statx(fd, name, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH), STATX_BASIC_STATS | STATX_BTIME, status);
}

static vdr_nfs_node_kind kind_of(const vdr_nfs_scratch *self, const struct statx *status)
{
    if (status->stx_ino == self->disk_inode)
        return VDR_NFS_NODE_DISK;
    return S_ISREG(status->stx_mode)   ? VDR_NFS_NODE_FILE
           : S_ISDIR(status->stx_mode) ? VDR_NFS_NODE_DIRECTORY
           : S_ISLNK(status->stx_mode) ? VDR_NFS_NODE_LINK
                                       : 0;
}

static vdr_nfs_file file_of(const vdr_nfs_node *node)
{
    return (vdr_nfs_file){node->inode, node->generation};
}

/* The file has become larger or smaller. */
static void account(vdr_nfs_scratch *self, vdr_nfs_node *node, uint64_t stored_bytes)
{
    pthread_mutex_lock(&self->space_lock);
    self->stored_bytes += stored_bytes - node->stored_bytes;
    node->stored_bytes = stored_bytes;
    pthread_mutex_unlock(&self->space_lock);
}

static void forget_space(vdr_nfs_scratch *self, uint64_t stored_bytes)
{
    pthread_mutex_lock(&self->space_lock);
    self->stored_bytes -= stored_bytes;
    pthread_mutex_unlock(&self->space_lock);
}

static int has_room(vdr_nfs_scratch *self, uint64_t bytes)
{
    pthread_mutex_lock(&self->space_lock);
    int has = bytes <= self->bytes_max && self->stored_bytes <= self->bytes_max - bytes;
    pthread_mutex_unlock(&self->space_lock);
    return has;
}

/* Put what is really there into the tree as `prepared`, which is the tree's or gone on return. */
static int adopt(vdr_nfs_scratch *self, vdr_nfs_name *prepared, int at, const char *text, const struct statx *status,
                 vdr_nfs_node **adopted)
{
    uint64_t generation = generation_of(at, text, status);
    vdr_nfs_node *node = vdr_nfs_tree_node(&self->tree, status->stx_ino, generation);
    if (!node) {
        node = vdr_nfs_tree_make_node();
        if (!node) {
            vdr_nfs_tree_drop(prepared);
            return ENOMEM;
        }
        node->inode = status->stx_ino;
        node->generation = generation;
        node->kind = kind_of(self, status);
        vdr_nfs_tree_insert(&self->tree, node);
        account(self, node, status->stx_blocks * 512);
    }
    vdr_nfs_tree_add(&self->tree, prepared, node);
    *adopted = node;
    return 0;
}

/* Read one directory of the real tree; its directories are scanned in turn. */
static int scan_directory(vdr_nfs_scratch *self, vdr_nfs_node *directory)
{
    int fd = open_node(self, directory, O_RDONLY | O_DIRECTORY);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    int error = 0;
    struct dirent *entry;
    while (!error && (entry = readdir(stream))) {
        struct statx status;
        vdr_nfs_node *node;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (stat_at(fd, entry->d_name, &status))
            error = errno;
        else if (!kind_of(self, &status))
            continue; /* not ours: clients cannot make one */
        else if (self->tree.node_count >= self->files_max)
            error = E2BIG;
        else {
            vdr_nfs_name *name = vdr_nfs_tree_prepare(&self->tree, directory, entry->d_name, strlen(entry->d_name));
            error = name ? adopt(self, name, fd, entry->d_name, &status, &node) : ENOMEM;
        }
    }
    closedir(stream);
    for (size_t i = 0; !error && i < directory->entry_count; i++)
        if (directory->entries[i]->node->kind == VDR_NFS_NODE_DIRECTORY)
            error = scan_directory(self, directory->entries[i]->node);
    return error;
}

/* Give the disk a name in tree/ if it has none: at the first start, or when somebody removed it by hand. */
static int name_the_disk(vdr_nfs_scratch *self, const char *disk_name)
{
    struct statx status;
    if (stat_at(self->fd, placeholder_name, &status))
        return errno;
    vdr_nfs_node *node = vdr_nfs_tree_node(&self->tree, status.stx_ino, generation_of(self->fd, placeholder_name, &status));
    if (node)
        return 0;
    char text[VDR_NFS_FILE_NAME_BYTES_MAX + 1];
    snprintf(text, sizeof text, "%s", disk_name);
    for (unsigned i = 1; vdr_nfs_tree_find(&self->tree, self->tree.top, text, strlen(text)); i++)
        snprintf(text, sizeof text, "%.200s.%u", disk_name, i);
    vdr_nfs_name *name = vdr_nfs_tree_prepare(&self->tree, self->tree.top, text, strlen(text));
    if (!name)
        return ENOMEM;
    if (linkat(self->fd, placeholder_name, self->tree_fd, text, 0) || fsync(self->tree_fd)) {
        int error = errno;
        vdr_nfs_tree_drop(name);
        return error;
    }
    return adopt(self, name, self->fd, placeholder_name, &status, &node);
}

static int fill(vdr_nfs_scratch *self)
{
    struct statx status;
    if (mkdirat(self->fd, tree_name, 0700) && errno != EEXIST)
        return errno;
    self->tree_fd = open_beneath(self->fd, tree_name, O_RDONLY | O_DIRECTORY, 0);
    int made = self->tree_fd < 0 ? -1 : open_beneath(self->fd, placeholder_name, O_RDONLY | O_CREAT, 0600);
    if (made < 0)
        return errno;
    int error = fsync(made) || fsync(self->fd) || stat_at(made, "", &status) ? errno : 0;
    close(made);
    if (unlinkat(self->fd, new_name, 0) && errno != ENOENT)
        return errno;
    if (!error && !S_ISREG(status.stx_mode))
        error = EINVAL;
    self->disk_inode = status.stx_ino;
    return error;
}

int vdr_nfs_scratch_open(int directory_fd, const char *disk_name, const uint8_t key[VDR_SIPHASH_KEY_BYTES],
                         uint64_t bytes_max, uint64_t files_max, vdr_nfs_scratch **scratch)
{
    vdr_nfs_scratch *self = calloc(1, sizeof *self);
    if (!self)
        return VDR_E_MEMORY;
    self->tree_fd = -1;
    self->is_root = geteuid() == 0;
    self->bytes_max = bytes_max;
    self->files_max = files_max;
    pthread_rwlock_init(&self->lock, NULL);
    pthread_mutex_init(&self->space_lock, NULL);
    if (vdr_nfs_tree_open(&self->tree, key)) {
        free(self);
        return VDR_E_MEMORY;
    }
    self->fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0);
    int error = self->fd < 0 ? errno : fill(self);
    if (!error)
        error = scan_directory(self, self->tree.top);
    if (!error)
        error = name_the_disk(self, disk_name);
    if (!error) {
        *scratch = self;
        return VDR_OK;
    }
    vdr_nfs_scratch_close(self);
    errno = error;
    return error == E2BIG ? VDR_E_SPACE : error == ENOMEM ? VDR_E_MEMORY : VDR_E_IO;
}

void vdr_nfs_scratch_close(vdr_nfs_scratch *self)
{
    if (!self)
        return;
    if (self->tree_fd >= 0)
        close(self->tree_fd);
    if (self->fd >= 0)
        close(self->fd);
    vdr_nfs_tree_close(&self->tree);
    pthread_rwlock_destroy(&self->lock);
    pthread_mutex_destroy(&self->space_lock);
    free(self);
}

void vdr_nfs_scratch_get_usage(vdr_nfs_scratch *self, vdr_nfs_scratch_usage *usage)
{
    pthread_rwlock_rdlock(&self->lock);
    pthread_mutex_lock(&self->space_lock);
    *usage = (vdr_nfs_scratch_usage){self->stored_bytes, self->bytes_max, self->tree.node_count, self->files_max};
    pthread_mutex_unlock(&self->space_lock);
    pthread_rwlock_unlock(&self->lock);
}

/* Find a file and open it; the tree's lock is not held on return. -1 with errno. */
static int open_file(vdr_nfs_scratch *self, vdr_nfs_file file, uint64_t flags, vdr_nfs_node_kind *kind)
{
    pthread_rwlock_rdlock(&self->lock);
    vdr_nfs_node *node = vdr_nfs_tree_node(&self->tree, file.inode, file.generation);
    int fd = -1;
    errno = ESTALE;
    if (node) {
        *kind = node->kind;
        int is_path = flags & O_PATH || node->kind == VDR_NFS_NODE_LINK;
        fd = open_node(self, node, is_path ? O_PATH : flags | O_NOATIME | O_NONBLOCK);
    }
    int kept = errno;
    pthread_rwlock_unlock(&self->lock);
    errno = kept;
    return fd;
}

static void tell_attributes(vdr_nfs_node_kind kind, const struct statx *status, vdr_nfs_file_attributes *attributes)
{
    *attributes = (vdr_nfs_file_attributes){
        .kind = kind,
        .mode = status->stx_mode & 0777,
        .links = status->stx_nlink,
        .size_bytes = status->stx_size,
        .stored_bytes = status->stx_blocks * 512,
        .inode = status->stx_ino,
        .accessed_ns = (uint64_t)status->stx_atime.tv_sec * SECOND_NS + status->stx_atime.tv_nsec,
        .modified_ns = (uint64_t)status->stx_mtime.tv_sec * SECOND_NS + status->stx_mtime.tv_nsec,
        .changed_ns = (uint64_t)status->stx_ctime.tv_sec * SECOND_NS + status->stx_ctime.tv_nsec,
    };
}

int vdr_nfs_scratch_getattr(vdr_nfs_scratch *self, vdr_nfs_file file, vdr_nfs_file_attributes *attributes)
{
    vdr_nfs_node_kind kind;
    struct statx status;
    int fd = open_file(self, file, O_PATH, &kind);
    if (fd < 0)
        return errno;
    int error = stat_at(fd, "", &status) ? errno : 0;
    close(fd);
    if (!error)
        tell_attributes(kind, &status, attributes);
    return error;
}

/* Bring what is known of a file's space up to date, after it was written. */
static void account_file(vdr_nfs_scratch *self, vdr_nfs_file file, int fd)
{
    struct statx status;
    if (stat_at(fd, "", &status))
        return;
    pthread_rwlock_rdlock(&self->lock);
    vdr_nfs_node *node = vdr_nfs_tree_node(&self->tree, file.inode, file.generation);
    if (node)
        account(self, node, status.stx_blocks * 512);
    pthread_rwlock_unlock(&self->lock);
}

static struct timespec time_of(int is_set, uint64_t ns)
{
    if (!is_set)
        return (struct timespec){0, UTIME_OMIT};
    return (struct timespec){(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
}

static int mode_kept(const vdr_nfs_scratch *self, uint32_t mode, uint32_t needed)
{
    return (int)((mode & 0777) | (self->is_root ? 0 : needed));
}

static int change_file(vdr_nfs_scratch *self, int fd, vdr_nfs_node_kind kind, const vdr_nfs_file_changes *changes)
{
    uint32_t needed = kind == VDR_NFS_NODE_DIRECTORY ? 0700 : 0600;
    if (changes->sets_size && kind != VDR_NFS_NODE_FILE)
        return kind == VDR_NFS_NODE_DIRECTORY ? EISDIR : EINVAL;
    if (changes->sets_size && changes->size_bytes > INT64_MAX)
        return EFBIG;
    if (changes->sets_size && ftruncate(fd, (off_t)changes->size_bytes))
        return errno;
    if (changes->sets_mode && fchmod(fd, (mode_t)mode_kept(self, changes->mode, needed)))
        return errno;
    if (changes->sets_accessed || changes->sets_modified) {
        struct timespec times[2] = {time_of(changes->sets_accessed, changes->accessed_ns),
                                    time_of(changes->sets_modified, changes->modified_ns)};
        if (futimens(fd, times))
            return errno;
    }
    return fsync(fd) ? errno : 0;
}

int vdr_nfs_scratch_setattr(vdr_nfs_scratch *self, vdr_nfs_file file, const vdr_nfs_file_changes *changes,
                            uint64_t guard_ns)
{
    vdr_nfs_node_kind kind;
    vdr_nfs_file_attributes attributes;
    struct statx status;
    int fd = open_file(self, file, changes->sets_size ? O_RDWR : O_RDONLY, &kind);
    if (fd < 0)
        return errno;
    int error = stat_at(fd, "", &status) ? errno : 0;
    tell_attributes(kind, &status, &attributes);
    if (!error && guard_ns && attributes.changed_ns != guard_ns)
        error = EBUSY;
    /* A symbolic link has no mode and no size, and nobody minds its times. */
    if (!error && kind != VDR_NFS_NODE_LINK)
        error = change_file(self, fd, kind, changes);
    else if (!error && changes->sets_size)
        error = EINVAL;
    account_file(self, file, fd);
    close(fd);
    return error;
}

static int check_name(const char *name, size_t bytes)
{
    if (bytes > VDR_NFS_FILE_NAME_BYTES_MAX)
        return ENAMETOOLONG;
    int is_dots = bytes <= 2 && memcmp(name, "..", bytes) == 0; /* or empty */
    return is_dots || memchr(name, '/', bytes) || memchr(name, 0, bytes) ? EINVAL : 0;
}

/* A directory of the tree, found with its lock held. */
static int find_directory(const vdr_nfs_scratch *self, vdr_nfs_file file, vdr_nfs_node **directory)
{
    *directory = vdr_nfs_tree_node(&self->tree, file.inode, file.generation);
    return !*directory ? ESTALE : (*directory)->kind != VDR_NFS_NODE_DIRECTORY ? ENOTDIR : 0;
}

int vdr_nfs_scratch_lookup(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes, vdr_nfs_file *found,
                           vdr_nfs_node_kind *kind)
{
    vdr_nfs_node *directory;
    int error = check_name(name, bytes);
    if (error)
        return error == EINVAL ? ENOENT : error;
    pthread_rwlock_rdlock(&self->lock);
    error = find_directory(self, file, &directory);
    vdr_nfs_name *entry = error ? NULL : vdr_nfs_tree_find(&self->tree, directory, name, bytes);
    if (entry) {
        *found = file_of(entry->node);
        *kind = entry->node->kind;
    } else if (!error)
        error = ENOENT;
    pthread_rwlock_unlock(&self->lock);
    return error;
}

int vdr_nfs_scratch_parent(vdr_nfs_scratch *self, vdr_nfs_file file, vdr_nfs_file *parent)
{
    vdr_nfs_node *directory;
    pthread_rwlock_rdlock(&self->lock);
    int error = find_directory(self, file, &directory);
    if (!error)
        *parent = directory->names ? file_of(directory->names->directory) : file_of(directory);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

/* A name that is being made or changed: its directory, open, and its entry if there is one. The lock is held for writing
 * from begin to end. */
typedef struct {
    vdr_nfs_node *directory;
    vdr_nfs_name *found;
    int fd;
    char text[VDR_NFS_FILE_NAME_BYTES_MAX + 1];
    size_t bytes;
} place;

static int begin_place(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes, place *at)
{
    char path[VDR_NFS_PATH_MAX];
    at->fd = -1;
    int error = check_name(name, bytes);
    if (!error)
        error = find_directory(self, file, &at->directory);
    if (error)
        return error;
    memcpy(at->text, name, bytes);
    at->text[bytes] = 0;
    at->bytes = bytes;
    at->found = vdr_nfs_tree_find(&self->tree, at->directory, name, bytes);
    if (!vdr_nfs_tree_path(at->directory, path) || strlen(path) + bytes + 2 > sizeof path)
        return ENAMETOOLONG;
    at->fd = open_beneath(self->tree_fd, path, O_RDONLY | O_DIRECTORY, 0);
    return at->fd < 0 ? errno : 0;
}

static void end_place(place *at)
{
    if (at->fd >= 0)
        close(at->fd);
}

/* Put something that `make` made on disk under a name into the tree. */
static int adopt_made(vdr_nfs_scratch *self, place *at, vdr_nfs_name *prepared, vdr_nfs_file *made)
{
    struct statx status;
    vdr_nfs_node *node;
    int error = stat_at(at->fd, at->text, &status) ? errno : 0;
    if (error)
        vdr_nfs_tree_drop(prepared);
    else
        error = adopt(self, prepared, at->fd, at->text, &status, &node);
    if (error)
        return error;
    *made = file_of(node);
    return fsync(at->fd) ? errno : 0;
}

static vdr_nfs_name *prepare(vdr_nfs_scratch *self, place *at, int *error)
{
    vdr_nfs_name *prepared = NULL;
    if (self->tree.node_count >= self->files_max || !has_room(self, 0))
        *error = ENOSPC;
    else if (!(prepared = vdr_nfs_tree_prepare(&self->tree, at->directory, at->text, at->bytes)))
        *error = ENOMEM;
    return prepared;
}

/* The times that carry the verifier of an exclusive CREATE, as other servers do it. */
static void verifier_times(uint64_t verifier, struct timespec times[2])
{
    times[0] = (struct timespec){(time_t)(verifier >> 32 & 0x7fffffff), 0};
    times[1] = (struct timespec){(time_t)(verifier & 0x7fffffff), 0};
}

static int has_verifier(const place *at, uint64_t verifier)
{
    struct statx status;
    struct timespec times[2];
    verifier_times(verifier, times);
    return at->found->node->kind == VDR_NFS_NODE_FILE && stat_at(at->fd, at->text, &status) == 0 &&
           status.stx_size == 0 && status.stx_atime.tv_sec == times[0].tv_sec && status.stx_atime.tv_nsec == 0 &&
           status.stx_mtime.tv_sec == times[1].tv_sec && status.stx_mtime.tv_nsec == 0;
}

/* Make the file outside the tree and move it in whole: with its mode and, if exclusive, its verifier. */
static int make_file(vdr_nfs_scratch *self, const place *at, vdr_nfs_create_how how, uint32_t mode, uint64_t verifier)
{
    struct timespec times[2];
    verifier_times(verifier, times);
    if (unlinkat(self->fd, new_name, 0) && errno != ENOENT)
        return errno;
    int fd = open_beneath(self->fd, new_name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return errno;
    int error = 0;
    if ((how != VDR_NFS_CREATE_EXCLUSIVE && fchmod(fd, (mode_t)mode_kept(self, mode, 0600))) ||
        (how == VDR_NFS_CREATE_EXCLUSIVE && futimens(fd, times)) || fsync(fd) ||
        renameat2(self->fd, new_name, at->fd, at->text, RENAME_NOREPLACE))
        error = errno;
    close(fd);
    return error;
}

int vdr_nfs_scratch_create(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes,
                           vdr_nfs_create_how how, uint32_t mode, uint64_t verifier, vdr_nfs_file *made,
                           vdr_nfs_node_kind *kind, int *is_new)
{
    place at;
    *is_new = 0;
    pthread_rwlock_wrlock(&self->lock);
    int error = begin_place(self, file, name, bytes, &at);
    if (!error && at.found) {
        *made = file_of(at.found->node);
        *kind = at.found->node->kind;
        int is_file = *kind == VDR_NFS_NODE_FILE || *kind == VDR_NFS_NODE_DISK;
        if (how == VDR_NFS_CREATE_GUARDED || !is_file ||
            (how == VDR_NFS_CREATE_EXCLUSIVE && !has_verifier(&at, verifier)))
            error = EEXIST;
    } else if (!error) {
        vdr_nfs_name *prepared = prepare(self, &at, &error);
        if (!error && (error = make_file(self, &at, how, mode, verifier)))
            vdr_nfs_tree_drop(prepared);
        else if (!error)
            error = adopt_made(self, &at, prepared, made);
        *kind = VDR_NFS_NODE_FILE;
        *is_new = !error;
    }
    end_place(&at);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

int vdr_nfs_scratch_mkdir(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes, uint32_t mode,
                          vdr_nfs_file *made)
{
    place at;
    pthread_rwlock_wrlock(&self->lock);
    int error = begin_place(self, file, name, bytes, &at);
    if (!error && at.found)
        error = EEXIST;
    vdr_nfs_name *prepared = error ? NULL : prepare(self, &at, &error);
    if (!error) {
        if (mkdirat(at.fd, at.text, 0700) || fchmodat(at.fd, at.text, (mode_t)mode_kept(self, mode, 0700), 0)) {
            error = errno;
            vdr_nfs_tree_drop(prepared);
        } else
            error = adopt_made(self, &at, prepared, made);
    }
    end_place(&at);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

int vdr_nfs_scratch_symlink(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes, const char *target,
                            vdr_nfs_file *made)
{
    place at;
    pthread_rwlock_wrlock(&self->lock);
    int error = begin_place(self, file, name, bytes, &at);
    if (!error && at.found)
        error = EEXIST;
    vdr_nfs_name *prepared = error ? NULL : prepare(self, &at, &error);
    if (!error) {
        if (symlinkat(target, at.fd, at.text)) {
            error = errno;
            vdr_nfs_tree_drop(prepared);
        } else
            error = adopt_made(self, &at, prepared, made);
    }
    end_place(&at);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

static int remove_name(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes, int is_directory)
{
    place at;
    pthread_rwlock_wrlock(&self->lock);
    int error = begin_place(self, file, name, bytes, &at);
    if (!error && !at.found)
        error = ENOENT;
    if (!error && at.found->node->kind == VDR_NFS_NODE_DISK)
        error = is_directory ? ENOTDIR : EPERM;
    if (!error && !is_directory && at.found->node->kind == VDR_NFS_NODE_DIRECTORY)
        error = EISDIR;
    if (!error && unlinkat(at.fd, at.text, is_directory ? AT_REMOVEDIR : 0))
        error = errno;
    if (!error) {
        forget_space(self, vdr_nfs_tree_remove(&self->tree, at.found));
        error = fsync(at.fd) ? errno : 0;
    }
    end_place(&at);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

int vdr_nfs_scratch_remove(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes)
{
    return remove_name(self, file, name, bytes, 0);
}

int vdr_nfs_scratch_rmdir(vdr_nfs_scratch *self, vdr_nfs_file file, const char *name, size_t bytes)
{
    return remove_name(self, file, name, bytes, 1);
}

static int rename_place(vdr_nfs_scratch *self, place *from, place *to)
{
    if (!from->found)
        return ENOENT;
    if (to->found && to->found->node == from->found->node)
        return 0; /* two names of one file: both stay, as POSIX has it */
    if (to->found && to->found->node->kind == VDR_NFS_NODE_DISK)
        return EPERM;
    vdr_nfs_name *prepared = vdr_nfs_tree_prepare(&self->tree, to->directory, to->text, to->bytes);
    if (!prepared)
        return ENOMEM;
    if (renameat(from->fd, from->text, to->fd, to->text)) {
        int error = errno;
        vdr_nfs_tree_drop(prepared);
        return error;
    }
    vdr_nfs_node *node = from->found->node;
    if (to->found)
        forget_space(self, vdr_nfs_tree_remove(&self->tree, to->found));
    /* The new name first: a node goes with its last one. */
    vdr_nfs_tree_add(&self->tree, prepared, node);
    vdr_nfs_tree_remove(&self->tree, from->found);
    return fsync(to->fd) || fsync(from->fd) ? errno : 0;
}

int vdr_nfs_scratch_rename(vdr_nfs_scratch *self, vdr_nfs_file from_file, const char *from_name, size_t from_bytes,
                           vdr_nfs_file to_file, const char *to_name, size_t to_bytes)
{
    place from, to = {.fd = -1};
    pthread_rwlock_wrlock(&self->lock);
    int error = begin_place(self, from_file, from_name, from_bytes, &from);
    if (!error)
        error = begin_place(self, to_file, to_name, to_bytes, &to);
    if (!error)
        error = rename_place(self, &from, &to);
    end_place(&from);
    end_place(&to);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

int vdr_nfs_scratch_link(vdr_nfs_scratch *self, vdr_nfs_file file, vdr_nfs_file directory, const char *name, size_t bytes)
{
    place at;
    char path[VDR_NFS_PATH_MAX];
    pthread_rwlock_wrlock(&self->lock);
    vdr_nfs_node *node = vdr_nfs_tree_node(&self->tree, file.inode, file.generation);
    int error = begin_place(self, directory, name, bytes, &at);
    if (!error && !node)
        error = ESTALE;
    if (!error && node->kind != VDR_NFS_NODE_FILE && node->kind != VDR_NFS_NODE_LINK)
        error = EPERM;
    if (!error && at.found)
        error = EEXIST;
    vdr_nfs_name *prepared = error ? NULL : prepare(self, &at, &error);
    if (!error) {
        /* The path holds no link: every directory in it is one of the tree. Without AT_SYMLINK_FOLLOW its end is none. */
        if (!vdr_nfs_tree_path(node, path))
            error = ENAMETOOLONG;
        else if (linkat(self->tree_fd, path, at.fd, at.text, 0))
            error = errno;
        if (error)
            vdr_nfs_tree_drop(prepared);
        else {
            vdr_nfs_tree_add(&self->tree, prepared, node);
            error = fsync(at.fd) ? errno : 0;
        }
    }
    end_place(&at);
    pthread_rwlock_unlock(&self->lock);
    return error;
}

/* Open a file's data; links and directories have none. */
static int open_data(vdr_nfs_scratch *self, vdr_nfs_file file, uint64_t flags)
{
    vdr_nfs_node_kind kind;
    int fd = open_file(self, file, flags, &kind);
    if (fd < 0 || kind == VDR_NFS_NODE_FILE) {
        if (errno == EISDIR)
            return -EISDIR;
        return fd < 0 ? -errno : fd;
    }
    close(fd);
    return kind == VDR_NFS_NODE_DIRECTORY ? -EISDIR : -EINVAL;
}

int vdr_nfs_scratch_read(vdr_nfs_scratch *self, vdr_nfs_file file, uint64_t offset, void *buffer, size_t bytes,
                         size_t *got, int *is_end)
{
    int fd = open_data(self, file, O_RDONLY);
    *got = 0;
    *is_end = 1;
    if (fd < 0)
        return -fd;
    int error = 0;
    struct stat status;
    while (*got < bytes && offset <= INT64_MAX - bytes) {
        ssize_t count = pread(fd, (uint8_t *)buffer + *got, bytes - *got, (off_t)(offset + *got));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            error = errno;
        if (count <= 0)
            break;
        *got += (size_t)count;
    }
    if (!error && fstat(fd, &status) == 0)
        *is_end = offset + *got >= (uint64_t)status.st_size;
    close(fd);
    return error;
}

static int write_data(vdr_nfs_scratch *self, int fd, uint64_t offset, const uint8_t *data, size_t bytes)
{
    struct stat status;
    if (offset > INT64_MAX - bytes)
        return EFBIG;
    if (fstat(fd, &status))
        return errno;
    int is_overwrite = offset + bytes <= (uint64_t)status.st_size &&
                       (uint64_t)status.st_blocks * 512 >= (uint64_t)status.st_size;
    if (!is_overwrite && !has_room(self, bytes))
        return ENOSPC;
    while (bytes > 0) {
        ssize_t count = pwrite(fd, data, bytes, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? errno : ENOSPC;
        data += count;
        offset += (uint64_t)count;
        bytes -= (size_t)count;
    }
    return 0;
}

int vdr_nfs_scratch_write(vdr_nfs_scratch *self, vdr_nfs_file file, uint64_t offset, const void *data, size_t bytes,
                          int is_stable)
{
    int fd = open_data(self, file, O_WRONLY);
    if (fd < 0)
        return -fd;
    int error = write_data(self, fd, offset, data, bytes);
    /* Times are part of what is stable: not fdatasync. */
    if (!error && is_stable && fsync(fd))
        error = errno;
    account_file(self, file, fd);
    close(fd);
    return error;
}

int vdr_nfs_scratch_commit(vdr_nfs_scratch *self, vdr_nfs_file file)
{
    int fd = open_data(self, file, O_RDONLY);
    if (fd < 0)
        return -fd;
    int error = fsync(fd) ? errno : 0;
    close(fd);
    return error;
}

int vdr_nfs_scratch_readlink(vdr_nfs_scratch *self, vdr_nfs_file file, char *target, size_t capacity, size_t *bytes)
{
    vdr_nfs_node_kind kind;
    int fd = open_file(self, file, O_PATH, &kind);
    if (fd < 0)
        return errno;
    ssize_t length = kind == VDR_NFS_NODE_LINK ? readlinkat(fd, "", target, capacity) : -1;
    int error = kind != VDR_NFS_NODE_LINK ? EINVAL : length < 0 ? errno : 0;
    close(fd);
    *bytes = error ? 0 : (size_t)length;
    return error;
}

int vdr_nfs_scratch_next(vdr_nfs_scratch *self, vdr_nfs_file file, uint64_t cookie, vdr_nfs_scratch_entry *entry)
{
    vdr_nfs_node *directory;
    struct statx status;
    pthread_rwlock_rdlock(&self->lock);
    int error = find_directory(self, file, &directory);
    vdr_nfs_name *name = error ? NULL : vdr_nfs_tree_after(directory, cookie);
    if (!error && !name)
        error = ENOENT;
    if (!error) {
        entry->cookie = name->cookie;
        entry->file = file_of(name->node);
        entry->name_bytes = name->bytes;
        memcpy(entry->name, name->text, name->bytes + 1);
        int fd = open_node(self, name->node, O_PATH);
        error = fd < 0 || stat_at(fd, "", &status) ? errno : 0;
        if (fd >= 0)
            close(fd);
        if (!error)
            tell_attributes(name->node->kind, &status, &entry->attributes);
    }
    pthread_rwlock_unlock(&self->lock);
    return error;
}

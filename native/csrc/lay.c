#define _GNU_SOURCE
#include "lay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "dirwalk.h"
#include "err.h"

#define STOPPING_FLAGS ((uint32_t)(FS_IMMUTABLE_FL | FS_APPEND_FL))
#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

struct vdr_lay {
    vdr_dirwalk *walk;
    int root_fd;
    int overwrites;
    int drops_acls; /* what is created may inherit ACLs that its entry does not have */
    uint64_t nonce;
    uint64_t serial;
    char temporary[64];
    /* directories on the way to the entry finished last, copied */
    uint8_t *open;
    size_t open_bytes, open_capacity;
    size_t *open_at;
    size_t open_count, open_at_capacity;
};

vdr_lay *vdr_lay_open(int root_fd, int overwrites, uint64_t nonce) {
    vdr_lay *lay = calloc(1, sizeof *lay);
    if (lay == NULL) return NULL;
    lay->walk = vdr_dirwalk_open(root_fd);
    if (lay->walk == NULL) {
        free(lay);
        return NULL;
    }
    lay->root_fd = root_fd;
    lay->overwrites = overwrites;
    lay->nonce = nonce;
    lay->drops_acls = overwrites || fgetxattr(root_fd, ACL_DEFAULT, NULL, 0) > 0;
    return lay;
}

void vdr_lay_close(vdr_lay *lay) {
    if (lay == NULL) return;
    vdr_dirwalk_close(lay->walk);
    free(lay->open);
    free(lay->open_at);
    free(lay);
}

/* One entry and where it goes. */
typedef struct {
    const vdr_entry *entry;
    const uint8_t *path;
    const uint8_t *target;
    const uint8_t *attributes;
    int parent_fd;
    char name[256];
    vdr_event_list *events;
} place;

static int is_full(int error) { return error == ENOSPC || error == EDQUOT; }

static void place_fail(const place *at, vdr_event_kind kind, int error, vdr_event_detail detail) {
    vdr_event_add(at->events, kind, error, detail, at->path, at->entry->path_bytes);
}

/* Find the directory of an entry. 0, or -1 with an event. */
static int place_find(vdr_lay *lay, const uint8_t *record, vdr_event_list *events, place *at) {
    at->entry = (const vdr_entry *)(const void *)record;
    at->path = vdr_entry_loose_path(at->entry);
    at->target = at->path + at->entry->path_bytes;
    at->attributes = at->target + at->entry->target_bytes;
    at->events = events;
    size_t name_at = 0;
    at->parent_fd = vdr_dirwalk_parent(lay->walk, at->path, at->entry->path_bytes, &name_at);
    if (at->parent_fd < 0) {
        place_fail(at, VDR_EVENT_UNWRITABLE, errno, VDR_DETAIL_NONE);
        return -1;
    }
    size_t name_bytes = at->entry->path_bytes - name_at;
    if (name_bytes > 255) {
        place_fail(at, VDR_EVENT_UNWRITABLE, ENAMETOOLONG, VDR_DETAIL_NONE);
        return -1;
    }
    memcpy(at->name, at->path + name_at, name_bytes);
    at->name[name_bytes] = 0;
    if (name_bytes == 0) memcpy(at->name, ".", 2);
    return 0;
}

/* Take away the flags that forbid changing what `name` in `parent_fd` (or `parent_fd` itself for NULL) is. */
static void flags_release(int parent_fd, const char *name) {
    int flags = 0;
    int fd = openat(parent_fd, name != NULL ? name : ".", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && ((uint32_t)flags & STOPPING_FLAGS) != 0) {
        flags &= (int)~STOPPING_FLAGS;
        (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    close(fd);
}

static const char *temporary_next(vdr_lay *lay) {
    snprintf(lay->temporary, sizeof lay->temporary, ".vdr-%016llx-%llx", (unsigned long long)lay->nonce, (unsigned long long)lay->serial++);
    return lay->temporary;
}

/* Give the temporary file its name. 0, or errno. */
static int temporary_name(vdr_lay *lay, const place *at) {
    if (!lay->overwrites) {
        /* the target was empty: what stands there now is somebody else's */
        if (syscall(SYS_renameat2, at->parent_fd, lay->temporary, at->parent_fd, at->name, RENAME_NOREPLACE) == 0) return 0;
        if (errno != EINVAL && errno != ENOSYS) return errno;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        if (renameat(at->parent_fd, lay->temporary, at->parent_fd, at->name) == 0) return 0;
        if (!lay->overwrites || attempt > 0) break;
        if (errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST) {
            if (unlinkat(at->parent_fd, at->name, AT_REMOVEDIR) != 0) break;
        } else if (errno == EPERM || errno == EACCES) {
            flags_release(at->parent_fd, at->name);
            flags_release(at->parent_fd, NULL);
        } else {
            break;
        }
    }
    int error = errno;
    return error;
}

/* Next extended attribute of a checked block; 0 at the end. The name is NUL-terminated in `name`. */
static int attribute_next(const uint8_t *block, size_t block_bytes, size_t *at, char name[256], const uint8_t **value, size_t *value_bytes) {
    uint16_t name_bytes;
    uint32_t bytes;
    if (*at >= block_bytes) return 0;
    memcpy(&name_bytes, block + *at, 2);
    memcpy(&bytes, block + *at + 2, 4);
    memcpy(name, block + *at + 6, name_bytes);
    name[name_bytes] = 0;
    *value = block + *at + 6 + name_bytes;
    *value_bytes = bytes;
    *at += 6u + name_bytes + bytes;
    return 1;
}

/* Set extended attributes on `fd`, or on `path` without following when fd < 0. */
static void attributes_set(const place *at, int fd, const char *path, int drops_acls) {
    char name[256];
    const uint8_t *value;
    size_t value_bytes, next = 0;
    int error = 0, has_access = 0, has_default = 0;
    while (attribute_next(at->attributes, at->entry->attribute_bytes, &next, name, &value, &value_bytes)) {
        if (strcmp(name, ACL_ACCESS) == 0) has_access = 1;
        if (strcmp(name, ACL_DEFAULT) == 0) has_default = 1;
        int result = fd >= 0 ? fsetxattr(fd, name, value, value_bytes, 0) : lsetxattr(path, name, value, value_bytes, 0);
        if (result != 0) error = errno;
    }
    if (error != 0) place_fail(at, VDR_EVENT_UNSET, error, VDR_DETAIL_ATTRIBUTES);
    if (drops_acls && fd >= 0) {
        if (!has_access) (void)fremovexattr(fd, ACL_ACCESS);
        if (!has_default && at->entry->type == VDR_TYPE_DIRECTORY) (void)fremovexattr(fd, ACL_DEFAULT);
    }
}

static void flags_set(const place *at, int fd) {
    int flags = 0;
    if (at->entry->inode_flags == 0) return;
    /* flags of how the file is stored stay the target's own */
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        int wanted = flags | (int)at->entry->inode_flags;
        if (wanted == flags || ioctl(fd, FS_IOC_SETFLAGS, &wanted) == 0) return;
        /* some flags exist on the source's file system only; those that protect matter most */
        wanted = flags | (int)(at->entry->inode_flags & (STOPPING_FLAGS | FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL));
        (void)ioctl(fd, FS_IOC_SETFLAGS, &wanted);
    }
    place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_FLAGS);
}

static void times_of(const vdr_entry *entry, struct timespec times[2]) {
    times[0].tv_sec = 0;
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_sec = entry->mtime_s;
    times[1].tv_nsec = (long)entry->mtime_ns;
}

/* Owner, attributes, mode, times of an open file or directory, in the order in which none undoes another. */
static void metadata_set(const place *at, int fd, int drops_acls) {
    const vdr_entry *entry = at->entry;
    mode_t mode = entry->mode;
    if (fchown(fd, entry->uid, entry->gid) != 0) {
        place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_OWNER);
        mode &= (mode_t) ~(S_ISUID | S_ISGID); /* they would speak for another owner */
    }
    if (entry->attribute_bytes != 0 || drops_acls) attributes_set(at, fd, NULL, drops_acls);
    if (fchmod(fd, mode) != 0) place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_MODE);
    struct timespec times[2];
    times_of(entry, times);
    if (futimens(fd, times) != 0) place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_TIMES);
}

/* The same for what cannot be opened: symbolic links, fifos, sockets, devices under their temporary name. */
static void metadata_set_at(const place *at, const char *name) {
    const vdr_entry *entry = at->entry;
    char path[320];
    mode_t mode = entry->mode;
    int fd = openat(at->parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_OWNER);
        return;
    }
    if (fchownat(fd, "", entry->uid, entry->gid, AT_EMPTY_PATH) != 0) {
        place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_OWNER);
        mode &= (mode_t) ~(S_ISUID | S_ISGID);
    }
    if (entry->attribute_bytes != 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d/%s", at->parent_fd, name);
        attributes_set(at, -1, path, 0);
    }
    if (entry->type != VDR_TYPE_SYMLINK) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (chmod(path, mode) != 0) place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_MODE);
    }
    struct timespec times[2];
    times_of(entry, times);
    if (utimensat(at->parent_fd, name, times, AT_SYMLINK_NOFOLLOW) != 0) place_fail(at, VDR_EVENT_UNSET, errno, VDR_DETAIL_TIMES);
    close(fd);
}

/* Run `create` once, and again with the directory's flags released if that may be what forbids it. */
static int file_create(vdr_lay *lay, const place *at) {
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at->parent_fd, temporary_next(lay), flags, 0600);
    if (fd < 0 && lay->overwrites && (errno == EPERM || errno == EACCES)) {
        flags_release(at->parent_fd, NULL);
        fd = openat(at->parent_fd, lay->temporary, flags, 0600);
    }
    return fd;
}

/* Attributes and name for a complete temporary file; closes it. 1, or 0 with an event. */
static int file_finish(vdr_lay *lay, const place *at, int fd) {
    metadata_set(at, fd, lay->drops_acls);
    int error = temporary_name(lay, at);
    if (error == 0) {
        /* a file with several names gets its flags when it has them all */
        if (at->entry->nlink == 1) flags_set(at, fd);
    } else {
        unlinkat(at->parent_fd, lay->temporary, 0);
        place_fail(at, VDR_EVENT_UNWRITABLE, error, VDR_DETAIL_NONE);
    }
    close(fd);
    return error == 0;
}

static int write_all(int fd, const uint8_t *data, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t done = pwrite(fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return VDR_E_IO;
        data += done;
        bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

int64_t vdr_lay_directories(vdr_lay *lay, const uint8_t *records, size_t bytes, vdr_event_list *events) {
    int64_t made = 0;
    for (size_t next = 0; next < bytes;) {
        const uint8_t *record = records + next;
        const vdr_entry *entry = (const vdr_entry *)(const void *)record;
        next += entry->record_bytes;
        if (entry->type != VDR_TYPE_DIRECTORY || entry->path_bytes == 0) continue;
        place at;
        if (place_find(lay, record, events, &at) != 0) continue;
        int result = mkdirat(at.parent_fd, at.name, 0700);
        if (result != 0 && lay->overwrites && (errno == EPERM || errno == EACCES)) {
            flags_release(at.parent_fd, NULL);
            result = mkdirat(at.parent_fd, at.name, 0700);
        }
        if (result != 0 && errno == EEXIST) {
            struct stat stat;
            if (fstatat(at.parent_fd, at.name, &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(stat.st_mode)) {
                result = 0;
                if (lay->overwrites) flags_release(at.parent_fd, at.name);
            } else if (lay->overwrites) {
                flags_release(at.parent_fd, at.name);
                if (unlinkat(at.parent_fd, at.name, 0) == 0) result = mkdirat(at.parent_fd, at.name, 0700);
            }
        }
        if (result != 0 && is_full(errno)) return VDR_E_IO;
        if (result != 0) place_fail(&at, VDR_EVENT_UNWRITABLE, errno, VDR_DETAIL_NONE);
        made += result == 0;
    }
    return made;
}

static int has_inline_content(const vdr_entry *entry) {
    return entry->type == VDR_TYPE_REGULAR && entry->shared_bytes != VDR_STATE_LINK && (entry->flags & (VDR_FLAG_LIST | VDR_FLAG_UNREADABLE)) == 0;
}

static size_t id_find(const uint8_t *ids, size_t count, const uint8_t *id) {
    /* the newest are the likeliest: neighbours share packs */
    for (size_t i = count; i > 0; i--) {
        if (memcmp(ids + (i - 1) * 32, id, 32) == 0) return i - 1;
    }
    return SIZE_MAX;
}

int64_t vdr_lay_wants(const uint8_t *records, size_t bytes, size_t from, size_t *to, uint8_t *ids, size_t capacity) {
    size_t count = 0;
    size_t next = from;
    while (next < bytes) {
        const vdr_entry *entry = (const vdr_entry *)(const void *)(records + next);
        if (has_inline_content(entry)) {
            const vdr_piece *pieces = vdr_entry_pieces(entry);
            size_t wanted = count;
            for (uint32_t i = 0; i < entry->extent_count; i++) {
                if (pieces[i].offset_bytes == VDR_ENTRY_HOLE || id_find(ids, wanted, pieces[i].id) != SIZE_MAX) continue;
                if (wanted == capacity) {
                    *to = next;
                    return (int64_t)count;
                }
                memcpy(ids + wanted * 32, pieces[i].id, 32);
                wanted++;
            }
            count = wanted;
        }
        next += entry->record_bytes;
    }
    *to = next;
    return (int64_t)count;
}

/* Write the content of a small file. 0, VDR_E_IO, VDR_E_MISSING. */
static int content_write(const vdr_entry *entry, int fd, const uint8_t *ids, const uint8_t *const *chunks, const uint32_t *lengths, size_t count,
                         uint64_t *written_bytes) {
    const vdr_piece *pieces = vdr_entry_pieces(entry);
    uint64_t offset = 0;
    int ends_in_hole = 0;
    for (uint32_t i = 0; i < entry->extent_count; i++) {
        const vdr_piece *piece = &pieces[i];
        ends_in_hole = piece->offset_bytes == VDR_ENTRY_HOLE;
        if (!ends_in_hole) {
            size_t number = id_find(ids, count, piece->id);
            if (number == SIZE_MAX) return VDR_E_MISSING;
            if (piece->offset_bytes > lengths[number] || piece->length_bytes > lengths[number] - piece->offset_bytes) return VDR_E_CORRUPT;
            if (write_all(fd, chunks[number] + piece->offset_bytes, (size_t)piece->length_bytes, offset) != 0) return VDR_E_IO;
            *written_bytes += piece->length_bytes;
        }
        offset += piece->length_bytes;
    }
    if (ends_in_hole && ftruncate(fd, (off_t)offset) != 0) return VDR_E_IO;
    return 0;
}

static int node_create(const place *at, const char *name) {
    const vdr_entry *entry = at->entry;
    char target[VDR_ENTRY_TARGET_BYTES_MAX + 1];
    switch (entry->type) {
    case VDR_TYPE_SYMLINK:
        memcpy(target, at->target, entry->target_bytes);
        target[entry->target_bytes] = 0;
        return symlinkat(target, at->parent_fd, name);
    case VDR_TYPE_FIFO: return mknodat(at->parent_fd, name, S_IFIFO | 0600, 0);
    case VDR_TYPE_SOCKET: return mknodat(at->parent_fd, name, S_IFSOCK | 0600, 0);
    case VDR_TYPE_CHARACTER: return mknodat(at->parent_fd, name, S_IFCHR | 0600, makedev(entry->rdev_major, entry->rdev_minor));
    default: return mknodat(at->parent_fd, name, S_IFBLK | 0600, makedev(entry->rdev_major, entry->rdev_minor));
    }
}

/* Symbolic link, fifo, socket or device. 1, 0 with an event, VDR_E_IO. */
static int node_lay(vdr_lay *lay, const place *at) {
    int result = node_create(at, temporary_next(lay));
    if (result != 0 && lay->overwrites && (errno == EPERM || errno == EACCES)) {
        int error = errno;
        flags_release(at->parent_fd, NULL);
        result = node_create(at, lay->temporary);
        if (result != 0) errno = error;
    }
    if (result != 0) {
        if (is_full(errno)) return VDR_E_IO;
        place_fail(at, VDR_EVENT_UNWRITABLE, errno, VDR_DETAIL_NONE);
        return 0;
    }
    metadata_set_at(at, lay->temporary);
    int error = temporary_name(lay, at);
    if (error == 0) return 1;
    unlinkat(at->parent_fd, lay->temporary, 0);
    place_fail(at, VDR_EVENT_UNWRITABLE, error, VDR_DETAIL_NONE);
    return 0;
}

int64_t vdr_lay_files(vdr_lay *lay, const uint8_t *records, size_t from, size_t to, const uint8_t *ids, const uint8_t *const *chunks,
                      const uint32_t *lengths, size_t count, vdr_event_list *events, uint64_t *written_bytes) {
    int64_t created = 0;
    for (size_t next = from; next < to;) {
        const uint8_t *record = records + next;
        const vdr_entry *entry = (const vdr_entry *)(const void *)record;
        next += entry->record_bytes;
        if (entry->type == VDR_TYPE_DIRECTORY || entry->shared_bytes == VDR_STATE_LINK || (entry->flags & VDR_FLAG_LIST) != 0) continue;
        place at;
        if ((entry->flags & VDR_FLAG_UNREADABLE) != 0) {
            vdr_event_add(events, VDR_EVENT_NOT_KEPT, 0, VDR_DETAIL_NONE, vdr_entry_loose_path(entry), entry->path_bytes);
            continue;
        }
        if (place_find(lay, record, events, &at) != 0) continue;
        if (entry->type != VDR_TYPE_REGULAR) {
            int result = node_lay(lay, &at);
            if (result < 0) return result;
            created += result;
            continue;
        }
        int fd = file_create(lay, &at);
        if (fd < 0) {
            if (is_full(errno)) return VDR_E_IO;
            place_fail(&at, VDR_EVENT_UNWRITABLE, errno, VDR_DETAIL_NONE);
            continue;
        }
        int result = content_write(entry, fd, ids, chunks, lengths, count, written_bytes);
        if (result != 0) {
            int error = errno;
            close(fd);
            unlinkat(at.parent_fd, lay->temporary, 0);
            errno = error;
            if (result != VDR_E_IO || is_full(error)) return result;
            place_fail(&at, VDR_EVENT_UNWRITABLE, error, VDR_DETAIL_NONE);
            continue;
        }
        created += file_finish(lay, &at, fd);
    }
    return created;
}

int vdr_lay_begin(vdr_lay *lay, const uint8_t *record, vdr_event_list *events) {
    place at;
    if (place_find(lay, record, events, &at) != 0) return VDR_E_MISSING;
    int fd = file_create(lay, &at);
    if (fd < 0 || ftruncate(fd, (off_t)at.entry->size_bytes) != 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
            unlinkat(at.parent_fd, lay->temporary, 0);
        }
        errno = error;
        if (is_full(error)) return VDR_E_IO;
        place_fail(&at, VDR_EVENT_UNWRITABLE, error, VDR_DETAIL_NONE);
        return VDR_E_MISSING;
    }
    return fd;
}

int vdr_lay_end(vdr_lay *lay, const uint8_t *record, int fd, int is_good, vdr_event_list *events) {
    place at;
    if (place_find(lay, record, events, &at) != 0) {
        close(fd);
        return 0;
    }
    if (is_good) return file_finish(lay, &at, fd);
    close(fd);
    unlinkat(at.parent_fd, lay->temporary, 0);
    return 0;
}

int vdr_lay_link(vdr_lay *lay, const uint8_t *record, const uint8_t *first, size_t first_bytes, vdr_event_list *events) {
    place at;
    char first_name[256];
    size_t name_at = 0;
    /* the walk remembers one directory, so hold the other's by a descriptor of its own */
    int walked = vdr_dirwalk_parent(lay->walk, first, first_bytes, &name_at);
    int first_fd = walked < 0 || first_bytes - name_at > 255 ? -1 : fcntl(walked, F_DUPFD_CLOEXEC, 0);
    int error = errno;
    if (place_find(lay, record, events, &at) != 0) {
        if (first_fd >= 0) close(first_fd);
        return 0;
    }
    if (first_fd >= 0) {
        memcpy(first_name, first + name_at, first_bytes - name_at);
        first_name[first_bytes - name_at] = 0;
        error = linkat(first_fd, first_name, at.parent_fd, temporary_next(lay), 0) == 0 ? 0 : errno;
        if (error == 0) {
            error = temporary_name(lay, &at);
            /* a rename onto another name of the same file leaves both */
            unlinkat(at.parent_fd, lay->temporary, 0);
        }
        close(first_fd);
    }
    if (error != 0) place_fail(&at, VDR_EVENT_UNWRITABLE, error, VDR_DETAIL_NONE);
    return error == 0;
}

int vdr_lay_flags(vdr_lay *lay, const uint8_t *record, vdr_event_list *events) {
    place at;
    if (place_find(lay, record, events, &at) != 0) return 0;
    int fd = openat(at.parent_fd, at.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        place_fail(&at, VDR_EVENT_UNSET, errno, VDR_DETAIL_FLAGS);
        return 0;
    }
    flags_set(&at, fd);
    close(fd);
    return 1;
}

static void directory_finish(vdr_lay *lay, const uint8_t *record, vdr_event_list *events) {
    place at;
    if (place_find(lay, record, events, &at) != 0) return;
    int fd = openat(at.parent_fd, at.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        place_fail(&at, VDR_EVENT_UNSET, errno, VDR_DETAIL_MODE);
        return;
    }
    metadata_set(&at, fd, 1);
    flags_set(&at, fd);
    close(fd);
}

static int is_beneath(const vdr_entry *directory, const vdr_entry *entry) {
    const uint8_t *above = vdr_entry_loose_path(directory), *path = vdr_entry_loose_path(entry);
    size_t bytes = directory->path_bytes;
    if (bytes == 0) return 1;
    return entry->path_bytes > bytes && path[bytes] == '/' && memcmp(path, above, bytes) == 0;
}

static int open_push(vdr_lay *lay, const vdr_entry *entry) {
    if (lay->open_bytes + entry->record_bytes > lay->open_capacity) {
        size_t capacity = 2 * (lay->open_bytes + entry->record_bytes) + 65536;
        uint8_t *moved = realloc(lay->open, capacity);
        if (moved == NULL) return VDR_E_MEMORY;
        lay->open = moved;
        lay->open_capacity = capacity;
    }
    if (lay->open_count == lay->open_at_capacity) {
        size_t capacity = 2 * lay->open_at_capacity + 64;
        size_t *moved = realloc(lay->open_at, capacity * sizeof *moved);
        if (moved == NULL) return VDR_E_MEMORY;
        lay->open_at = moved;
        lay->open_at_capacity = capacity;
    }
    lay->open_at[lay->open_count++] = lay->open_bytes;
    memcpy(lay->open + lay->open_bytes, entry, entry->record_bytes);
    lay->open_bytes += entry->record_bytes;
    return 0;
}

int64_t vdr_lay_finish(vdr_lay *lay, const uint8_t *records, size_t bytes, int is_end, vdr_event_list *events) {
    int64_t finished = 0;
    for (size_t next = 0; next < bytes || is_end;) {
        const vdr_entry *entry = next < bytes ? (const vdr_entry *)(const void *)(records + next) : NULL;
        if (entry != NULL && entry->type != VDR_TYPE_DIRECTORY) {
            next += entry->record_bytes;
            continue;
        }
        while (lay->open_count > 0) {
            const uint8_t *top = lay->open + lay->open_at[lay->open_count - 1];
            if (entry != NULL && is_beneath((const vdr_entry *)(const void *)top, entry)) break;
            directory_finish(lay, top, events);
            finished++;
            lay->open_count--;
            lay->open_bytes = lay->open_at[lay->open_count];
        }
        if (entry == NULL) break;
        if (open_push(lay, entry) != 0) return VDR_E_MEMORY;
        next += entry->record_bytes;
    }
    return finished;
}

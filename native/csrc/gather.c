#define _GNU_SOURCE
#include "gather.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "blake3.h"
#include "dirwalk.h"
#include "err.h"
#include "scan.h"

#define LIST_BYTES 65536
#define VALUE_BYTES 65536
#define NAMES_MAX 4096
#define TARGET_ROOM 4096
#define EVENTS_ROOM 140000
#define SPARSE_BYTES_MIN 8192

/* Flags that a restore can set again; the others describe how the file system stores the file. */
#define KEPT_INODE_FLAGS                                                                                                        \
    ((uint32_t)(FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | \
                FS_NOCOMP_FL | FS_JOURNAL_DATA_FL | FS_NOTAIL_FL | FS_DIRSYNC_FL | FS_TOPDIR_FL | FS_NOCOW_FL))

struct vdr_gather {
    vdr_dirwalk *walk;
    uint64_t pack_begin; /* where the open pack begins in `data` */
    uint8_t id_key[32];
    uint16_t order[NAMES_MAX];
    char names[LIST_BYTES];
    uint8_t value[VALUE_BYTES];
    uint8_t attributes[VDR_ENTRY_ATTRIBUTE_BYTES_MAX];
};

vdr_gather *vdr_gather_open(int root_fd, const uint8_t id_key[32]) {
    vdr_gather *gather = calloc(1, sizeof *gather);
    if (gather == NULL) return NULL;
    gather->walk = vdr_dirwalk_open(root_fd);
    if (gather->walk == NULL) {
        free(gather);
        return NULL;
    }
    memcpy(gather->id_key, id_key, 32);
    return gather;
}

void vdr_gather_close(vdr_gather *gather) {
    if (gather == NULL) return;
    vdr_dirwalk_close(gather->walk);
    free(gather);
}

/* One entry on its way. */
typedef struct {
    const vdr_entry *in;
    const uint8_t *path;
    vdr_entry entry;
    int parent_fd;
    char name[256];
    size_t target_bytes;
    size_t attribute_bytes;
    char target[TARGET_ROOM + 1];
} subject;

static int name_order(const void *left, const void *right, void *names) {
    return strcmp((const char *)names + *(const uint16_t *)left, (const char *)names + *(const uint16_t *)right);
}

/* Extended attributes of `fd`, or of `path` without following when fd < 0, as the entry's attribute block. */
static void attributes_read(vdr_gather *gather, subject *one, int fd, const char *path, vdr_event_list *events) {
    one->attribute_bytes = 0;
    ssize_t list_bytes = fd >= 0 ? flistxattr(fd, gather->names, LIST_BYTES) : llistxattr(path, gather->names, LIST_BYTES);
    if (list_bytes == 0) return;
    if (list_bytes < 0) {
        if (errno != ENOTSUP && errno != ENODATA) vdr_event_add(events, VDR_EVENT_UNREADABLE, errno, VDR_DETAIL_ATTRIBUTES, one->path, one->in->path_bytes);
        return;
    }
    size_t count = 0;
    for (size_t at = 0; at < (size_t)list_bytes && count < NAMES_MAX; at += strlen(gather->names + at) + 1) gather->order[count++] = (uint16_t)at;
    qsort_r(gather->order, count, sizeof gather->order[0], name_order, gather->names);
    for (size_t i = 0; i < count; i++) {
        const char *name = gather->names + gather->order[i];
        size_t name_bytes = strlen(name);
        if (name_bytes == 0 || name_bytes > 255) continue;
        ssize_t value_bytes = fd >= 0 ? fgetxattr(fd, name, gather->value, VALUE_BYTES) : lgetxattr(path, name, gather->value, VALUE_BYTES);
        if (value_bytes < 0) {
            if (errno != ENODATA) vdr_event_add(events, VDR_EVENT_UNREADABLE, errno, VDR_DETAIL_ATTRIBUTES, one->path, one->in->path_bytes);
            continue;
        }
        if (6 + name_bytes + (size_t)value_bytes > VDR_ENTRY_ATTRIBUTE_BYTES_MAX - one->attribute_bytes) {
            vdr_event_add(events, VDR_EVENT_TOO_LONG, 0, VDR_DETAIL_ATTRIBUTES, one->path, one->in->path_bytes);
            return;
        }
        uint8_t *out = gather->attributes + one->attribute_bytes;
        uint16_t short_bytes = (uint16_t)name_bytes;
        uint32_t long_bytes = (uint32_t)value_bytes;
        memcpy(out, &short_bytes, 2);
        memcpy(out + 2, &long_bytes, 4);
        memcpy(out + 6, name, name_bytes);
        memcpy(out + 6 + name_bytes, gather->value, (size_t)value_bytes);
        one->attribute_bytes += 6 + name_bytes + (size_t)value_bytes;
    }
}

/* The same for what cannot be opened; the directory is held, so its last component is all that a rename can change. */
static void attributes_read_at(vdr_gather *gather, subject *one, vdr_event_list *events) {
    char path[300];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", one->parent_fd, one->name);
    attributes_read(gather, one, -1, path, events);
}

static void inode_flags_read(int fd, vdr_entry *entry) {
    int flags = 0;
    entry->inode_flags = ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 ? (uint32_t)flags & KEPT_INODE_FLAGS : 0;
}

static int is_same_stat(const vdr_entry *a, const vdr_entry *b) {
    return a->size_bytes == b->size_bytes && a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s &&
           a->ctime_ns == b->ctime_ns && a->inode == b->inode && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor;
}

/* Take the stat data of `now`, keeping what stat does not know. */
static void stat_take(vdr_entry *entry, const vdr_entry *now) {
    vdr_entry before = *entry;
    *entry = *now;
    entry->record_bytes = before.record_bytes;
    entry->shared_bytes = before.shared_bytes;
    entry->path_bytes = before.path_bytes;
    entry->flags = before.flags;
    entry->inode_flags = before.inode_flags;
    entry->target_bytes = before.target_bytes;
    entry->attribute_bytes = before.attribute_bytes;
    entry->extent_count = before.extent_count;
    memcpy(entry->content_hash, before.content_hash, sizeof before.content_hash);
}

int vdr_gather_refresh(int fd, uint8_t *record) {
    struct statx stat;
    vdr_entry now, *entry = (vdr_entry *)(void *)record;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stat) != 0) return VDR_E_IO;
    vdr_scan_fill(&now, &stat);
    int is_same = is_same_stat(entry, &now);
    stat_take(entry, &now);
    return !is_same;
}

static int subject_open(const subject *one, int flags) {
    flags |= O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = openat(one->parent_fd, one->name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) fd = openat(one->parent_fd, one->name, flags);
    return fd;
}

/* Bytes at the front of the file, at most `limit`, or -1. */
static ssize_t content_read(int fd, uint8_t *out, size_t limit) {
    size_t bytes = 0;
    while (bytes < limit) {
        ssize_t got = pread(fd, out + bytes, limit - bytes, (off_t)bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        bytes += (size_t)got;
    }
    return (ssize_t)bytes;
}

static int64_t record_put(vdr_gather *gather, vdr_gather_io *io, subject *one, vdr_entry_state state, const vdr_piece *piece) {
    uint8_t *out = io->out + io->out_used;
    size_t pieces_bytes = piece != NULL ? VDR_ENTRY_PIECE_BYTES : 0;
    size_t at = VDR_ENTRY_FIXED_BYTES + pieces_bytes;
    size_t end = at + one->in->path_bytes + one->target_bytes + one->attribute_bytes;
    one->entry.shared_bytes = (uint16_t)state;
    one->entry.extent_count = piece != NULL;
    one->entry.path_bytes = one->in->path_bytes;
    one->entry.target_bytes = (uint32_t)one->target_bytes;
    one->entry.attribute_bytes = (uint32_t)one->attribute_bytes;
    one->entry.record_bytes = (uint32_t)vdr_entry_pad(end);
    memcpy(out, &one->entry, VDR_ENTRY_FIXED_BYTES);
    if (piece != NULL) memcpy(out + VDR_ENTRY_FIXED_BYTES, piece, pieces_bytes);
    memcpy(out + at, one->path, one->in->path_bytes);
    at += one->in->path_bytes;
    memcpy(out + at, one->target, one->target_bytes);
    memcpy(out + at + one->target_bytes, gather->attributes, one->attribute_bytes);
    memset(out + end, 0, one->entry.record_bytes - end);
    io->out_used += one->entry.record_bytes;
    return one->entry.record_bytes;
}

static void pack_end(vdr_gather *gather, vdr_gather_io *io) {
    if (io->data_used > gather->pack_begin) {
        io->pack_offsets[io->pack_count] = gather->pack_begin;
        io->pack_lengths[io->pack_count] = (uint32_t)(io->data_used - gather->pack_begin);
        io->pack_count++;
    }
    gather->pack_begin = io->data_used;
}

static int is_gone(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENXIO || error == ENODEV; }

/* The file could not be opened or read. Vanished ones are left out, others stay as an entry without content. */
static void give_up(vdr_gather *gather, vdr_gather_io *io, subject *one, int error, vdr_event_list *events) {
    if (is_gone(error)) {
        vdr_event_add(events, VDR_EVENT_VANISHED, error, VDR_DETAIL_NONE, one->path, one->in->path_bytes);
        return;
    }
    vdr_event_add(events, VDR_EVENT_UNREADABLE, error, VDR_DETAIL_NONE, one->path, one->in->path_bytes);
    one->entry.flags |= VDR_FLAG_UNREADABLE;
    if (one->entry.type == VDR_TYPE_SYMLINK) return; /* without its target it is nothing */
    memset(one->entry.content_hash, 0, sizeof one->entry.content_hash);
    record_put(gather, io, one, VDR_STATE_DONE, NULL);
}

/* A regular file. Returns 1 when it was handed over as large (its descriptor stays open in io->large_fd), else 0. */
static int regular_take(vdr_gather *gather, vdr_gather_io *io, subject *one, vdr_event_list *events) {
    int fd = subject_open(one, 0);
    if (fd < 0) {
        give_up(gather, io, one, errno, events);
        return 0;
    }
    int is_large = 0, is_stable = 0;
    ssize_t bytes = 0;
    uint8_t *content = io->data + io->data_used;
    for (int attempt = 0; attempt < VDR_GATHER_ATTEMPTS && !is_stable && !is_large; attempt++) {
        struct statx stat;
        vdr_entry now = {.type = VDR_TYPE_REGULAR};
        if (one->entry.size_bytes <= VDR_PACK_FILE_BYTES_MAX) {
            size_t limit = (size_t)one->entry.size_bytes + 1; /* one more shows that it has grown */
            bytes = content_read(fd, content, limit);
            if (bytes > 0) io->read_bytes += (uint64_t)bytes;
        }
        int error = bytes < 0 ? errno : 0;
        if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stat) != 0) error = errno;
        else vdr_scan_fill(&now, &stat);
        /* a fifo or device in the file's place cannot be read at an offset: the file is gone */
        if (now.type != VDR_TYPE_REGULAR) error = ENOENT;
        if (error != 0) {
            close(fd);
            give_up(gather, io, one, error, events);
            return 0;
        }
        int is_sparse = stat.stx_size >= SPARSE_BYTES_MIN && stat.stx_blocks * 512 < stat.stx_size;
        is_large = now.size_bytes > VDR_PACK_FILE_BYTES_MAX || is_sparse;
        is_stable = is_same_stat(&one->entry, &now) && (uint64_t)bytes == now.size_bytes;
        stat_take(&one->entry, &now);
    }
    attributes_read(gather, one, fd, NULL, events);
    inode_flags_read(fd, &one->entry);
    if (is_large) {
        memset(one->entry.content_hash, 0, sizeof one->entry.content_hash);
        io->large_at = io->out_used;
        io->large_fd = fd;
        record_put(gather, io, one, VDR_STATE_LARGE, NULL);
        return 1;
    }
    close(fd);
    if (!is_stable) {
        if ((uint64_t)bytes > VDR_PACK_FILE_BYTES_MAX) bytes = VDR_PACK_FILE_BYTES_MAX;
        one->entry.size_bytes = (uint64_t)bytes;
        one->entry.flags |= VDR_FLAG_UNSTABLE;
        vdr_event_add(events, VDR_EVENT_UNSTABLE, 0, VDR_DETAIL_NONE, one->path, one->in->path_bytes);
    }
    static const uint8_t no_hash[16] = {0};
    if (bytes == 0) {
        memset(one->entry.content_hash, 0, sizeof one->entry.content_hash);
        record_put(gather, io, one, VDR_STATE_DONE, NULL);
        return 0;
    }
    uint8_t hash[32];
    vdr_blake3_keyed(gather->id_key, content, (size_t)bytes, hash);
    const vdr_piece *old = one->in->extent_count == 1 ? vdr_entry_pieces(one->in) : NULL;
    if (old != NULL && old->length_bytes == (uint64_t)bytes && memcmp(one->in->content_hash, hash, 16) == 0 && memcmp(hash, no_hash, 16) != 0) {
        vdr_piece kept = *old;
        record_put(gather, io, one, VDR_STATE_DONE, &kept);
        return 0;
    }
    vdr_piece piece = {.length_bytes = (uint64_t)bytes, .offset_bytes = (uint32_t)(io->data_used - gather->pack_begin)};
    uint32_t pack = (uint32_t)io->pack_count;
    memcpy(piece.id, &pack, 4);
    memcpy(one->entry.content_hash, hash, 16);
    io->data_used += (size_t)bytes;
    record_put(gather, io, one, VDR_STATE_PACKED, &piece);
    return 0;
}

static void directory_take(vdr_gather *gather, vdr_gather_io *io, subject *one, vdr_event_list *events) {
    int fd = subject_open(one, O_DIRECTORY);
    if (fd >= 0) {
        attributes_read(gather, one, fd, NULL, events);
        inode_flags_read(fd, &one->entry);
        close(fd);
    } else if (is_gone(errno)) {
        /* the entry stays: what was found in it needs it */
        vdr_event_add(events, VDR_EVENT_VANISHED, errno, VDR_DETAIL_NONE, one->path, one->in->path_bytes);
    } else {
        attributes_read_at(gather, one, events);
    }
    record_put(gather, io, one, VDR_STATE_DONE, NULL);
}

static void symlink_take(vdr_gather *gather, vdr_gather_io *io, subject *one, vdr_event_list *events) {
    ssize_t bytes = readlinkat(one->parent_fd, one->name, one->target, TARGET_ROOM);
    if (bytes <= 0) {
        int error = bytes == 0 || errno == EINVAL ? ENOENT : errno;
        if (!is_gone(error)) {
            vdr_event_add(events, VDR_EVENT_UNREADABLE, error, VDR_DETAIL_NONE, one->path, one->in->path_bytes);
            return;
        }
        give_up(gather, io, one, error, events);
        return;
    }
    one->target_bytes = (size_t)bytes;
    attributes_read_at(gather, one, events);
    record_put(gather, io, one, VDR_STATE_DONE, NULL);
}

int vdr_gather_step(vdr_gather *gather, vdr_gather_io *io, vdr_event_list *events) {
    if (io->data_used == 0) gather->pack_begin = 0;
    subject one;
    while (io->batch_used < io->batch_bytes) {
        one.in = (const vdr_entry *)(const void *)(io->batch + io->batch_used);
        uint16_t state = one.in->shared_bytes;
        if (io->out_bytes - io->out_used < VDR_ENTRY_BYTES_MAX || io->data_bytes - io->data_used < VDR_PACK_FILE_BYTES_MAX + 1 ||
            io->pack_count + 2 > io->pack_capacity || events->capacity - events->bytes < EVENTS_ROOM) {
            pack_end(gather, io);
            return VDR_GATHER_FULL;
        }
        io->batch_used += one.in->record_bytes;
        if (state != VDR_STATE_READ && state != VDR_STATE_READ_END) {
            memcpy(io->out + io->out_used, one.in, one.in->record_bytes);
            io->out_used += one.in->record_bytes;
            continue;
        }
        one.path = vdr_entry_loose_path(one.in);
        one.entry = *one.in;
        one.target_bytes = 0;
        one.attribute_bytes = 0;
        size_t name_at = 0;
        one.parent_fd = vdr_dirwalk_parent(gather->walk, one.path, one.in->path_bytes, &name_at);
        size_t name_bytes = one.in->path_bytes - name_at;
        int is_large = 0;
        if (one.parent_fd < 0 || name_bytes > 255) {
            give_up(gather, io, &one, one.parent_fd < 0 ? errno : ENAMETOOLONG, events);
        } else {
            memcpy(one.name, one.path + name_at, name_bytes);
            one.name[name_bytes] = 0;
            if (name_bytes == 0) memcpy(one.name, ".", 2);
            switch (one.in->type) {
            case VDR_TYPE_REGULAR: is_large = regular_take(gather, io, &one, events); break;
            case VDR_TYPE_DIRECTORY: directory_take(gather, io, &one, events); break;
            case VDR_TYPE_SYMLINK: symlink_take(gather, io, &one, events); break;
            default:
                attributes_read_at(gather, &one, events);
                record_put(gather, io, &one, VDR_STATE_DONE, NULL);
            }
        }
        if (state == VDR_STATE_READ_END) pack_end(gather, io);
        if (is_large) return VDR_GATHER_LARGE;
    }
    pack_end(gather, io);
    return VDR_GATHER_END;
}

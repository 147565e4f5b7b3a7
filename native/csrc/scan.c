#define _GNU_SOURCE
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "err.h"

#define OWNERS_MAX 4096
#define OPEN_FRAMES 128 /* directories kept open on the way down; deeper ones are reopened through ".." */
#define LIST_BYTES 65536
#define EVENTS_ROOM 70000

/* What getdents64 writes; the kernel's own layout. */
struct listed {
    uint64_t inode;
    int64_t offset;
    uint16_t record_bytes;
    uint8_t type;
    char name[];
};

typedef struct {
    uint64_t key; /* first 8 bytes, big-endian: decides most comparisons */
    uint64_t at;  /* in `names` */
} name_ref;

typedef struct {
    int fd; /* -1 while closed to save descriptors */
    uint32_t path_bytes;
    int is_included; /* it or a directory above matches an include pattern */
    int is_emitted;
    size_t refs_begin; /* its names: refs[next..refs_end) are still to come */
    size_t next;
    size_t refs_end;
    size_t names_begin;
    vdr_entry entry;
} frame;

typedef struct {
    uint32_t ids[OWNERS_MAX];
    size_t count;
} owner_set;

struct vdr_scan {
    int root_fd;
    int crosses;
    int has_includes;
    int is_started;
    uint8_t *rules;
    size_t rules_bytes;
    vdr_scan_skip *skips;
    size_t skip_count;
    frame *frames;
    size_t depth, frames_capacity;
    char *names;
    size_t names_bytes, names_capacity;
    name_ref *refs;
    size_t refs_count, refs_capacity;
    owner_set uids, gids;
    uint8_t path[VDR_ENTRY_PATH_BYTES_MAX + 257];
    _Alignas(8) char listing[LIST_BYTES];
};

vdr_scan *vdr_scan_open(int root_fd, const uint8_t *rules, size_t rules_bytes, int crosses, const vdr_scan_skip *skips, size_t skip_count) {
    if (vdr_glob_any(rules, rules_bytes, VDR_GLOB_INCLUDE, (const uint8_t *)"", 0, 0) < 0) return NULL;
    vdr_scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL) return NULL;
    scan->root_fd = root_fd;
    scan->crosses = crosses;
    scan->rules = malloc(rules_bytes + 1);
    scan->skips = calloc(skip_count + 1, sizeof *skips);
    if (scan->rules == NULL || scan->skips == NULL) {
        vdr_scan_close(scan);
        return NULL;
    }
    if (rules_bytes > 0) memcpy(scan->rules, rules, rules_bytes);
    scan->rules_bytes = rules_bytes;
    if (skip_count > 0) memcpy(scan->skips, skips, skip_count * sizeof *skips);
    scan->skip_count = skip_count;
    for (size_t at = 0; at < rules_bytes; at += 3u + rules[at + 1] + ((size_t)rules[at + 2] << 8)) {
        if (rules[at] == VDR_GLOB_INCLUDE) scan->has_includes = 1;
    }
    return scan;
}

void vdr_scan_close(vdr_scan *scan) {
    if (scan == NULL) return;
    for (size_t i = 0; i < scan->depth; i++) {
        if (scan->frames[i].fd >= 0 && scan->frames[i].fd != scan->root_fd) close(scan->frames[i].fd);
    }
    free(scan->rules);
    free(scan->skips);
    free(scan->frames);
    free(scan->names);
    free(scan->refs);
    free(scan);
}

static void owner_add(owner_set *set, uint32_t id) {
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->ids[middle] < id) low = middle + 1;
        else high = middle;
    }
    if ((low < set->count && set->ids[low] == id) || set->count == OWNERS_MAX) return;
    memmove(&set->ids[low + 1], &set->ids[low], (set->count - low) * sizeof(uint32_t));
    set->ids[low] = id;
    set->count++;
}

size_t vdr_scan_owners(const vdr_scan *scan, int is_group, uint32_t *out, size_t capacity) {
    const owner_set *set = is_group ? &scan->gids : &scan->uids;
    size_t count = set->count < capacity ? set->count : capacity;
    memcpy(out, set->ids, count * sizeof(uint32_t));
    return count;
}

int vdr_scan_is_pseudo(int fd) {
    static const uint32_t pseudo[] = {
        0x9fa0,     /* proc */
        0x62656572, /* sysfs */
        0x1cd1,     /* devpts */
        0x27e0eb,   /* cgroup */
        0x63677270, /* cgroup2 */
        0x64626720, /* debugfs */
        0x74726163, /* tracefs */
        0x73636673, /* securityfs */
        0x6165676c, /* pstore */
        0xcafe4a11, /* bpf */
        0x62656570, /* configfs */
        0x19800202, /* mqueue */
        0x958458f6, /* hugetlbfs */
        0x187,      /* autofs */
        0xf97cff8c, /* selinuxfs */
        0xde5e81e4, /* efivarfs */
        0x42494e4d, /* binfmt_misc */
        0x6e736673, /* nsfs */
        0x67596969, /* rpc_pipefs */
    };
    struct statfs info;
    if (fstatfs(fd, &info) != 0) return VDR_E_IO;
    for (size_t i = 0; i < sizeof pseudo / sizeof *pseudo; i++) {
        if ((uint32_t)info.f_type == pseudo[i]) return 1;
    }
    return 0;
}

static int ref_compare(const void *left, const void *right, void *names) {
    const name_ref *a = left, *b = right;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return strcmp((const char *)names + a->at, (const char *)names + b->at);
}

static int grow(void **array, size_t *capacity, size_t wanted, size_t item_bytes) {
    if (wanted <= *capacity) return 0;
    size_t bigger = *capacity == 0 ? 4096 : *capacity;
    while (bigger < wanted) bigger += bigger / 2;
    void *moved = realloc(*array, bigger * item_bytes);
    if (moved == NULL) return VDR_E_MEMORY;
    *array = moved;
    *capacity = bigger;
    return 0;
}

/* Read all names of the open directory into the arenas, sorted. 0, VDR_E_MEMORY, or VDR_E_IO with what was read so far kept. */
static int names_read(vdr_scan *scan, frame *top) {
    top->names_begin = scan->names_bytes;
    top->refs_begin = top->next = top->refs_end = scan->refs_count;
    int result = 0;
    for (;;) {
        long bytes = syscall(SYS_getdents64, top->fd, scan->listing, LIST_BYTES);
        if (bytes < 0 && errno == EINTR) continue;
        if (bytes < 0) result = VDR_E_IO;
        if (bytes <= 0) break;
        for (long at = 0; at < bytes;) {
            const struct listed *item = (const struct listed *)(const void *)(scan->listing + at);
            at += item->record_bytes;
            size_t name_bytes = strlen(item->name);
            if (name_bytes == 0 || (item->name[0] == '.' && (name_bytes == 1 || (name_bytes == 2 && item->name[1] == '.')))) continue;
            if (grow((void **)&scan->names, &scan->names_capacity, scan->names_bytes + name_bytes + 1, 1) != 0 ||
                grow((void **)&scan->refs, &scan->refs_capacity, scan->refs_count + 1, sizeof(name_ref)) != 0)
                return VDR_E_MEMORY;
            uint64_t key = 0;
            for (size_t i = 0; i < 8; i++) key = key << 8 | (i < name_bytes ? (uint8_t)item->name[i] : 0);
            scan->refs[scan->refs_count++] = (name_ref){key, scan->names_bytes};
            memcpy(scan->names + scan->names_bytes, item->name, name_bytes + 1);
            scan->names_bytes += name_bytes + 1;
        }
    }
    int saved = errno;
    top->refs_end = scan->refs_count;
    if (scan->refs_count > top->refs_begin)
        qsort_r(scan->refs + top->refs_begin, scan->refs_count - top->refs_begin, sizeof(name_ref), ref_compare, scan->names);
    errno = saved;
    return result;
}

static int entry_type_of(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return VDR_TYPE_REGULAR;
    case S_IFDIR: return VDR_TYPE_DIRECTORY;
    case S_IFLNK: return VDR_TYPE_SYMLINK;
    case S_IFIFO: return VDR_TYPE_FIFO;
    case S_IFSOCK: return VDR_TYPE_SOCKET;
    case S_IFCHR: return VDR_TYPE_CHARACTER;
    case S_IFBLK: return VDR_TYPE_BLOCK;
    default: return 0;
    }
}

void vdr_scan_fill(vdr_entry *entry, const struct statx *stat) {
    memset(entry, 0, sizeof *entry);
    entry->type = (uint8_t)entry_type_of(stat->stx_mode);
    entry->mode = stat->stx_mode & 07777;
    entry->uid = stat->stx_uid;
    entry->gid = stat->stx_gid;
    entry->mtime_s = stat->stx_mtime.tv_sec;
    entry->mtime_ns = stat->stx_mtime.tv_nsec;
    entry->ctime_s = stat->stx_ctime.tv_sec;
    entry->ctime_ns = stat->stx_ctime.tv_nsec;
    entry->inode = stat->stx_ino;
    entry->dev_major = stat->stx_dev_major;
    entry->dev_minor = stat->stx_dev_minor;
    entry->nlink = stat->stx_nlink;
    if (entry->type == VDR_TYPE_REGULAR) entry->size_bytes = stat->stx_size;
    if (entry->type == VDR_TYPE_DIRECTORY || entry->nlink == 0) entry->nlink = 1;
    if (entry->type == VDR_TYPE_CHARACTER || entry->type == VDR_TYPE_BLOCK) {
        entry->rdev_major = stat->stx_rdev_major;
        entry->rdev_minor = stat->stx_rdev_minor;
    }
}

static int64_t record_write(const vdr_entry *entry, const uint8_t *path, size_t path_bytes, uint8_t *out, size_t capacity) {
    size_t end = VDR_ENTRY_FIXED_BYTES + path_bytes + entry->target_bytes;
    size_t record_bytes = vdr_entry_pad(end);
    if (record_bytes > capacity) return VDR_E_SPACE;
    memcpy(out, entry, VDR_ENTRY_FIXED_BYTES);
    memset(out + end, 0, record_bytes - end);
    memcpy(out + VDR_ENTRY_FIXED_BYTES, path, path_bytes);
    vdr_entry *record = (vdr_entry *)(void *)out;
    record->record_bytes = (uint32_t)record_bytes;
    record->path_bytes = (uint16_t)path_bytes;
    if (entry->target_bytes != 0) out[VDR_ENTRY_FIXED_BYTES + path_bytes] = '?'; /* the target is read later */
    return (int64_t)record_bytes;
}

/* Write the directories above that wait for a first entry beneath them. 0 or VDR_E_SPACE; those written stay written. */
static int ancestors_write(vdr_scan *scan, uint8_t *out, size_t capacity, size_t *written) {
    size_t first = scan->depth;
    while (first > 0 && !scan->frames[first - 1].is_emitted) first--;
    for (size_t i = first; i < scan->depth; i++) {
        frame *above = &scan->frames[i];
        int64_t bytes = record_write(&above->entry, scan->path, above->path_bytes, out + *written, capacity - *written);
        if (bytes < 0) return (int)bytes;
        *written += (size_t)bytes;
        above->is_emitted = 1;
    }
    return 0;
}

static int is_skipped(const vdr_scan *scan, const vdr_entry *entry) {
    for (size_t i = 0; i < scan->skip_count; i++) {
        const vdr_scan_skip *skip = &scan->skips[i];
        if (skip->inode == entry->inode && skip->dev_major == entry->dev_major && skip->dev_minor == entry->dev_minor) return 1;
    }
    return 0;
}

static int is_other_file_system(const frame *parent, const struct statx *stat) {
    return stat->stx_dev_major != parent->entry.dev_major || stat->stx_dev_minor != parent->entry.dev_minor ||
           (stat->stx_attributes & stat->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0;
}

#define STAT_MASK (STATX_BASIC_STATS)
#define STAT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)

/* Open the directory `name` in `parent` and list it into a new top frame. The frame is pushed even when nothing can be read; its
 * entry then carries VDR_FLAG_UNREADABLE. 1 pushed, 0 vanished or replaced, VDR_E_MEMORY. */
static int frame_push(vdr_scan *scan, const char *name, const vdr_entry *entry, size_t path_bytes, int is_included, int is_entered, vdr_event_list *events) {
    if (grow((void **)&scan->frames, &scan->frames_capacity, scan->depth + 1, sizeof(frame)) != 0) return VDR_E_MEMORY;
    frame *top = &scan->frames[scan->depth];
    *top = (frame){.fd = -1, .path_bytes = (uint32_t)path_bytes, .is_included = is_included, .entry = *entry, .names_begin = scan->names_bytes};
    top->refs_begin = top->next = top->refs_end = scan->refs_count;
    if (!is_entered) {
        scan->depth++;
        return 1;
    }
    int parent_fd = scan->depth > 0 ? scan->frames[scan->depth - 1].fd : -1;
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    if (parent_fd < 0) {
        top->fd = scan->root_fd;
    } else {
        top->fd = openat(parent_fd, name, flags | O_NOATIME);
        if (top->fd < 0 && errno == EPERM) top->fd = openat(parent_fd, name, flags);
    }
    int error = 0;
    if (top->fd < 0) {
        error = errno;
        if (error == ENOENT || error == ENOTDIR || error == ELOOP) {
            vdr_event_add(events, VDR_EVENT_VANISHED, error, VDR_DETAIL_NONE, scan->path, path_bytes);
            return 0;
        }
    } else {
        struct statx stat;
        if (statx(top->fd, "", AT_EMPTY_PATH, STAT_MASK, &stat) != 0) error = errno;
        else if (stat.stx_ino != entry->inode || stat.stx_dev_major != entry->dev_major || stat.stx_dev_minor != entry->dev_minor) {
            /* another directory took its place, or a mount: what was looked at is gone */
            if (top->fd != scan->root_fd) close(top->fd);
            vdr_event_add(events, VDR_EVENT_VANISHED, 0, VDR_DETAIL_NONE, scan->path, path_bytes);
            return 0;
        } else {
            int result = names_read(scan, top);
            if (result == VDR_E_MEMORY) return result;
            if (result == VDR_E_IO) error = errno;
        }
    }
    if (error != 0) {
        top->entry.flags |= VDR_FLAG_UNREADABLE;
        vdr_event_add(events, VDR_EVENT_UNREADABLE, error, VDR_DETAIL_NONE, scan->path, path_bytes);
    }
    scan->depth++;
    if (scan->depth > OPEN_FRAMES) {
        frame *old = &scan->frames[scan->depth - OPEN_FRAMES];
        if (old->fd >= 0 && old->fd != scan->root_fd) {
            close(old->fd);
            old->fd = -1;
        }
    }
    return 1;
}

/* Leave the top directory; reopen the one above if it had been closed. 0, or VDR_E_IO when it is not found again: its remaining
 * names are then given up. */
static void frame_pop(vdr_scan *scan, vdr_event_list *events) {
    frame *top = &scan->frames[scan->depth - 1];
    scan->names_bytes = top->names_begin;
    scan->refs_count = top->refs_begin;
    scan->depth--;
    if (scan->depth > 0) {
        frame *below = &scan->frames[scan->depth - 1];
        if (below->fd < 0 && below->next < below->refs_end) {
            struct statx stat;
            int error = 0;
            below->fd = top->fd >= 0 ? openat(top->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
            if (below->fd < 0 || statx(below->fd, "", AT_EMPTY_PATH, STAT_MASK, &stat) != 0) error = errno;
            else if (stat.stx_ino != below->entry.inode || stat.stx_dev_major != below->entry.dev_major || stat.stx_dev_minor != below->entry.dev_minor)
                error = ESTALE;
            if (error != 0) {
                below->next = below->refs_end;
                vdr_event_add(events, VDR_EVENT_UNREADABLE, error, VDR_DETAIL_NONE, scan->path, below->path_bytes);
            }
        } else if (below->fd < 0 && top->fd >= 0 && scan->depth > 1) {
            /* nothing left here, but the way up leads through it */
            below->fd = openat(top->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
    }
    if (top->fd >= 0 && top->fd != scan->root_fd) close(top->fd);
}

static int root_push(vdr_scan *scan, vdr_event_list *events) {
    struct statx stat;
    vdr_entry entry;
    if (statx(scan->root_fd, "", AT_EMPTY_PATH, STAT_MASK, &stat) != 0) return VDR_E_IO;
    vdr_scan_fill(&entry, &stat);
    if (entry.type != VDR_TYPE_DIRECTORY) {
        errno = ENOTDIR;
        return VDR_E_IO;
    }
    if (lseek(scan->root_fd, 0, SEEK_SET) < 0) return VDR_E_IO;
    owner_add(&scan->uids, entry.uid);
    owner_add(&scan->gids, entry.gid);
    int result = frame_push(scan, "", &entry, 0, 0, 1, events);
    if (result < 0) return result;
    scan->is_started = 1;
    return 0;
}

/* Handle the next name of the top directory. 0 done, VDR_E_SPACE (nothing was consumed), VDR_E_MEMORY. */
static int name_take(vdr_scan *scan, uint8_t *out, size_t capacity, size_t *written, vdr_event_list *events) {
    frame *top = &scan->frames[scan->depth - 1];
    const char *name = scan->names + scan->refs[top->next].at;
    size_t name_bytes = strlen(name);
    size_t path_bytes = top->path_bytes;
    if (path_bytes > 0) scan->path[path_bytes++] = '/';
    if (path_bytes + name_bytes > VDR_ENTRY_PATH_BYTES_MAX) {
        vdr_event_add(events, VDR_EVENT_TOO_LONG, 0, VDR_DETAIL_NONE, scan->path, top->path_bytes);
        top->next++;
        return 0;
    }
    memcpy(scan->path + path_bytes, name, name_bytes);
    path_bytes += name_bytes;
    struct statx stat;
    if (statx(top->fd, name, STAT_FLAGS, STAT_MASK, &stat) != 0) {
        vdr_event_kind kind = errno == ENOENT ? VDR_EVENT_VANISHED : VDR_EVENT_UNREADABLE;
        vdr_event_add(events, kind, errno, VDR_DETAIL_NONE, scan->path, path_bytes);
        top->next++;
        return 0;
    }
    vdr_entry entry;
    vdr_scan_fill(&entry, &stat);
    int is_directory = entry.type == VDR_TYPE_DIRECTORY;
    int is_included = !scan->has_includes || top->is_included;
    if (scan->rules_bytes > 0) {
        if (vdr_glob_any(scan->rules, scan->rules_bytes, VDR_GLOB_EXCLUDE, scan->path, path_bytes, is_directory) == 1) {
            top->next++;
            return 0;
        }
        if (!is_included) is_included = vdr_glob_any(scan->rules, scan->rules_bytes, VDR_GLOB_INCLUDE, scan->path, path_bytes, is_directory) == 1;
    }
    if (entry.type == 0 || (!is_included && !is_directory)) {
        top->next++;
        return 0;
    }
    if (is_directory && is_skipped(scan, &entry)) {
        vdr_event_add(events, VDR_EVENT_SKIPPED, 0, VDR_DETAIL_NONE, scan->path, path_bytes);
        top->next++;
        return 0;
    }
    if (is_included) {
        int result = ancestors_write(scan, out, capacity, written);
        if (result < 0) return result;
        /* a link's target is at most PATH_MAX long and read later; the placeholder keeps the record well formed */
        if (entry.type == VDR_TYPE_SYMLINK) entry.target_bytes = 1;
        int64_t bytes = record_write(&entry, scan->path, path_bytes, out + *written, capacity - *written);
        if (bytes < 0) return (int)bytes;
        owner_add(&scan->uids, entry.uid);
        owner_add(&scan->gids, entry.gid);
        if (!is_directory) *written += (size_t)bytes; /* a directory's is written when it has been opened */
    }
    top->next++;
    if (!is_directory) return 0;
    int is_entered = 1;
    if (is_other_file_system(top, &stat)) {
        if (!scan->crosses) {
            is_entered = 0;
            entry.flags |= VDR_FLAG_UNCROSSED;
            vdr_event_add(events, VDR_EVENT_UNCROSSED, 0, VDR_DETAIL_NONE, scan->path, path_bytes);
        } else {
            int fd = openat(top->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (fd >= 0 && vdr_scan_is_pseudo(fd) == 1) {
                is_entered = 0;
                entry.flags |= VDR_FLAG_UNCROSSED;
                vdr_event_add(events, VDR_EVENT_SKIPPED, 0, VDR_DETAIL_NONE, scan->path, path_bytes);
            }
            if (fd >= 0) close(fd);
        }
    }
    int pushed = frame_push(scan, name, &entry, path_bytes, is_included && scan->has_includes, is_entered, events);
    if (pushed < 0) return pushed;
    if (pushed == 1 && is_included) return ancestors_write(scan, out, capacity, written) < 0 ? VDR_E_CORRUPT : 0;
    return 0;
}

int vdr_scan_is_end(const vdr_scan *scan) { return scan->is_started && scan->depth == 0; }

int64_t vdr_scan_next(vdr_scan *scan, uint8_t *out, size_t capacity, vdr_event_list *events) {
    size_t written = 0;
    if (!scan->is_started) {
        int result = root_push(scan, events);
        if (result < 0) return result;
        if (ancestors_write(scan, out, capacity, &written) < 0) return VDR_E_SPACE;
    }
    while (scan->depth > 0 && events->capacity - events->bytes >= EVENTS_ROOM) {
        frame *top = &scan->frames[scan->depth - 1];
        if (top->next >= top->refs_end) {
            frame_pop(scan, events);
            continue;
        }
        int result = name_take(scan, out, capacity, &written, events);
        if (result == VDR_E_SPACE) {
            if (written == 0) return result;
            break;
        }
        if (result < 0) return result;
    }
    return (int64_t)written;
}

/* A file system over a directory that writes down, in order and with their bytes, all calls that change it, and fails calls
 * on request: what a test needs to know what a disk may hold after losing power, or to be a disk that is full or broken.
 *
 *     crash_disk BACKING LOG MOUNTPOINT
 *
 * Stays in the foreground; prints a line when it is mounted, ends when it is unmounted. Nothing is synced for real. One
 * thread: the order of the log is the order of the calls. tests/crash/disk.py reads the log; the layout of its records is
 * `record` below, little-endian as the machine is.
 *
 * Extended attributes of the root are its controls:
 *   set user.crash.mark          goes into the log as it is
 *   set user.crash.fault         "KINDS NTH ERRNO MODE": the NTH call from now of one of the kinds (letters as in `letters`)
 *                                fails; MODE once, on (all after it fail too) or half (a write does half, then on)
 *   get user.crash.count         calls of these kinds since the fault was set */
#define FUSE_USE_VERSION 35
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef enum {
    MAKE_DIRECTORY = 1, CREATE, WRITE, TRUNCATE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, REMOVE_DIRECTORY, MARK, PUNCH, ALLOCATE,
    READ, OPEN,
} call_kind;

static const char letters[] = " mcwtsdruxkpaRo";

typedef struct {
    uint32_t kind;
    int32_t result;        /* 0 or a negative errno; only syncs are logged when they fail */
    uint64_t inode, offset, length;
    uint32_t name_bytes, other_bytes;
    uint64_t data_bytes;
} record;

static int backing_fd, log_fd;
static struct {
    char kinds[32];
    long nth, count;
    int error;
    enum { ONCE, ON, HALF } mode;
} fault;

/* Path below the backing directory. */
static const char *below(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static void write_all(const void *bytes, size_t length)
{
    if (length && write(log_fd, bytes, length) != (ssize_t)length)
        abort();
}

static void note(record head, const char *name, const char *other, const void *data)
{
    head.name_bytes = name ? (uint32_t)strlen(name) : 0;
    head.other_bytes = other ? (uint32_t)strlen(other) : 0;
    write_all(&head, sizeof head);
    write_all(name, head.name_bytes);
    write_all(other, head.other_bytes);
    write_all(data, (size_t)head.data_bytes);
}

static uint64_t inode_of(int fd)
{
    struct stat status;
    if (fstat(fd, &status))
        abort();
    return status.st_ino;
}

/* The error that a call of this kind must end with now, 0 to do it. */
static int fault_of(call_kind kind)
{
    if (!strchr(fault.kinds, letters[kind]))
        return 0;
    long number = ++fault.count;
    if (fault.nth == 0 || number < fault.nth)
        return 0;
    return fault.mode != ONCE || number == fault.nth ? -fault.error : 0;
}

static int fd_of(const struct fuse_file_info *info)
{
    return (int)info->fh;
}

static int ending(int result)
{
    return result < 0 ? -errno : 0;
}

static int disk_getattr(const char *path, struct stat *status, struct fuse_file_info *info)
{
    return ending(info ? fstat(fd_of(info), status) : fstatat(backing_fd, below(path), status, AT_SYMLINK_NOFOLLOW));
}

static int disk_mkdir(const char *path, mode_t mode)
{
    int error = fault_of(MAKE_DIRECTORY);
    if (error || (error = ending(mkdirat(backing_fd, below(path), mode))))
        return error;
    struct stat status;
    if (fstatat(backing_fd, below(path), &status, 0))
        abort();
    note((record){.kind = MAKE_DIRECTORY, .inode = status.st_ino}, path, NULL, NULL);
    return 0;
}

static int disk_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int error = fault_of(CREATE);
    if (error)
        return error;
    struct stat status;
    int is_new = fstatat(backing_fd, below(path), &status, 0) != 0;
    int fd = openat(backing_fd, below(path), (info->flags & (O_EXCL | O_TRUNC)) | O_RDWR | O_CREAT | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    info->fh = (uint64_t)fd;
    if (is_new)
        note((record){.kind = CREATE, .inode = inode_of(fd)}, path, NULL, NULL);
    return 0;
}

static int disk_open(const char *path, struct fuse_file_info *info)
{
    int error = fault_of(OPEN);
    if (error)
        return error;
    int fd = openat(backing_fd, below(path), (info->flags & ~(O_APPEND | O_DIRECT | O_TRUNC | O_ACCMODE)) | O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    info->fh = (uint64_t)fd;
    if (info->flags & O_TRUNC) {
        if (ftruncate(fd, 0))
            abort();
        note((record){.kind = TRUNCATE, .inode = inode_of(fd)}, NULL, NULL, NULL);
    }
    return 0;
}

static int disk_read(const char *path, char *buffer, size_t bytes, off_t offset, struct fuse_file_info *info)
{
    (void)path;
    int error = fault_of(READ);
    if (error)
        return error;
    ssize_t count = pread(fd_of(info), buffer, bytes, offset);
    return count < 0 ? -errno : (int)count;
}

static int disk_write(const char *path, const char *bytes, size_t length, off_t offset, struct fuse_file_info *info)
{
    (void)path;
    int error = fault_of(WRITE);
    if (error && fault.mode == HALF && fault.count == fault.nth && length > 1)
        length /= 2;
    else if (error)
        return error;
    ssize_t count = pwrite(fd_of(info), bytes, length, offset);
    if (count < 0)
        return -errno;
    note((record){.kind = WRITE, .inode = inode_of(fd_of(info)), .offset = (uint64_t)offset, .data_bytes = (uint64_t)count},
         NULL, NULL, bytes);
    return (int)count;
}

static int disk_truncate(const char *path, off_t length, struct fuse_file_info *info)
{
    int error = fault_of(TRUNCATE);
    if (error)
        return error;
    int fd = info ? fd_of(info) : openat(backing_fd, below(path), O_RDWR | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, length))
        return -errno;
    note((record){.kind = TRUNCATE, .inode = inode_of(fd), .length = (uint64_t)length}, NULL, NULL, NULL);
    if (!info)
        close(fd);
    return 0;
}

static int disk_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *info)
{
    (void)path;
    call_kind kind = mode & FALLOC_FL_PUNCH_HOLE ? PUNCH : ALLOCATE;
    int error = fault_of(kind);
    if (error || (error = ending(fallocate(fd_of(info), mode, offset, length))))
        return error;
    struct stat status;
    if (fstat(fd_of(info), &status))
        abort();
    note((record){.kind = kind, .inode = status.st_ino, .offset = (uint64_t)offset,
                  .length = kind == PUNCH ? (uint64_t)length : (uint64_t)status.st_size}, NULL, NULL, NULL);
    return 0;
}

static int sync_now(call_kind kind, int fd)
{
    int error = fault_of(kind);
    note((record){.kind = kind, .inode = inode_of(fd), .result = error}, NULL, NULL, NULL);
    return error;
}

static int disk_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    (void)data_only;
    return sync_now(SYNC, fd_of(info));
}

static int disk_fsyncdir(const char *path, int data_only, struct fuse_file_info *info)
{
    (void)path;
    (void)data_only;
    return sync_now(SYNC_DIRECTORY, dirfd((DIR *)(uintptr_t)info->fh));
}

static int disk_rename(const char *old, const char *new, unsigned flags)
{
    int error = fault_of(RENAME);
    if (error || (error = ending(renameat2(backing_fd, below(old), backing_fd, below(new), flags))))
        return error;
    note((record){.kind = RENAME, .offset = flags}, old, new, NULL);
    return 0;
}

static int disk_unlink(const char *path)
{
    int error = fault_of(UNLINK);
    if (error || (error = ending(unlinkat(backing_fd, below(path), 0))))
        return error;
    note((record){.kind = UNLINK}, path, NULL, NULL);
    return 0;
}

static int disk_rmdir(const char *path)
{
    int error = fault_of(REMOVE_DIRECTORY);
    if (error || (error = ending(unlinkat(backing_fd, below(path), AT_REMOVEDIR))))
        return error;
    note((record){.kind = REMOVE_DIRECTORY}, path, NULL, NULL);
    return 0;
}

static int disk_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    close(fd_of(info));
    return 0;
}

static int disk_opendir(const char *path, struct fuse_file_info *info)
{
    int fd = openat(backing_fd, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    info->fh = (uint64_t)(uintptr_t)fdopendir(fd);
    return 0;
}

static int disk_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
                        enum fuse_readdir_flags flags)
{
    (void)path;
    (void)offset;
    (void)flags;
    DIR *directory = (DIR *)(uintptr_t)info->fh;
    rewinddir(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat status = {.st_ino = entry->d_ino, .st_mode = (mode_t)DTTOIF(entry->d_type)};
        if (fill(buffer, entry->d_name, &status, 0, 0))
            break;
    }
    return 0;
}

static int disk_releasedir(const char *path, struct fuse_file_info *info)
{
    (void)path;
    closedir((DIR *)(uintptr_t)info->fh);
    return 0;
}

static int disk_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    return ending(info ? fchmod(fd_of(info), mode) : fchmodat(backing_fd, below(path), mode, 0));
}

static int disk_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *info)
{
    return ending(info ? fchown(fd_of(info), user, group)
                       : fchownat(backing_fd, below(path), user, group, AT_SYMLINK_NOFOLLOW));
}

static int disk_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    return ending(info ? futimens(fd_of(info), times) : utimensat(backing_fd, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int disk_statfs(const char *path, struct statvfs *status)
{
    (void)path;
    return ending(fstatvfs(backing_fd, status));
}

static off_t disk_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *info)
{
    (void)path;
    off_t found = lseek(fd_of(info), offset, whence);
    return found < 0 ? -errno : found;
}

static int set_fault(const char *text)
{
    char mode[8];
    memset(&fault, 0, sizeof fault);
    if (sscanf(text, "%31s %ld %d %7s", fault.kinds, &fault.nth, &fault.error, mode) != 4)
        return -EINVAL;
    fault.mode = !strcmp(mode, "half") ? HALF : !strcmp(mode, "on") ? ON : ONCE;
    return 0;
}

static int disk_setxattr(const char *path, const char *name, const char *value, size_t bytes, int flags)
{
    char text[PATH_MAX];
    (void)flags;
    if (strcmp(path, "/"))
        return -EOPNOTSUPP;
    if (!strcmp(name, "user.crash.mark")) {
        note((record){.kind = MARK, .data_bytes = bytes}, NULL, NULL, value);
        return 0;
    }
    if (strcmp(name, "user.crash.fault") || bytes >= sizeof text)
        return -EOPNOTSUPP;
    memcpy(text, value, bytes);
    text[bytes] = 0;
    return set_fault(text);
}

static int disk_getxattr(const char *path, const char *name, char *value, size_t bytes)
{
    char text[32];
    if (strcmp(path, "/") || strcmp(name, "user.crash.count"))
        return -ENODATA;
    int length = snprintf(text, sizeof text, "%ld", fault.count);
    if (bytes < (size_t)length)
        return bytes ? -ERANGE : length;
    memcpy(value, text, (size_t)length);
    return length;
}

static void *disk_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    connection->want &= ~(unsigned)FUSE_CAP_ASYNC_DIO; /* it makes EIO of a short write */
    config->use_ino = 1;
    config->hard_remove = 1;
    config->nullpath_ok = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    puts("mounted");
    fflush(stdout);
    return NULL;
}

static const struct fuse_operations operations = {
    .init = disk_init, .getattr = disk_getattr, .mkdir = disk_mkdir, .create = disk_create, .open = disk_open,
    .read = disk_read, .write = disk_write, .truncate = disk_truncate, .fallocate = disk_fallocate, .fsync = disk_fsync,
    .fsyncdir = disk_fsyncdir, .rename = disk_rename, .unlink = disk_unlink, .rmdir = disk_rmdir, .release = disk_release,
    .opendir = disk_opendir, .readdir = disk_readdir, .releasedir = disk_releasedir, .chmod = disk_chmod,
    .chown = disk_chown, .utimens = disk_utimens, .statfs = disk_statfs, .lseek = disk_lseek, .setxattr = disk_setxattr,
    .getxattr = disk_getxattr,
};

int main(int count, char **words)
{
    if (count != 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    umask(0);
    backing_fd = open(words[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    log_fd = open(words[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (backing_fd < 0 || log_fd < 0)
        return 1;
    char *arguments[] = {words[0], "-f", "-s", "-o", "fsname=crash-disk", words[3], NULL};
    return fuse_main(6, arguments, &operations, NULL);
}

/* NFS version 3 (RFC 1813) over the exports: every procedure, in a namespace that clients cannot change.
 *
 *     /             root: one directory for each export that the client may use
 *     /NAME         an export
 *     /NAME/disk.raw  its disk
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "err.h"
#include "nfs_call.h"
#include "nfs_record.h"

typedef enum {
    NFS3_OK = 0,
    NFS3ERR_PERM = 1,
    NFS3ERR_NOENT = 2,
    NFS3ERR_IO = 5,
    NFS3ERR_ACCES = 13,
    NFS3ERR_EXIST = 17,
    NFS3ERR_NOTDIR = 20,
    NFS3ERR_ISDIR = 21,
    NFS3ERR_INVAL = 22,
    NFS3ERR_FBIG = 27,
    NFS3ERR_NOSPC = 28,
    NFS3ERR_ROFS = 30,
    NFS3ERR_NAMETOOLONG = 63,
    NFS3ERR_DQUOT = 69,
    NFS3ERR_STALE = 70,
    NFS3ERR_BADHANDLE = 10001,
    NFS3ERR_NOT_SYNC = 10002,
    NFS3ERR_BAD_COOKIE = 10003,
    NFS3ERR_NOTSUPP = 10004,
    NFS3ERR_TOOSMALL = 10005,
    NFS3ERR_SERVERFAULT = 10006,
} nfs_status;

enum {
    TYPE_FILE = 1,
    TYPE_DIRECTORY = 2,
    UNSTABLE = 0,
    FILE_SYNC = 2,
    ACCESS_READ = 1,
    ACCESS_LOOKUP = 2,
    ACCESS_MODIFY = 4,
    ACCESS_EXTEND = 8,
    FSF_HOMOGENEOUS = 8,
    NAME_BYTES_MAX = 255,
    CREATE_UNCHECKED = 0,
    CREATE_GUARDED = 1,
    CREATE_EXCLUSIVE = 2,
    DIRECTORY_BYTES_MAX = 64 << 10,
    FSID = 0x56445221,
    ROOT_FILE_NUMBER = 1,
    COOKIE_SELF = 1,
    COOKIE_PARENT = 2,
    COOKIE_DISK = 3,
};

/* A file or directory, held: its export stays while the call uses it. */
typedef struct {
    vdr_nfs_object_kind kind;
    vdr_nfs_export *export; /* NULL for the root */
} object;

typedef struct {
    uint64_t size_bytes, modified_ns;
} attributes_before;

static uint64_t modified_ns(const vdr_nfs_call *call, const object *of)
{
    return of->export ? of->export->modified_ns : call->service->exports.modified_ns;
}

static void touch(vdr_nfs_export *export)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t wanted = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    /* Every write shows as a change, even when the clock stands still or goes back. */
    uint64_t before = export->modified_ns;
    while (!atomic_compare_exchange_weak(&export->modified_ns, &before, wanted > before ? wanted : before + 1))
        ;
}

static void release(vdr_nfs_call *call, object *held)
{
    vdr_nfs_exports_release(&call->service->exports, held->export);
    held->export = NULL;
}

/* Read a handle and hold what it names. The object must be released whatever the status. */
static nfs_status read_object(vdr_nfs_call *call, object *found)
{
    uint32_t bytes;
    uint8_t id[16];
    *found = (object){VDR_NFS_NOTHING, NULL};
    const uint8_t *handle = vdr_xdr_read_opaque(&call->in, VDR_NFS_HANDLE_BYTES_MAX, &bytes);
    if (!handle || !vdr_nfs_handle_parse(handle, bytes, &found->kind, id))
        return NFS3ERR_BADHANDLE;
    if (found->kind == VDR_NFS_ROOT)
        return NFS3_OK;
    found->export = vdr_nfs_exports_find(&call->service->exports, id);
    if (!found->export)
        return NFS3ERR_STALE;
    if (vdr_nfs_export_allows(found->export, call->client->address))
        return NFS3_OK;
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_BAD_CALL, call->client->name,
                        "access to /%s refused: not one of its clients", found->export->spec.name);
    release(call, found);
    return NFS3ERR_ACCES;
}

static const uint8_t *read_name(vdr_nfs_call *call, uint32_t *bytes)
{
    return vdr_xdr_read_opaque(&call->in, VDR_NFS_PATH_BYTES_MAX, bytes);
}

static int name_is(const uint8_t *name, uint32_t bytes, const char *text)
{
    return bytes == strlen(text) && memcmp(name, text, bytes) == 0;
}

static void write_time(vdr_nfs_call *call, uint64_t ns)
{
    vdr_xdr_write_u32(&call->out, (uint32_t)(ns / 1000000000u));
    vdr_xdr_write_u32(&call->out, (uint32_t)(ns % 1000000000u));
}

static uint64_t file_number(const object *of)
{
    if (of->kind == VDR_NFS_ROOT)
        return ROOT_FILE_NUMBER;
    return of->export->file_number + (of->kind == VDR_NFS_DISK);
}

static void write_attributes(vdr_nfs_call *call, const object *of)
{
    int is_disk = of->kind == VDR_NFS_DISK;
    int is_writable = is_disk && of->export->spec.is_writable;
    uint64_t size_bytes = is_disk ? of->export->size_bytes : 4096;
    uint64_t modified = modified_ns(call, of);
    vdr_xdr_write_u32(&call->out, is_disk ? TYPE_FILE : TYPE_DIRECTORY);
    /* Who may use a disk is decided by client address; its users are all the same to us. */
    vdr_xdr_write_u32(&call->out, is_writable ? 0666 : is_disk ? 0444 : 0555);
    vdr_xdr_write_u32(&call->out, is_disk ? 1 : 2);
    vdr_xdr_write_u32(&call->out, 0);
    vdr_xdr_write_u32(&call->out, 0);
    vdr_xdr_write_u64(&call->out, size_bytes);
    vdr_xdr_write_u64(&call->out, size_bytes);
    vdr_xdr_write_u64(&call->out, 0);
    vdr_xdr_write_u64(&call->out, FSID);
    vdr_xdr_write_u64(&call->out, file_number(of));
    write_time(call, modified);
    write_time(call, modified);
    write_time(call, modified);
}

static void write_optional_attributes(vdr_nfs_call *call, const object *of)
{
    int is_known = of->kind == VDR_NFS_ROOT || of->export;
    vdr_xdr_write_u32(&call->out, (uint32_t)is_known);
    if (is_known)
        write_attributes(call, of);
}

static attributes_before remember_attributes(const vdr_nfs_call *call, const object *of)
{
    uint64_t size_bytes = of->kind == VDR_NFS_DISK && of->export ? of->export->size_bytes : 4096;
    return (attributes_before){size_bytes, of->kind == VDR_NFS_ROOT || of->export ? modified_ns(call, of) : 0};
}

/* wcc_data: what the object was before and is after, so that a client can tell its own change from another's. */
static void write_change(vdr_nfs_call *call, const object *of, attributes_before before)
{
    vdr_xdr_write_u32(&call->out, before.modified_ns != 0);
    if (before.modified_ns != 0) {
        vdr_xdr_write_u64(&call->out, before.size_bytes);
        write_time(call, before.modified_ns);
        write_time(call, before.modified_ns);
    }
    write_optional_attributes(call, of);
}

static void write_no_change(vdr_nfs_call *call, const object *of)
{
    write_change(call, of, remember_attributes(call, of));
}

static void write_handle(vdr_nfs_call *call, const object *of)
{
    uint8_t handle[VDR_NFS_HANDLE_BYTES];
    static const uint8_t none[16];
    vdr_nfs_handle_make(handle, of->kind, of->export ? of->export->spec.id : none);
    vdr_xdr_write_opaque(&call->out, handle, sizeof handle);
}

/* What a client is told of a disk that failed. A lower disk's damage is an I/O error to it and an event to us. */
static nfs_status disk_status(vdr_nfs_call *call, const object *disk, int error, const char *what, uint64_t offset)
{
    int number = error == VDR_E_IO ? errno : 0;
    if (!error)
        return NFS3_OK;
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_DISK_FAILED, call->client->name,
                        "%s of /%s/" VDR_NFS_DISK_NAME " at %llu failed: %s", what, disk->export->spec.name,
                        (unsigned long long)offset, number ? strerror(number) : vdr_err_name(error));
    switch (number) {
    case ENOSPC:
        return NFS3ERR_NOSPC;
    case EDQUOT:
        return NFS3ERR_DQUOT;
    case EROFS:
        return NFS3ERR_ROFS;
    default:
        return NFS3ERR_IO;
    }
}

static void nfs_getattr(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    if (status == NFS3_OK)
        write_attributes(call, &of);
    release(call, &of);
}

/* sattr3: returns what it would change. Sizes and times that are given are kept. */
typedef struct {
    int sets_owner, sets_size;
    uint64_t size_bytes;
} wanted_attributes;

static wanted_attributes read_wanted_attributes(vdr_nfs_call *call)
{
    wanted_attributes wanted = {0, 0, 0};
    for (int i = 0; i < 3; i++) /* mode, uid, gid */
        if (vdr_xdr_read_u32(&call->in)) {
            vdr_xdr_read_u32(&call->in);
            wanted.sets_owner = 1;
        }
    if (vdr_xdr_read_u32(&call->in)) {
        wanted.sets_size = 1;
        wanted.size_bytes = vdr_xdr_read_u64(&call->in);
    }
    for (int i = 0; i < 2; i++) { /* atime, mtime: 2 brings a time along */
        uint32_t how = vdr_xdr_read_u32(&call->in);
        if (how > 2)
            call->in.is_bad = 1;
        if (how == 2)
            vdr_xdr_read_u64(&call->in);
    }
    return wanted;
}

static nfs_status check_wanted_attributes(const object *of, wanted_attributes wanted)
{
    if (of->kind != VDR_NFS_DISK)
        return wanted.sets_size ? NFS3ERR_ISDIR : NFS3ERR_ROFS;
    if (!of->export->spec.is_writable)
        return NFS3ERR_ROFS;
    /* A disk keeps its size, owner and mode. Times follow the writes; setting them is taken for done. */
    if (wanted.sets_owner || (wanted.sets_size && wanted.size_bytes != of->export->size_bytes))
        return NFS3ERR_PERM;
    return NFS3_OK;
}

static void nfs_setattr(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    wanted_attributes wanted = read_wanted_attributes(call);
    uint32_t is_guarded = vdr_xdr_read_u32(&call->in);
    uint64_t guard_seconds = is_guarded ? vdr_xdr_read_u32(&call->in) : 0;
    uint64_t guard_ns = is_guarded ? vdr_xdr_read_u32(&call->in) : 0;
    if (status == NFS3_OK && is_guarded && guard_seconds * 1000000000u + guard_ns != modified_ns(call, &of))
        status = NFS3ERR_NOT_SYNC;
    if (status == NFS3_OK)
        status = check_wanted_attributes(&of, wanted);
    vdr_xdr_write_u32(&call->out, status);
    write_no_change(call, &of);
    release(call, &of);
}

/* The child `name` of a directory, held. */
static nfs_status find_child(vdr_nfs_call *call, const object *directory, const uint8_t *name, uint32_t bytes,
                             object *child)
{
    vdr_nfs_exports *exports = &call->service->exports;
    *child = (object){VDR_NFS_ROOT, NULL};
    if (directory->kind == VDR_NFS_DISK)
        return NFS3ERR_NOTDIR;
    if (bytes > NAME_BYTES_MAX)
        return NFS3ERR_NAMETOOLONG;
    int is_self = name_is(name, bytes, ".");
    if (name_is(name, bytes, "..") || (is_self && directory->kind == VDR_NFS_ROOT))
        return NFS3_OK;
    if (directory->kind == VDR_NFS_ROOT) {
        child->kind = VDR_NFS_DIRECTORY;
        child->export = vdr_nfs_exports_find_name(exports, name, bytes);
        if (child->export && vdr_nfs_export_allows(child->export, call->client->address))
            return NFS3_OK;
        release(call, child);
        return NFS3ERR_NOENT;
    }
    if (!is_self && !name_is(name, bytes, VDR_NFS_DISK_NAME))
        return NFS3ERR_NOENT;
    child->kind = is_self ? VDR_NFS_DIRECTORY : VDR_NFS_DISK;
    child->export = vdr_nfs_exports_find(exports, directory->export->spec.id);
    return child->export ? NFS3_OK : NFS3ERR_STALE;
}

static void nfs_lookup(vdr_nfs_call *call)
{
    object directory, child = {VDR_NFS_ROOT, NULL};
    uint32_t bytes;
    nfs_status status = read_object(call, &directory);
    const uint8_t *name = read_name(call, &bytes);
    if (status == NFS3_OK && name)
        status = find_child(call, &directory, name, bytes, &child);
    vdr_xdr_write_u32(&call->out, status);
    if (status == NFS3_OK) {
        write_handle(call, &child);
        write_optional_attributes(call, &child);
    }
    write_optional_attributes(call, &directory);
    release(call, &child);
    release(call, &directory);
}

static void nfs_access(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    uint32_t asked = vdr_xdr_read_u32(&call->in), granted = ACCESS_READ | ACCESS_LOOKUP;
    if (of.kind == VDR_NFS_DISK)
        granted = ACCESS_READ | (of.export && of.export->spec.is_writable ? ACCESS_MODIFY | ACCESS_EXTEND : 0);
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &of);
    if (status == NFS3_OK)
        vdr_xdr_write_u32(&call->out, asked & granted);
    release(call, &of);
}

/* READLINK: nothing here is a symbolic link. */
static void nfs_readlink(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    vdr_xdr_write_u32(&call->out, status == NFS3_OK ? NFS3ERR_INVAL : status);
    write_optional_attributes(call, &of);
    release(call, &of);
}

static void nfs_read(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    uint32_t count = vdr_xdr_read_u32(&call->in);
    vdr_xdr_writer start = call->out;
    if (call->in.is_bad) {
        release(call, &of);
        return;
    }
    if (status == NFS3_OK && of.kind != VDR_NFS_DISK)
        status = NFS3ERR_ISDIR;
    if (status == NFS3_OK) {
        uint64_t left = offset < of.export->size_bytes ? of.export->size_bytes - offset : 0;
        count = count < VDR_NFS_DATA_BYTES_MAX ? count : VDR_NFS_DATA_BYTES_MAX;
        count = count < left ? count : (uint32_t)left;
        vdr_xdr_write_u32(&call->out, NFS3_OK);
        write_optional_attributes(call, &of);
        vdr_xdr_write_u32(&call->out, count);
        vdr_xdr_write_u32(&call->out, count == left);
        vdr_xdr_write_u32(&call->out, count);
        /* Straight into the reply. */
        uint8_t *place = vdr_xdr_reserve(&call->out, vdr_xdr_padded(count));
        if (place && count > 0) {
            memset(place + count, 0, vdr_xdr_padded(count) - count);
            status = disk_status(call, &of, vdr_disk_read(of.export->disk, offset, place, count), "read", offset);
        }
        call->service->reads++;
        call->service->read_bytes += count;
    }
    if (status != NFS3_OK) {
        call->out = start;
        vdr_xdr_write_u32(&call->out, status);
        write_optional_attributes(call, &of);
    }
    release(call, &of);
}

static nfs_status write_disk(vdr_nfs_call *call, const object *disk, uint64_t offset, const uint8_t *data,
                             uint32_t bytes, uint32_t stable)
{
    if (disk->kind != VDR_NFS_DISK)
        return NFS3ERR_ISDIR;
    if (!disk->export->spec.is_writable)
        return NFS3ERR_ROFS;
    if (offset > disk->export->size_bytes || bytes > disk->export->size_bytes - offset)
        return NFS3ERR_FBIG;
    int error = vdr_disk_write(disk->export->disk, offset, data, bytes);
    nfs_status status = disk_status(call, disk, error, "write", offset);
    touch(disk->export);
    if (status != NFS3_OK)
        return status;
    call->service->writes++;
    call->service->written_bytes += bytes;
    if (stable == UNSTABLE)
        return NFS3_OK;
    call->service->flushes++;
    return disk_status(call, disk, vdr_disk_flush(disk->export->disk), "flush", offset);
}

static void nfs_write(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    uint32_t count = vdr_xdr_read_u32(&call->in), stable = vdr_xdr_read_u32(&call->in), bytes;
    const uint8_t *data = vdr_xdr_read_opaque(&call->in, VDR_NFS_DATA_BYTES_MAX, &bytes);
    attributes_before before = remember_attributes(call, &of);
    if (stable > FILE_SYNC)
        call->in.is_bad = 1;
    if (call->in.is_bad) { /* nothing is written of a call that is not whole */
        release(call, &of);
        return;
    }
    if (status == NFS3_OK && count != bytes)
        status = NFS3ERR_INVAL;
    if (status == NFS3_OK)
        status = write_disk(call, &of, offset, data, bytes, stable);
    vdr_xdr_write_u32(&call->out, status);
    write_change(call, &of, before);
    if (status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, count);
        vdr_xdr_write_u32(&call->out, stable == UNSTABLE ? UNSTABLE : FILE_SYNC);
        vdr_xdr_write_fixed(&call->out, of.export->write_verifier, sizeof of.export->write_verifier);
    }
    release(call, &of);
}

static void nfs_commit(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    vdr_xdr_read_u32(&call->in);
    if (call->in.is_bad) {
        release(call, &of);
        return;
    }
    if (status == NFS3_OK && of.kind != VDR_NFS_DISK)
        status = NFS3ERR_ISDIR;
    if (status == NFS3_OK) {
        call->service->flushes++;
        status = disk_status(call, &of, vdr_disk_flush(of.export->disk), "flush", offset);
    }
    vdr_xdr_write_u32(&call->out, status);
    write_no_change(call, &of);
    if (status == NFS3_OK)
        vdr_xdr_write_fixed(&call->out, of.export->write_verifier, sizeof of.export->write_verifier);
    release(call, &of);
}

/* CREATE: the only file that can be is the disk, so an unchecked create of it finds it; all else is refused. */
static void nfs_create(vdr_nfs_call *call)
{
    object directory, child = {VDR_NFS_ROOT, NULL};
    uint32_t bytes;
    nfs_status status = read_object(call, &directory);
    const uint8_t *name = read_name(call, &bytes);
    uint32_t mode = vdr_xdr_read_u32(&call->in);
    wanted_attributes wanted = {0, 0, 0};
    if (mode == CREATE_EXCLUSIVE)
        vdr_xdr_read_u64(&call->in);
    else if (mode > CREATE_EXCLUSIVE)
        call->in.is_bad = 1;
    else
        wanted = read_wanted_attributes(call);
    if (status == NFS3_OK && name)
        status = find_child(call, &directory, name, bytes, &child);
    if (status == NFS3_OK && (mode != CREATE_UNCHECKED || child.kind != VDR_NFS_DISK))
        status = NFS3ERR_EXIST;
    else if (status == NFS3_OK) {
        wanted.sets_owner = 0; /* of a file that is there already, an open with a mode leaves the mode alone */
        status = check_wanted_attributes(&child, wanted);
    } else if (status == NFS3ERR_NOENT)
        status = NFS3ERR_ROFS;
    vdr_xdr_write_u32(&call->out, status);
    if (status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, 1);
        write_handle(call, &child);
        write_optional_attributes(call, &child);
    }
    write_no_change(call, &directory);
    release(call, &child);
    release(call, &directory);
}

/* MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR: their arguments begin with a directory and a name, and that is all that matters. */
static void refuse_in_directory(vdr_nfs_call *call, nfs_status refusal)
{
    object directory;
    uint32_t bytes;
    nfs_status status = read_object(call, &directory);
    read_name(call, &bytes);
    if (status == NFS3_OK)
        status = directory.kind == VDR_NFS_DISK ? NFS3ERR_NOTDIR : refusal;
    vdr_xdr_write_u32(&call->out, status);
    write_no_change(call, &directory);
    release(call, &directory);
}

static void nfs_rename(vdr_nfs_call *call)
{
    object from, to;
    uint32_t bytes;
    nfs_status status = read_object(call, &from);
    read_name(call, &bytes);
    nfs_status to_status = read_object(call, &to);
    read_name(call, &bytes);
    status = status ? status : to_status ? to_status : NFS3ERR_ROFS;
    vdr_xdr_write_u32(&call->out, status);
    write_no_change(call, &from);
    write_no_change(call, &to);
    release(call, &from);
    release(call, &to);
}

static void nfs_link(vdr_nfs_call *call)
{
    object file, directory;
    uint32_t bytes;
    nfs_status status = read_object(call, &file);
    nfs_status directory_status = read_object(call, &directory);
    read_name(call, &bytes);
    status = status ? status : directory_status ? directory_status : NFS3ERR_ROFS;
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &file);
    write_no_change(call, &directory);
    release(call, &file);
    release(call, &directory);
}

/* The first entry of a directory after `cookie`, held: 1, or 0 at the end. */
static int find_entry(vdr_nfs_call *call, const object *directory, uint64_t cookie, object *entry, const char **name,
                      uint64_t *entry_cookie)
{
    vdr_nfs_exports *exports = &call->service->exports;
    *entry = (object){VDR_NFS_ROOT, NULL};
    *entry_cookie = cookie + 1;
    if (cookie < COOKIE_PARENT) {
        *name = cookie < COOKIE_SELF ? "." : "..";
        if (cookie < COOKIE_SELF && directory->kind == VDR_NFS_DIRECTORY) {
            entry->kind = VDR_NFS_DIRECTORY;
            entry->export = vdr_nfs_exports_find(exports, directory->export->spec.id);
            return entry->export != NULL;
        }
        return 1;
    }
    if (directory->kind == VDR_NFS_DIRECTORY) {
        if (cookie >= COOKIE_DISK)
            return 0;
        *name = VDR_NFS_DISK_NAME;
        entry->kind = VDR_NFS_DISK;
        entry->export = vdr_nfs_exports_find(exports, directory->export->spec.id);
        return entry->export != NULL;
    }
    entry->kind = VDR_NFS_DIRECTORY;
    while ((entry->export = vdr_nfs_exports_find_after(exports, cookie))) {
        cookie = *entry_cookie = entry->export->cookie;
        if (vdr_nfs_export_allows(entry->export, call->client->address)) {
            *name = entry->export->spec.name;
            return 1;
        }
        release(call, entry);
    }
    return 0;
}

/* READDIR and READDIRPLUS. `directory_bytes` bounds names, numbers and cookies, `total_bytes` everything. */
static void list_directory(vdr_nfs_call *call, int is_plus)
{
    object directory, entry;
    nfs_status status = read_object(call, &directory);
    uint64_t cookie = vdr_xdr_read_u64(&call->in);
    uint64_t verifier = vdr_xdr_read_u64(&call->in);
    uint32_t directory_bytes = vdr_xdr_read_u32(&call->in);
    uint32_t total_bytes = is_plus ? vdr_xdr_read_u32(&call->in) : directory_bytes;
    if (status == NFS3_OK && directory.kind == VDR_NFS_DISK)
        status = NFS3ERR_NOTDIR;
    if (status == NFS3_OK && verifier != 0)
        status = NFS3ERR_BAD_COOKIE;
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &directory);
    if (status != NFS3_OK) {
        release(call, &directory);
        return;
    }
    vdr_xdr_write_u64(&call->out, 0);
    total_bytes = total_bytes < DIRECTORY_BYTES_MAX ? total_bytes : DIRECTORY_BYTES_MAX;
    size_t used = 16 + 88, used_for_names = 16; /* the verifier, the end, the directory's own attributes */
    const char *name;
    int is_end = 0, entries = 0;
    for (;;) {
        uint64_t entry_cookie;
        if (!find_entry(call, &directory, cookie, &entry, &name, &entry_cookie)) {
            is_end = 1;
            break;
        }
        size_t names = 24 + vdr_xdr_padded(strlen(name));
        size_t all = names + (is_plus ? 88 + 8 + VDR_NFS_HANDLE_BYTES : 0);
        if (used + all > total_bytes || used_for_names + names > directory_bytes) {
            release(call, &entry);
            break;
        }
        used += all;
        used_for_names += names;
        cookie = entry_cookie;
        entries++;
        vdr_xdr_write_u32(&call->out, 1);
        vdr_xdr_write_u64(&call->out, file_number(&entry));
        vdr_xdr_write_opaque(&call->out, name, strlen(name));
        vdr_xdr_write_u64(&call->out, cookie);
        if (is_plus) {
            write_optional_attributes(call, &entry);
            vdr_xdr_write_u32(&call->out, 1);
            write_handle(call, &entry);
        }
        release(call, &entry);
    }
    if (entries == 0 && !is_end) {
        vdr_xdr_writer *out = &call->out;
        out->next -= 8 + 4 + 84 + 4;
        vdr_xdr_write_u32(out, NFS3ERR_TOOSMALL);
        write_optional_attributes(call, &directory);
    } else {
        vdr_xdr_write_u32(&call->out, 0);
        vdr_xdr_write_u32(&call->out, (uint32_t)is_end);
    }
    release(call, &directory);
}

static void nfs_fsstat(vdr_nfs_call *call)
{
    object of;
    struct statvfs space;
    nfs_status status = read_object(call, &of);
    uint64_t total = vdr_nfs_exports_size_bytes(&call->service->exports), free_bytes = 0;
    if (call->service->space_fd >= 0 && fstatvfs(call->service->space_fd, &space) == 0)
        free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &of);
    if (status == NFS3_OK) {
        vdr_xdr_write_u64(&call->out, total + free_bytes);
        vdr_xdr_write_u64(&call->out, free_bytes);
        vdr_xdr_write_u64(&call->out, free_bytes);
        for (int i = 0; i < 3; i++) /* files: all that can be are there */
            vdr_xdr_write_u64(&call->out, 0);
        vdr_xdr_write_u32(&call->out, 0);
    }
    release(call, &of);
}

static void nfs_fsinfo(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &of);
    if (status == NFS3_OK) {
        for (int i = 0; i < 2; i++) { /* for READ, then for WRITE: most, best, multiple */
            vdr_xdr_write_u32(&call->out, VDR_NFS_DATA_BYTES_MAX);
            vdr_xdr_write_u32(&call->out, VDR_NFS_DATA_BYTES_MAX);
            vdr_xdr_write_u32(&call->out, 4096);
        }
        vdr_xdr_write_u32(&call->out, DIRECTORY_BYTES_MAX);
        vdr_xdr_write_u64(&call->out, INT64_MAX);
        vdr_xdr_write_u32(&call->out, 0);
        vdr_xdr_write_u32(&call->out, 1);
        vdr_xdr_write_u32(&call->out, FSF_HOMOGENEOUS);
    }
    release(call, &of);
}

static void nfs_pathconf(vdr_nfs_call *call)
{
    object of;
    nfs_status status = read_object(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    write_optional_attributes(call, &of);
    if (status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, 1);              /* linkmax */
        vdr_xdr_write_u32(&call->out, NAME_BYTES_MAX);
        vdr_xdr_write_u32(&call->out, 1);              /* no_trunc */
        vdr_xdr_write_u32(&call->out, 1);              /* chown_restricted */
        vdr_xdr_write_u32(&call->out, 0);              /* case_insensitive */
        vdr_xdr_write_u32(&call->out, 1);              /* case_preserving */
    }
    release(call, &of);
}

vdr_rpc_status vdr_nfs_three_call(vdr_nfs_call *call)
{
    switch (call->procedure) {
    case 0:
        break;
    case 1:
        nfs_getattr(call);
        break;
    case 2:
        nfs_setattr(call);
        break;
    case 3:
        nfs_lookup(call);
        break;
    case 4:
        nfs_access(call);
        break;
    case 5:
        nfs_readlink(call);
        break;
    case 6:
        nfs_read(call);
        break;
    case 7:
        nfs_write(call);
        break;
    case 8:
        nfs_create(call);
        break;
    case 9:  /* MKDIR */
    case 10: /* SYMLINK */
    case 12: /* REMOVE */
    case 13: /* RMDIR */
        refuse_in_directory(call, NFS3ERR_ROFS);
        break;
    case 11: /* MKNOD */
        refuse_in_directory(call, NFS3ERR_NOTSUPP);
        break;
    case 14:
        nfs_rename(call);
        break;
    case 15:
        nfs_link(call);
        break;
    case 16:
        list_directory(call, 0);
        break;
    case 17:
        list_directory(call, 1);
        break;
    case 18:
        nfs_fsstat(call);
        break;
    case 19:
        nfs_fsinfo(call);
        break;
    case 20:
        nfs_pathconf(call);
        break;
    case 21:
        nfs_commit(call);
        break;
    default:
        return VDR_RPC_PROC_UNAVAIL;
    }
    return VDR_RPC_SUCCESS;
}

/* LOOKUP and the procedures that make, change and remove names. In an export without a scratch nothing can be made. */
#include <errno.h>
#include <string.h>

#include "nfs_object.h"

enum {
    MODE_OF_FILE = 0644,
    MODE_OF_DIRECTORY = 0755,
    TARGET_BYTES_MAX = 1024,
    TYPE_SOCKET = 6,
    TYPE_FIFO = 7,
    TYPE_BLOCK = 3,
    TYPE_CHARACTER = 4,
};

typedef struct {
    vdr_nfs_object directory;
    vdr_nfs_before before;
    vdr_nfs_status status;
    const char *name;
    uint32_t bytes;
} named;

static int name_is(const char *name, uint32_t bytes, const char *text)
{
    return bytes == strlen(text) && memcmp(name, text, bytes) == 0;
}

static vdr_nfs_status check_directory(const vdr_nfs_object *of)
{
    return of->kind == VDR_NFS_DISK ? NFS3ERR_NOTDIR : NFS3_OK;
}

/* diropargs3: a directory, held, and a name in it. */
static named read_named(vdr_nfs_call *call)
{
    named of;
    of.status = vdr_nfs_object_read(call, &of.directory);
    of.name = (const char *)vdr_nfs_read_name(call, &of.bytes);
    of.before.is_known = 0;
    if (of.status == NFS3_OK)
        of.status = check_directory(&of.directory);
    return of;
}

/* 1 when the call is to be run. Everything of it has been read. */
static int may_change(vdr_nfs_call *call, named *of)
{
    if (call->in.is_bad)
        return 0;
    of->before = vdr_nfs_remember(call, &of->directory);
    if (of->status == NFS3_OK && of->bytes > VDR_NFS_NAME_BYTES_MAX)
        of->status = NFS3ERR_NAMETOOLONG;
    if (of->status == NFS3_OK && !vdr_nfs_object_is_scratch(&of->directory))
        of->status = NFS3ERR_ROFS;
    return of->status == NFS3_OK;
}

static vdr_nfs_scratch *scratch_of(const named *of)
{
    return of->directory.export->scratch;
}

static void end_named(vdr_nfs_call *call, named *of)
{
    vdr_nfs_object_release(call, &of->directory);
}

/* A child in the root, or in an export's directory without a scratch. */
static vdr_nfs_status find_fixed_child(vdr_nfs_call *call, const named *of, vdr_nfs_object *child)
{
    vdr_nfs_exports *exports = &call->service->exports;
    *child = (vdr_nfs_object){.kind = VDR_NFS_ROOT};
    int is_self = name_is(of->name, of->bytes, ".");
    if (name_is(of->name, of->bytes, "..") || (is_self && of->directory.kind == VDR_NFS_ROOT))
        return NFS3_OK;
    if (of->directory.kind == VDR_NFS_ROOT) {
        child->kind = VDR_NFS_DIRECTORY;
        child->export = vdr_nfs_exports_find_name(exports, (const uint8_t *)of->name, of->bytes);
        if (child->export && vdr_nfs_export_allows(child->export, call->client->address))
            return NFS3_OK;
        vdr_nfs_object_release(call, child);
        return NFS3ERR_NOENT;
    }
    if (!is_self && !name_is(of->name, of->bytes, of->directory.export->spec.disk_name))
        return NFS3ERR_NOENT;
    child->kind = is_self ? VDR_NFS_DIRECTORY : VDR_NFS_DISK;
    child->export = vdr_nfs_exports_find(exports, of->directory.export->spec.id);
    return child->export ? NFS3_OK : NFS3ERR_STALE;
}

/* A child in a scratch. It shares the directory's hold on the export. */
static vdr_nfs_status find_scratch_child(const named *of, vdr_nfs_object *child)
{
    vdr_nfs_file found;
    vdr_nfs_node_kind kind = VDR_NFS_NODE_DIRECTORY;
    int error;
    if (name_is(of->name, of->bytes, "."))
        *child = of->directory;
    if (name_is(of->name, of->bytes, "."))
        return NFS3_OK;
    if (name_is(of->name, of->bytes, ".."))
        error = vdr_nfs_scratch_parent(scratch_of(of), of->directory.file, &found);
    else
        error = vdr_nfs_scratch_lookup(scratch_of(of), of->directory.file, of->name, of->bytes, &found, &kind);
    if (!error)
        *child = vdr_nfs_object_in(&of->directory, found, kind);
    return vdr_nfs_status_of(error);
}

void vdr_nfs_lookup(vdr_nfs_call *call)
{
    named of = read_named(call);
    vdr_nfs_object child = {.kind = VDR_NFS_NOTHING};
    int is_top = of.directory.kind == VDR_NFS_DIRECTORY && of.name && name_is(of.name, of.bytes, "..");
    int is_shared = !is_top && of.directory.export && vdr_nfs_object_is_scratch(&of.directory);
    if (of.status == NFS3_OK && of.name && of.bytes > VDR_NFS_NAME_BYTES_MAX)
        of.status = NFS3ERR_NAMETOOLONG;
    if (of.status == NFS3_OK && of.name)
        of.status = is_shared ? find_scratch_child(&of, &child) : find_fixed_child(call, &of, &child);
    vdr_xdr_write_u32(&call->out, of.status);
    if (of.status == NFS3_OK) {
        vdr_nfs_object_write_handle(call, &child);
        vdr_nfs_write_optional(call, &child);
    }
    vdr_nfs_write_optional(call, &of.directory);
    if (!is_shared)
        vdr_nfs_object_release(call, &child);
    end_named(call, &of);
}

/* What CREATE, MKDIR and SYMLINK answer. */
static void write_made(vdr_nfs_call *call, const named *of, const vdr_nfs_object *made)
{
    vdr_xdr_write_u32(&call->out, of->status);
    if (of->status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, 1);
        vdr_nfs_object_write_handle(call, made);
        vdr_nfs_write_optional(call, made);
    }
    vdr_nfs_write_change(call, &of->directory, &of->before);
}

/* Of a new file everything that came along is set, of one that is there only its size, as open() does it. */
static vdr_nfs_status apply_to_created(vdr_nfs_call *call, const vdr_nfs_object *made, vdr_nfs_wanted wanted, int is_new)
{
    wanted.sets_mode = 0; /* set when it was made, or not to be changed */
    if (!is_new)
        wanted.sets_uid = wanted.sets_gid = wanted.sets_accessed = wanted.sets_modified = 0;
    if (!wanted.sets_size && !wanted.sets_uid && !wanted.sets_gid && !wanted.sets_accessed && !wanted.sets_modified)
        return NFS3_OK;
    return vdr_nfs_apply_wanted(call, made, &wanted, 0);
}

static vdr_nfs_status create_file(vdr_nfs_call *call, const named *of, vdr_nfs_create_how how,
                                  const vdr_nfs_wanted *wanted, uint64_t verifier, vdr_nfs_object *made)
{
    vdr_nfs_file file;
    vdr_nfs_node_kind kind;
    int is_new;
    uint32_t mode = wanted->sets_mode ? wanted->mode : MODE_OF_FILE;
    int error = vdr_nfs_scratch_create(scratch_of(of), of->directory.file, of->name, of->bytes, how, mode, verifier, &file,
                                       &kind, &is_new);
    if (error)
        return vdr_nfs_status_of(error);
    *made = vdr_nfs_object_in(&of->directory, file, kind);
    return how == VDR_NFS_CREATE_EXCLUSIVE ? NFS3_OK : apply_to_created(call, made, *wanted, is_new);
}

/* Without a scratch the disk is the only file there can be, so that an unchecked CREATE of it finds it. */
static vdr_nfs_status create_fixed(vdr_nfs_call *call, const named *of, vdr_nfs_create_how how,
                                   const vdr_nfs_wanted *wanted, vdr_nfs_object *made)
{
    vdr_nfs_status status = find_fixed_child(call, of, made);
    if (status != NFS3_OK)
        return status == NFS3ERR_NOENT ? NFS3ERR_ROFS : status;
    if (how != VDR_NFS_CREATE_UNCHECKED || made->kind != VDR_NFS_DISK)
        return NFS3ERR_EXIST;
    return apply_to_created(call, made, *wanted, 0);
}

void vdr_nfs_create(vdr_nfs_call *call)
{
    named of = read_named(call);
    vdr_nfs_object made = {.kind = VDR_NFS_NOTHING};
    vdr_nfs_wanted wanted = {0};
    uint64_t verifier = 0;
    uint32_t how = vdr_xdr_read_u32(&call->in);
    if (how == VDR_NFS_CREATE_EXCLUSIVE)
        verifier = vdr_xdr_read_u64(&call->in);
    else if (how > VDR_NFS_CREATE_EXCLUSIVE)
        call->in.is_bad = 1;
    else
        wanted = vdr_nfs_read_wanted(call);
    int is_shared = may_change(call, &of);
    if (is_shared)
        of.status = create_file(call, &of, (vdr_nfs_create_how)how, &wanted, verifier, &made);
    else if (of.status == NFS3ERR_ROFS && !call->in.is_bad)
        of.status = create_fixed(call, &of, (vdr_nfs_create_how)how, &wanted, &made);
    write_made(call, &of, &made);
    if (!is_shared)
        vdr_nfs_object_release(call, &made);
    end_named(call, &of);
}

void vdr_nfs_mkdir(vdr_nfs_call *call)
{
    named of = read_named(call);
    vdr_nfs_object made = {.kind = VDR_NFS_NOTHING};
    vdr_nfs_file file;
    vdr_nfs_wanted wanted = vdr_nfs_read_wanted(call);
    if (may_change(call, &of)) {
        uint32_t mode = wanted.sets_mode ? wanted.mode : MODE_OF_DIRECTORY;
        int error = vdr_nfs_scratch_mkdir(scratch_of(&of), of.directory.file, of.name, of.bytes, mode, &file);
        of.status = vdr_nfs_status_of(error);
        if (!error)
            made = vdr_nfs_object_in(&of.directory, file, VDR_NFS_NODE_DIRECTORY);
    }
    write_made(call, &of, &made);
    end_named(call, &of);
}

void vdr_nfs_symlink(vdr_nfs_call *call)
{
    named of = read_named(call);
    vdr_nfs_object made = {.kind = VDR_NFS_NOTHING};
    vdr_nfs_file file;
    char target[TARGET_BYTES_MAX + 1];
    uint32_t bytes;
    vdr_nfs_read_wanted(call);
    const uint8_t *given = vdr_xdr_read_opaque(&call->in, TARGET_BYTES_MAX, &bytes);
    if (may_change(call, &of)) {
        memcpy(target, given, bytes);
        target[bytes] = 0;
        int error = bytes == 0 || strlen(target) != bytes
                        ? EINVAL
                        : vdr_nfs_scratch_symlink(scratch_of(&of), of.directory.file, of.name, of.bytes, target, &file);
        of.status = vdr_nfs_status_of(error);
        if (!error)
            made = vdr_nfs_object_in(&of.directory, file, VDR_NFS_NODE_LINK);
    }
    write_made(call, &of, &made);
    end_named(call, &of);
}

/* Devices, sockets and pipes have no business beside a disk. */
void vdr_nfs_mknod(vdr_nfs_call *call)
{
    named of = read_named(call);
    uint32_t type = vdr_xdr_read_u32(&call->in);
    int is_device = type == TYPE_BLOCK || type == TYPE_CHARACTER;
    if (is_device || type == TYPE_SOCKET || type == TYPE_FIFO)
        vdr_nfs_read_wanted(call);
    if (is_device)
        vdr_xdr_read_u64(&call->in);
    if (of.status == NFS3_OK)
        of.status = NFS3ERR_NOTSUPP;
    vdr_xdr_write_u32(&call->out, of.status);
    vdr_nfs_write_no_change(call, &of.directory);
    end_named(call, &of);
}

void vdr_nfs_remove(vdr_nfs_call *call, int is_directory)
{
    named of = read_named(call);
    if (may_change(call, &of)) {
        vdr_nfs_scratch *scratch = scratch_of(&of);
        int error = is_directory ? vdr_nfs_scratch_rmdir(scratch, of.directory.file, of.name, of.bytes)
                                 : vdr_nfs_scratch_remove(scratch, of.directory.file, of.name, of.bytes);
        of.status = vdr_nfs_status_of(error);
    }
    vdr_xdr_write_u32(&call->out, of.status);
    vdr_nfs_write_change(call, &of.directory, &of.before);
    end_named(call, &of);
}

void vdr_nfs_rename(vdr_nfs_call *call)
{
    named from = read_named(call), to = read_named(call);
    int may = may_change(call, &to) & may_change(call, &from);
    vdr_nfs_status status = from.status ? from.status : to.status;
    if (may && from.directory.export != to.directory.export)
        status = NFS3ERR_XDEV;
    else if (may)
        status = vdr_nfs_status_of(vdr_nfs_scratch_rename(scratch_of(&from), from.directory.file, from.name, from.bytes,
                                                          to.directory.file, to.name, to.bytes));
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_change(call, &from.directory, &from.before);
    vdr_nfs_write_change(call, &to.directory, &to.before);
    end_named(call, &to);
    end_named(call, &from);
}

void vdr_nfs_link(vdr_nfs_call *call)
{
    vdr_nfs_object file;
    vdr_nfs_status file_status = vdr_nfs_object_read(call, &file);
    named of = read_named(call);
    if (may_change(call, &of) && file_status == NFS3_OK) {
        if (file.export != of.directory.export)
            of.status = NFS3ERR_XDEV;
        else if (file.kind != VDR_NFS_FILE) /* one disk, one name: it can be moved, not multiplied */
            of.status = NFS3ERR_PERM;
        else
            of.status = vdr_nfs_status_of(
                vdr_nfs_scratch_link(scratch_of(&of), file.file, of.directory.file, of.name, of.bytes));
    }
    vdr_xdr_write_u32(&call->out, file_status ? file_status : of.status);
    vdr_nfs_write_optional(call, &file);
    vdr_nfs_write_change(call, &of.directory, &of.before);
    end_named(call, &of);
    vdr_nfs_object_release(call, &file);
}

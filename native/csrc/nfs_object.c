#include "nfs_object.h"

#include <errno.h>
#include <string.h>

#include "err.h"

enum {
    FSID = 0x56445221,
    ROOT_FILE_NUMBER = 1,
    DIRECTORY_BYTES = 4096,
};

vdr_nfs_status vdr_nfs_status_of(int number)
{
    switch (number) {
    case 0:
        return NFS3_OK;
    case EPERM:
        return NFS3ERR_PERM;
    case ENOENT:
        return NFS3ERR_NOENT;
    case EACCES:
        return NFS3ERR_ACCES;
    case EEXIST:
        return NFS3ERR_EXIST;
    case EXDEV:
        return NFS3ERR_XDEV;
    case ENOTDIR:
        return NFS3ERR_NOTDIR;
    case EISDIR:
        return NFS3ERR_ISDIR;
    case EINVAL:
        return NFS3ERR_INVAL;
    case EFBIG:
        return NFS3ERR_FBIG;
    case ENOSPC:
        return NFS3ERR_NOSPC;
    case EROFS:
        return NFS3ERR_ROFS;
    case EMLINK:
        return NFS3ERR_MLINK;
    case ENAMETOOLONG:
        return NFS3ERR_NAMETOOLONG;
    case ENOTEMPTY:
        return NFS3ERR_NOTEMPTY;
    case EDQUOT:
        return NFS3ERR_DQUOT;
    case ESTALE:
        return NFS3ERR_STALE;
    case EBUSY:
        return NFS3ERR_NOT_SYNC;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return NFS3ERR_SERVERFAULT;
    default:
        return NFS3ERR_IO;
    }
}

vdr_nfs_status vdr_nfs_disk_status(vdr_nfs_call *call, const vdr_nfs_object *disk, int error, const char *what,
                                   uint64_t offset)
{
    int number = error == VDR_E_IO ? errno : 0;
    if (!error)
        return NFS3_OK;
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_DISK_FAILED, call->client->name,
                        "%s of the disk of /%s at %llu failed: %s", what, disk->export->spec.name,
                        (unsigned long long)offset, number ? strerror(number) : vdr_err_name(error));
    vdr_nfs_status status = vdr_nfs_status_of(number);
    int is_told = status == NFS3ERR_NOSPC || status == NFS3ERR_DQUOT || status == NFS3ERR_ROFS;
    return is_told ? status : NFS3ERR_IO;
}

void vdr_nfs_object_release(vdr_nfs_call *call, vdr_nfs_object *held)
{
    vdr_nfs_exports_release(&call->service->exports, held->export);
    held->export = NULL;
}

vdr_nfs_status vdr_nfs_object_read(vdr_nfs_call *call, vdr_nfs_object *found)
{
    uint32_t bytes;
    vdr_nfs_handle handle;
    *found = (vdr_nfs_object){.kind = VDR_NFS_NOTHING};
    const uint8_t *given = vdr_xdr_read_opaque(&call->in, VDR_NFS_HANDLE_BYTES_MAX, &bytes);
    if (!given || !vdr_nfs_handle_parse(call->service->handle_key, given, bytes, &handle))
        return NFS3ERR_BADHANDLE;
    found->kind = handle.kind;
    found->file = handle.file;
    if (found->kind == VDR_NFS_ROOT)
        return NFS3_OK;
    found->export = vdr_nfs_exports_find(&call->service->exports, handle.export_id);
    if (!found->export)
        return NFS3ERR_STALE;
    if (vdr_nfs_export_allows(found->export, call->client->address)) {
        if (found->kind != VDR_NFS_FILE || found->export->scratch)
            return NFS3_OK;
        vdr_nfs_object_release(call, found);
        return NFS3ERR_STALE;
    }
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_BAD_CALL, call->client->name,
                        "access to /%s refused: not one of its clients", found->export->spec.name);
    vdr_nfs_object_release(call, found);
    return NFS3ERR_ACCES;
}

void vdr_nfs_object_write_handle(vdr_nfs_call *call, const vdr_nfs_object *of)
{
    vdr_nfs_handle handle = {.kind = of->kind, .file = of->file};
    uint8_t bytes[VDR_NFS_HANDLE_BYTES];
    if (of->export)
        memcpy(handle.export_id, of->export->spec.id, sizeof handle.export_id);
    vdr_nfs_handle_make(call->service->handle_key, &handle, bytes);
    vdr_xdr_write_opaque(&call->out, bytes, sizeof bytes);
}

int vdr_nfs_object_is_scratch(const vdr_nfs_object *of)
{
    return of->kind == VDR_NFS_FILE || (of->kind == VDR_NFS_DIRECTORY && of->export->scratch);
}

vdr_nfs_object vdr_nfs_object_in(const vdr_nfs_object *directory, vdr_nfs_file file, vdr_nfs_node_kind kind)
{
    if (kind == VDR_NFS_NODE_DISK)
        return (vdr_nfs_object){.kind = VDR_NFS_DISK, .export = directory->export};
    return (vdr_nfs_object){file.inode ? VDR_NFS_FILE : VDR_NFS_DIRECTORY, directory->export, file};
}

uint64_t vdr_nfs_file_number(const vdr_nfs_object *of)
{
    if (of->kind == VDR_NFS_ROOT)
        return ROOT_FILE_NUMBER;
    if (of->kind != VDR_NFS_FILE)
        return of->export->file_number + (of->kind == VDR_NFS_DISK);
    /* Different for every inode of an export, and for other exports as far as chance allows. */
    return of->file.inode * 0x9e3779b97f4a7c15u ^ of->export->file_number << 8;
}

static void scratch_attributes(const vdr_nfs_object *of, const vdr_nfs_file_attributes *found, vdr_nfs_attributes *out)
{
    out->type = found->kind == VDR_NFS_NODE_DIRECTORY ? VDR_NFS_TYPE_DIRECTORY
                : found->kind == VDR_NFS_NODE_LINK    ? VDR_NFS_TYPE_LINK
                                                      : VDR_NFS_TYPE_FILE;
    out->mode = of->kind == VDR_NFS_DIRECTORY ? 0777 : found->mode;
    out->links = found->links;
    out->size_bytes = found->size_bytes;
    out->stored_bytes = found->stored_bytes;
    out->accessed_ns = found->accessed_ns;
    out->modified_ns = found->modified_ns;
    out->changed_ns = found->changed_ns;
}

int vdr_nfs_object_attributes(const vdr_nfs_call *call, const vdr_nfs_object *of, vdr_nfs_attributes *attributes)
{
    if (of->kind != VDR_NFS_ROOT && !of->export)
        return 0;
    *attributes = (vdr_nfs_attributes){.file_number = vdr_nfs_file_number(of)};
    if (of->export) {
        attributes->uid = of->export->spec.owner_uid;
        attributes->gid = of->export->spec.owner_gid;
    }
    if (vdr_nfs_object_is_scratch(of)) {
        vdr_nfs_file_attributes found;
        if (vdr_nfs_scratch_getattr(of->export->scratch, of->file, &found))
            return 0;
        scratch_attributes(of, &found, attributes);
        return 1;
    }
    int is_disk = of->kind == VDR_NFS_DISK;
    attributes->type = is_disk ? VDR_NFS_TYPE_FILE : VDR_NFS_TYPE_DIRECTORY;
    /* Who may use a disk is decided by client address; its users are all the same to us. */
    attributes->mode = is_disk && of->export->spec.is_writable ? 0666 : is_disk ? 0444 : 0555;
    attributes->links = is_disk ? 1 : 2;
    attributes->size_bytes = attributes->stored_bytes = is_disk ? of->export->size_bytes : DIRECTORY_BYTES;
    uint64_t modified_ns = of->export ? of->export->modified_ns : call->service->exports.modified_ns;
    attributes->accessed_ns = attributes->modified_ns = attributes->changed_ns = modified_ns;
    return 1;
}

static void write_time(vdr_nfs_call *call, uint64_t ns)
{
    vdr_xdr_write_u32(&call->out, (uint32_t)(ns / 1000000000u));
    vdr_xdr_write_u32(&call->out, (uint32_t)(ns % 1000000000u));
}

void vdr_nfs_write_attributes(vdr_nfs_call *call, const vdr_nfs_attributes *attributes)
{
    vdr_xdr_writer *out = &call->out;
    vdr_xdr_write_u32(out, attributes->type);
    vdr_xdr_write_u32(out, attributes->mode);
    vdr_xdr_write_u32(out, attributes->links);
    vdr_xdr_write_u32(out, attributes->uid);
    vdr_xdr_write_u32(out, attributes->gid);
    vdr_xdr_write_u64(out, attributes->size_bytes);
    vdr_xdr_write_u64(out, attributes->stored_bytes);
    vdr_xdr_write_u64(out, 0);
    vdr_xdr_write_u64(out, FSID);
    vdr_xdr_write_u64(out, attributes->file_number);
    write_time(call, attributes->accessed_ns);
    write_time(call, attributes->modified_ns);
    write_time(call, attributes->changed_ns);
}

void vdr_nfs_write_optional(vdr_nfs_call *call, const vdr_nfs_object *of)
{
    vdr_nfs_attributes attributes;
    int is_known = vdr_nfs_object_attributes(call, of, &attributes);
    vdr_xdr_write_u32(&call->out, (uint32_t)is_known);
    if (is_known)
        vdr_nfs_write_attributes(call, &attributes);
}

vdr_nfs_before vdr_nfs_remember(const vdr_nfs_call *call, const vdr_nfs_object *of)
{
    vdr_nfs_before before = {0, {0}};
    before.is_known = vdr_nfs_object_attributes(call, of, &before.attributes);
    return before;
}

void vdr_nfs_write_change(vdr_nfs_call *call, const vdr_nfs_object *of, const vdr_nfs_before *before)
{
    vdr_xdr_write_u32(&call->out, (uint32_t)before->is_known);
    if (before->is_known) {
        vdr_xdr_write_u64(&call->out, before->attributes.size_bytes);
        write_time(call, before->attributes.modified_ns);
        write_time(call, before->attributes.changed_ns);
    }
    vdr_nfs_write_optional(call, of);
}

void vdr_nfs_write_no_change(vdr_nfs_call *call, const vdr_nfs_object *of)
{
    vdr_nfs_before before = vdr_nfs_remember(call, of);
    vdr_nfs_write_change(call, of, &before);
}

const uint8_t *vdr_nfs_read_name(vdr_nfs_call *call, uint32_t *bytes)
{
    return vdr_xdr_read_opaque(&call->in, VDR_NFS_PATH_BYTES_MAX, bytes);
}

/* READDIR and READDIRPLUS. Cookies are always good, whatever came and went since, so the verifier is always zero. */
#include <errno.h>
#include <string.h>

#include "nfs_object.h"

enum {
    COOKIE_SELF = 1,
    COOKIE_PARENT = 2,
    COOKIE_DISK = 3,
    DIRECTORY_BYTES_MAX = 64 << 10,
    ATTRIBUTES_BYTES = 88,  /* post_op_attr */
};

typedef struct {
    vdr_nfs_object of;
    int is_shared;          /* holds the export by its directory */
    uint64_t cookie;
    const char *name;
    size_t name_bytes;
    vdr_nfs_scratch_entry found;
} entry;

static void release_entry(vdr_nfs_call *call, entry *held)
{
    if (!held->is_shared)
        vdr_nfs_object_release(call, &held->of);
}

/* "." or "..", of any directory. */
static void find_dots(const vdr_nfs_object *directory, uint64_t cookie, entry *next)
{
    int is_self = cookie < COOKIE_SELF;
    next->is_shared = 1;
    next->name = is_self ? "." : "..";
    next->name_bytes = strlen(next->name);
    next->cookie = cookie + 1;
    next->of = *directory;
    if (is_self || directory->kind == VDR_NFS_ROOT)
        return;
    vdr_nfs_file parent;
    if (directory->kind == VDR_NFS_FILE &&
        vdr_nfs_scratch_parent(directory->export->scratch, directory->file, &parent) == 0)
        next->of = vdr_nfs_object_in(directory, parent, VDR_NFS_NODE_DIRECTORY);
    else
        next->of = (vdr_nfs_object){.kind = VDR_NFS_ROOT};
}

static int find_export(vdr_nfs_call *call, uint64_t cookie, entry *next)
{
    vdr_nfs_exports *exports = &call->service->exports;
    next->is_shared = 0;
    next->of = (vdr_nfs_object){.kind = VDR_NFS_DIRECTORY};
    while ((next->of.export = vdr_nfs_exports_find_after(exports, cookie))) {
        cookie = next->cookie = next->of.export->cookie;
        if (vdr_nfs_export_allows(next->of.export, call->client->address)) {
            next->name = next->of.export->spec.name;
            next->name_bytes = strlen(next->name);
            return 1;
        }
        vdr_nfs_object_release(call, &next->of);
    }
    return 0;
}

/* The first entry of a directory after `cookie`: 1, or 0 at the end. */
static int find_entry(vdr_nfs_call *call, const vdr_nfs_object *directory, uint64_t cookie, entry *next)
{
    if (cookie < COOKIE_PARENT) {
        find_dots(directory, cookie, next);
        return 1;
    }
    if (directory->kind == VDR_NFS_ROOT)
        return find_export(call, cookie, next);
    next->is_shared = 1;
    if (!vdr_nfs_object_is_scratch(directory)) {
        next->of = (vdr_nfs_object){.kind = VDR_NFS_DISK, .export = directory->export};
        next->name = directory->export->spec.disk_name;
        next->name_bytes = strlen(next->name);
        next->cookie = COOKIE_DISK;
        return cookie < COOKIE_DISK;
    }
    if (vdr_nfs_scratch_next(directory->export->scratch, directory->file, cookie, &next->found))
        return 0;
    next->of = vdr_nfs_object_in(directory, next->found.file, next->found.attributes.kind);
    next->name = next->found.name;
    next->name_bytes = next->found.name_bytes;
    next->cookie = next->found.cookie;
    return 1;
}

static vdr_nfs_status check_directory(const vdr_nfs_call *call, const vdr_nfs_object *directory)
{
    vdr_nfs_attributes attributes;
    if (!vdr_nfs_object_attributes(call, directory, &attributes))
        return NFS3ERR_STALE;
    return attributes.type == VDR_NFS_TYPE_DIRECTORY ? NFS3_OK : NFS3ERR_NOTDIR;
}

static void write_entry(vdr_nfs_call *call, const entry *next, int is_plus)
{
    vdr_xdr_write_u32(&call->out, 1);
    vdr_xdr_write_u64(&call->out, vdr_nfs_file_number(&next->of));
    vdr_xdr_write_opaque(&call->out, next->name, next->name_bytes);
    vdr_xdr_write_u64(&call->out, next->cookie);
    if (!is_plus)
        return;
    vdr_nfs_write_optional(call, &next->of);
    vdr_xdr_write_u32(&call->out, 1);
    vdr_nfs_object_write_handle(call, &next->of);
}

/* `directory_bytes` bounds names, numbers and cookies, `total_bytes` everything. */
void vdr_nfs_list(vdr_nfs_call *call, int is_plus)
{
    vdr_nfs_object directory;
    vdr_nfs_status status = vdr_nfs_object_read(call, &directory);
    uint64_t cookie = vdr_xdr_read_u64(&call->in);
    uint64_t verifier = vdr_xdr_read_u64(&call->in);
    uint32_t directory_bytes = vdr_xdr_read_u32(&call->in);
    uint32_t total_bytes = is_plus ? vdr_xdr_read_u32(&call->in) : directory_bytes;
    if (status == NFS3_OK)
        status = check_directory(call, &directory);
    if (status == NFS3_OK && verifier != 0)
        status = NFS3ERR_BAD_COOKIE;
    vdr_xdr_writer start = call->out;
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_optional(call, &directory);
    if (status != NFS3_OK) {
        vdr_nfs_object_release(call, &directory);
        return;
    }
    vdr_xdr_write_u64(&call->out, 0);
    total_bytes = total_bytes < DIRECTORY_BYTES_MAX ? total_bytes : DIRECTORY_BYTES_MAX;
    size_t used = 16 + ATTRIBUTES_BYTES, used_for_names = 16; /* the verifier, the end, the directory's own attributes */
    int is_end = 0, count = 0;
    entry next;
    while (!(is_end = !find_entry(call, &directory, cookie, &next))) {
        size_t names = 24 + vdr_xdr_padded(next.name_bytes);
        size_t all = names + (is_plus ? ATTRIBUTES_BYTES + 8 + VDR_NFS_HANDLE_BYTES : 0);
        int fits = used + all <= total_bytes && used_for_names + names <= directory_bytes;
        if (fits)
            write_entry(call, &next, is_plus);
        release_entry(call, &next);
        if (!fits)
            break;
        used += all;
        used_for_names += names;
        cookie = next.cookie;
        count++;
    }
    if (count == 0 && !is_end) {
        call->out = start;
        vdr_xdr_write_u32(&call->out, NFS3ERR_TOOSMALL);
        vdr_nfs_write_optional(call, &directory);
    } else {
        vdr_xdr_write_u32(&call->out, 0);
        vdr_xdr_write_u32(&call->out, (uint32_t)is_end);
    }
    vdr_nfs_object_release(call, &directory);
}

/* NFS version 3 (RFC 1813) over the exports: every procedure.
 *
 *     /               root: one directory for each export that the client may use
 *     /NAME           an export: its disk, and whatever clients put beside it if it has a scratch
 *     /NAME/disk.raw  its disk
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "err.h"
#include "nfs_object.h"
#include "nfs_record.h"

enum {
    UNSTABLE = 0,
    FILE_SYNC = 2,
    ACCESS_READ = 1,
    ACCESS_LOOKUP = 2,
    ACCESS_MODIFY = 4,
    ACCESS_EXTEND = 8,
    ACCESS_DELETE = 16,
    ACCESS_EXECUTE = 32,
    FSF_LINK = 1,
    FSF_SYMLINK = 2,
    FSF_HOMOGENEOUS = 8,
    FSF_CANSETTIME = 16,
    DIRECTORY_BYTES_BEST = 64 << 10,
    LINKS_MAX = 32000,
    TARGET_BYTES_MAX = 1024,
};

static void touch(vdr_nfs_export *export)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    uint64_t wanted = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    /* Every write shows as a change, even when the clock stands still or goes back. */
    uint64_t before = export->modified_ns;
    while (!atomic_compare_exchange_weak(&export->modified_ns, &before, wanted > before ? wanted : before + 1))
        ;
}

static void nfs_getattr(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_attributes attributes;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    if (status == NFS3_OK && !vdr_nfs_object_attributes(call, &of, &attributes))
        status = NFS3ERR_STALE;
    vdr_xdr_write_u32(&call->out, status);
    if (status == NFS3_OK)
        vdr_nfs_write_attributes(call, &attributes);
    vdr_nfs_object_release(call, &of);
}

/* Every user is the owner; what cannot be done at all is not granted. */
static uint32_t granted_access(const vdr_nfs_object *of, const vdr_nfs_attributes *attributes)
{
    int is_directory = attributes->type == VDR_NFS_TYPE_DIRECTORY;
    if (vdr_nfs_object_is_scratch(of))
        return ACCESS_READ | ACCESS_MODIFY | ACCESS_EXTEND |
               (is_directory ? ACCESS_LOOKUP | ACCESS_DELETE : attributes->mode & 0111 ? ACCESS_EXECUTE : 0);
    if (is_directory)
        return ACCESS_READ | ACCESS_LOOKUP;
    return ACCESS_READ | (of->export->spec.is_writable ? ACCESS_MODIFY | ACCESS_EXTEND : 0);
}

static void nfs_access(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_attributes attributes;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    uint32_t asked = vdr_xdr_read_u32(&call->in);
    int is_known = vdr_nfs_object_attributes(call, &of, &attributes);
    if (status == NFS3_OK && !is_known)
        status = NFS3ERR_STALE;
    vdr_xdr_write_u32(&call->out, status);
    vdr_xdr_write_u32(&call->out, (uint32_t)is_known);
    if (is_known)
        vdr_nfs_write_attributes(call, &attributes);
    if (status == NFS3_OK)
        vdr_xdr_write_u32(&call->out, asked & granted_access(&of, &attributes));
    vdr_nfs_object_release(call, &of);
}

static void nfs_readlink(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    char target[TARGET_BYTES_MAX];
    size_t bytes = 0;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    if (status == NFS3_OK)
        status = of.kind != VDR_NFS_FILE ? NFS3ERR_INVAL
                                         : vdr_nfs_status_of(vdr_nfs_scratch_readlink(of.export->scratch, of.file, target,
                                                                                      sizeof target, &bytes));
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_optional(call, &of);
    if (status == NFS3_OK)
        vdr_xdr_write_opaque(&call->out, target, bytes);
    vdr_nfs_object_release(call, &of);
}

/* Fill up to `count` bytes at `place`. Only a disk's end is known before. */
static vdr_nfs_status read_object(vdr_nfs_call *call, const vdr_nfs_object *of, uint64_t offset, uint8_t *place,
                                  uint32_t *count, int *is_end)
{
    if (of->kind == VDR_NFS_FILE) {
        size_t got;
        int error = vdr_nfs_scratch_read(of->export->scratch, of->file, offset, place, *count, &got, is_end);
        *count = (uint32_t)got;
        return vdr_nfs_status_of(error);
    }
    if (of->kind != VDR_NFS_DISK)
        return NFS3ERR_ISDIR;
    uint64_t left = offset < of->export->size_bytes ? of->export->size_bytes - offset : 0;
    *count = *count < left ? *count : (uint32_t)left;
    *is_end = *count == left;
    if (*count == 0)
        return NFS3_OK;
    return vdr_nfs_disk_status(call, of, vdr_disk_read(of->export->disk, offset, place, *count), "read", offset);
}

static void nfs_read(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    uint32_t count = vdr_xdr_read_u32(&call->in);
    vdr_xdr_writer start = call->out;
    int is_end = 0;
    if (status == NFS3_OK && !call->in.is_bad) {
        count = count < VDR_NFS_DATA_BYTES_MAX ? count : VDR_NFS_DATA_BYTES_MAX;
        vdr_xdr_write_u32(&call->out, NFS3_OK);
        vdr_nfs_write_optional(call, &of);
        vdr_xdr_writer head = call->out;
        /* Straight into the reply: its length is written when it is known. */
        uint8_t *place = vdr_xdr_reserve(&call->out, 12);
        status = place ? read_object(call, &of, offset, call->out.next, &count, &is_end) : NFS3ERR_SERVERFAULT;
        vdr_xdr_write_u32(&head, count);
        vdr_xdr_write_u32(&head, (uint32_t)is_end);
        vdr_xdr_write_u32(&head, count);
        place = vdr_xdr_reserve(&call->out, vdr_xdr_padded(count));
        if (place)
            memset(place + count, 0, vdr_xdr_padded(count) - count);
        call->service->reads++;
        call->service->read_bytes += count;
    }
    if (status != NFS3_OK) {
        call->out = start;
        vdr_xdr_write_u32(&call->out, status);
        vdr_nfs_write_optional(call, &of);
    }
    vdr_nfs_object_release(call, &of);
}

static vdr_nfs_status write_disk(vdr_nfs_call *call, const vdr_nfs_object *disk, uint64_t offset, const uint8_t *data,
                                 uint32_t bytes, uint32_t stable)
{
    if (!disk->export->spec.is_writable)
        return NFS3ERR_ROFS;
    if (offset > disk->export->size_bytes || bytes > disk->export->size_bytes - offset)
        return NFS3ERR_FBIG;
    int error = vdr_disk_write(disk->export->disk, offset, data, bytes);
    vdr_nfs_status status = vdr_nfs_disk_status(call, disk, error, "write", offset);
    touch(disk->export);
    if (status != NFS3_OK || stable == UNSTABLE)
        return status;
    call->service->flushes++;
    return vdr_nfs_disk_status(call, disk, vdr_disk_flush(disk->export->disk), "flush", offset);
}

static vdr_nfs_status write_object(vdr_nfs_call *call, const vdr_nfs_object *of, uint64_t offset, const uint8_t *data,
                                   uint32_t bytes, uint32_t stable)
{
    vdr_nfs_status status = NFS3ERR_ISDIR;
    if (of->kind == VDR_NFS_DISK)
        status = write_disk(call, of, offset, data, bytes, stable);
    else if (of->kind == VDR_NFS_FILE)
        status = vdr_nfs_status_of(
            vdr_nfs_scratch_write(of->export->scratch, of->file, offset, data, bytes, stable != UNSTABLE));
    if (status == NFS3_OK) {
        call->service->writes++;
        call->service->written_bytes += bytes;
    }
    return status;
}

static void nfs_write(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    uint32_t count = vdr_xdr_read_u32(&call->in), stable = vdr_xdr_read_u32(&call->in), bytes;
    const uint8_t *data = vdr_xdr_read_opaque(&call->in, VDR_NFS_DATA_BYTES_MAX, &bytes);
    if (stable > FILE_SYNC)
        call->in.is_bad = 1;
    if (call->in.is_bad) { /* nothing is written of a call that is not whole */
        vdr_nfs_object_release(call, &of);
        return;
    }
    vdr_nfs_before before = vdr_nfs_remember(call, &of);
    if (status == NFS3_OK && count != bytes)
        status = NFS3ERR_INVAL;
    if (status == NFS3_OK)
        status = write_object(call, &of, offset, data, bytes, stable);
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_change(call, &of, &before);
    if (status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, count);
        vdr_xdr_write_u32(&call->out, stable == UNSTABLE ? UNSTABLE : FILE_SYNC);
        vdr_xdr_write_fixed(&call->out, of.export->write_verifier, sizeof of.export->write_verifier);
    }
    vdr_nfs_object_release(call, &of);
}

static void nfs_commit(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    uint64_t offset = vdr_xdr_read_u64(&call->in);
    vdr_xdr_read_u32(&call->in);
    if (call->in.is_bad) {
        vdr_nfs_object_release(call, &of);
        return;
    }
    if (status == NFS3_OK && of.kind == VDR_NFS_DISK) {
        call->service->flushes++;
        status = vdr_nfs_disk_status(call, &of, vdr_disk_flush(of.export->disk), "flush", offset);
    } else if (status == NFS3_OK)
        status = of.kind == VDR_NFS_FILE ? vdr_nfs_status_of(vdr_nfs_scratch_commit(of.export->scratch, of.file))
                                         : NFS3ERR_ISDIR;
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_no_change(call, &of);
    if (status == NFS3_OK)
        vdr_xdr_write_fixed(&call->out, of.export->write_verifier, sizeof of.export->write_verifier);
    vdr_nfs_object_release(call, &of);
}

typedef struct {
    uint64_t total_bytes, free_bytes, files, files_free;
} space;

/* What there is for new data: the scratch has a bound of its own, below that of the file system. */
static space space_of(vdr_nfs_call *call, const vdr_nfs_object *of)
{
    struct statvfs found;
    space told = {0, 0, 0, 0};
    if (call->service->space_fd >= 0 && fstatvfs(call->service->space_fd, &found) == 0)
        told.free_bytes = (uint64_t)found.f_bavail * found.f_frsize;
    told.total_bytes = vdr_nfs_exports_size_bytes(&call->service->exports) + told.free_bytes;
    if (of->export && of->export->scratch) {
        vdr_nfs_scratch_usage usage;
        vdr_nfs_scratch_get_usage(of->export->scratch, &usage);
        uint64_t left = usage.bytes < usage.bytes_max ? usage.bytes_max - usage.bytes : 0;
        if (call->service->space_fd < 0 || left < told.free_bytes)
            told.free_bytes = left;
        told.total_bytes = of->export->size_bytes + usage.bytes + told.free_bytes;
        told.files = usage.files_max;
        told.files_free = usage.files < usage.files_max ? usage.files_max - usage.files : 0;
    }
    return told;
}

static void nfs_fsstat(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_optional(call, &of);
    if (status == NFS3_OK) {
        space told = space_of(call, &of);
        vdr_xdr_write_u64(&call->out, told.total_bytes);
        for (int i = 0; i < 2; i++) /* for the superuser, for everybody */
            vdr_xdr_write_u64(&call->out, told.free_bytes);
        vdr_xdr_write_u64(&call->out, told.files);
        for (int i = 0; i < 2; i++)
            vdr_xdr_write_u64(&call->out, told.files_free);
        vdr_xdr_write_u32(&call->out, 0);
    }
    vdr_nfs_object_release(call, &of);
}

static void nfs_fsinfo(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_optional(call, &of);
    if (status == NFS3_OK) {
        for (int i = 0; i < 2; i++) { /* for READ, then for WRITE: most, best, multiple */
            vdr_xdr_write_u32(&call->out, VDR_NFS_DATA_BYTES_MAX);
            vdr_xdr_write_u32(&call->out, VDR_NFS_DATA_BYTES_MAX);
            vdr_xdr_write_u32(&call->out, 4096);
        }
        vdr_xdr_write_u32(&call->out, DIRECTORY_BYTES_BEST);
        vdr_xdr_write_u64(&call->out, INT64_MAX);
        vdr_xdr_write_u32(&call->out, 0);
        vdr_xdr_write_u32(&call->out, 1);
        int has_scratch = of.export && of.export->scratch;
        vdr_xdr_write_u32(&call->out, FSF_HOMOGENEOUS | (has_scratch ? FSF_LINK | FSF_SYMLINK | FSF_CANSETTIME : 0));
    }
    vdr_nfs_object_release(call, &of);
}

static void nfs_pathconf(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    vdr_xdr_write_u32(&call->out, status);
    vdr_nfs_write_optional(call, &of);
    if (status == NFS3_OK) {
        vdr_xdr_write_u32(&call->out, of.export && of.export->scratch ? LINKS_MAX : 1);
        vdr_xdr_write_u32(&call->out, VDR_NFS_NAME_BYTES_MAX);
        vdr_xdr_write_u32(&call->out, 1);              /* no_trunc */
        vdr_xdr_write_u32(&call->out, 1);              /* chown_restricted */
        vdr_xdr_write_u32(&call->out, 0);              /* case_insensitive */
        vdr_xdr_write_u32(&call->out, 1);              /* case_preserving */
    }
    vdr_nfs_object_release(call, &of);
}

int vdr_nfs_three_must_not_repeat(uint32_t procedure)
{
    /* SETATTR, and CREATE to LINK. */
    return procedure == 2 || (procedure >= 8 && procedure <= 15);
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
        vdr_nfs_setattr(call);
        break;
    case 3:
        vdr_nfs_lookup(call);
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
        vdr_nfs_create(call);
        break;
    case 9:
        vdr_nfs_mkdir(call);
        break;
    case 10:
        vdr_nfs_symlink(call);
        break;
    case 11:
        vdr_nfs_mknod(call);
        break;
    case 12:
    case 13:
        vdr_nfs_remove(call, call->procedure == 13);
        break;
    case 14:
        vdr_nfs_rename(call);
        break;
    case 15:
        vdr_nfs_link(call);
        break;
    case 16:
    case 17:
        vdr_nfs_list(call, call->procedure == 17);
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

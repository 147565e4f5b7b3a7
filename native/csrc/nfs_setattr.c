/* SETATTR, and the attributes that CREATE and MKDIR bring along. */
#include <time.h>

#include "nfs_object.h"

static const uint64_t SECOND_NS = 1000000000u;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static int read_optional_word(vdr_nfs_call *call, uint32_t *word)
{
    int is_given = vdr_xdr_read_u32(&call->in) != 0;
    *word = is_given ? vdr_xdr_read_u32(&call->in) : 0;
    return is_given;
}

/* set_atime, set_mtime: not at all, to the server's time, to the client's. */
static int read_time(vdr_nfs_call *call, uint64_t *ns)
{
    uint32_t how = vdr_xdr_read_u32(&call->in);
    if (how > 2)
        call->in.is_bad = 1;
    if (how == 2) {
        uint64_t seconds = vdr_xdr_read_u32(&call->in);
        uint32_t nanoseconds = vdr_xdr_read_u32(&call->in);
        *ns = seconds * SECOND_NS + nanoseconds % SECOND_NS;
    } else
        *ns = how == 1 ? now_ns() : 0;
    return how != 0;
}

vdr_nfs_wanted vdr_nfs_read_wanted(vdr_nfs_call *call)
{
    vdr_nfs_wanted wanted = {0};
    wanted.sets_mode = read_optional_word(call, &wanted.mode);
    wanted.sets_uid = read_optional_word(call, &wanted.uid);
    wanted.sets_gid = read_optional_word(call, &wanted.gid);
    wanted.sets_size = vdr_xdr_read_u32(&call->in) != 0;
    if (wanted.sets_size)
        wanted.size_bytes = vdr_xdr_read_u64(&call->in);
    wanted.sets_accessed = read_time(call, &wanted.accessed_ns);
    wanted.sets_modified = read_time(call, &wanted.modified_ns);
    return wanted;
}

/* Every user is mapped to the export's owner; a file cannot be anybody else's. */
static int is_of_owner(const vdr_nfs_object *of, const vdr_nfs_wanted *wanted)
{
    const vdr_nfs_export_spec *spec = &of->export->spec;
    return (!wanted->sets_uid || wanted->uid == spec->owner_uid) && (!wanted->sets_gid || wanted->gid == spec->owner_gid);
}

static vdr_nfs_status apply_to_disk(const vdr_nfs_object *of, const vdr_nfs_wanted *wanted, uint64_t guard_ns)
{
    if (guard_ns && guard_ns != of->export->modified_ns)
        return NFS3ERR_NOT_SYNC;
    if (!of->export->spec.is_writable)
        return NFS3ERR_ROFS;
    /* A disk keeps its size, owner and mode. Times follow the writes; setting them is taken for done. */
    int sets_owner = wanted->sets_uid || wanted->sets_gid || wanted->sets_mode;
    int sets_size = wanted->sets_size && wanted->size_bytes != of->export->size_bytes;
    return sets_owner || sets_size ? NFS3ERR_PERM : NFS3_OK;
}

vdr_nfs_status vdr_nfs_apply_wanted(vdr_nfs_call *call, const vdr_nfs_object *of, const vdr_nfs_wanted *wanted,
                                    uint64_t guard_ns)
{
    if (of->kind == VDR_NFS_DISK)
        return apply_to_disk(of, wanted, guard_ns);
    if (!vdr_nfs_object_is_scratch(of)) {
        uint64_t modified_ns = of->export ? of->export->modified_ns : call->service->exports.modified_ns;
        if (guard_ns && guard_ns != modified_ns)
            return NFS3ERR_NOT_SYNC;
        return wanted->sets_size ? NFS3ERR_ISDIR : NFS3ERR_ROFS;
    }
    if (!is_of_owner(of, wanted))
        return NFS3ERR_PERM;
    vdr_nfs_file_changes changes = {
        .sets_mode = wanted->sets_mode && of->kind == VDR_NFS_FILE, /* the top keeps its own */
        .sets_size = wanted->sets_size,
        .sets_accessed = wanted->sets_accessed,
        .sets_modified = wanted->sets_modified,
        .mode = wanted->mode,
        .size_bytes = wanted->size_bytes,
        .accessed_ns = wanted->accessed_ns,
        .modified_ns = wanted->modified_ns,
    };
    return vdr_nfs_status_of(vdr_nfs_scratch_setattr(of->export->scratch, of->file, &changes, guard_ns));
}

void vdr_nfs_setattr(vdr_nfs_call *call)
{
    vdr_nfs_object of;
    vdr_nfs_status status = vdr_nfs_object_read(call, &of);
    vdr_nfs_wanted wanted = vdr_nfs_read_wanted(call);
    uint32_t is_guarded = vdr_xdr_read_u32(&call->in);
    uint64_t seconds = is_guarded ? vdr_xdr_read_u32(&call->in) : 0;
    uint64_t nanoseconds = is_guarded ? vdr_xdr_read_u32(&call->in) : 0;
    if (!call->in.is_bad) { /* nothing is changed by a call that is not whole */
        vdr_nfs_before before = vdr_nfs_remember(call, &of);
        if (status == NFS3_OK) {
            uint64_t guard_ns = seconds * SECOND_NS + nanoseconds;
            /* The beginning of 1970 is nobody's change time; 0 would mean no guard. */
            status = vdr_nfs_apply_wanted(call, &of, &wanted, is_guarded && !guard_ns ? 1 : guard_ns);
        }
        vdr_xdr_write_u32(&call->out, status);
        vdr_nfs_write_change(call, &of, &before);
    }
    vdr_nfs_object_release(call, &of);
}

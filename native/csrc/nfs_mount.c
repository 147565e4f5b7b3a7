/* MOUNT version 3 (RFC 1813 appendix I): from a path to a file handle. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "nfs_object.h"

enum {
    MOUNT_NULL = 0,
    MOUNT_MNT = 1,
    MOUNT_DUMP = 2,
    MOUNT_UMNT = 3,
    MOUNT_UMNTALL = 4,
    MOUNT_EXPORT = 5,

    MNT3_OK = 0,
    MNT3ERR_NOENT = 2,
    MNT3ERR_ACCES = 13,
    MNT3ERR_NOTDIR = 20,

    MOUNTS_MAX = 256,
};

typedef struct {
    char client[60];
    char path[VDR_NFS_NAME_BYTES + 1];
} mount;

struct vdr_nfs_mounts {
    pthread_mutex_t lock;
    size_t count;
    mount list[MOUNTS_MAX];
};

int vdr_nfs_mounts_open(vdr_nfs_mounts **mounts)
{
    vdr_nfs_mounts *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    pthread_mutex_init(&made->lock, NULL);
    *mounts = made;
    return VDR_OK;
}

void vdr_nfs_mounts_close(vdr_nfs_mounts *mounts)
{
    pthread_mutex_destroy(&mounts->lock);
    free(mounts);
}

/* Forget what `client` mounted at `path`, or everything of it when `path` is NULL. Returns how many. */
static size_t mounts_forget(vdr_nfs_mounts *mounts, const char *client, const char *path)
{
    size_t kept = 0, before = mounts->count;
    for (size_t i = 0; i < mounts->count; i++) {
        const mount *found = &mounts->list[i];
        if (strcmp(found->client, client) == 0 && (!path || strcmp(found->path, path) == 0))
            continue;
        mounts->list[kept++] = *found;
    }
    mounts->count = kept;
    return before - kept;
}

static void mounts_remember(vdr_nfs_mounts *mounts, const char *client, const char *path)
{
    pthread_mutex_lock(&mounts->lock);
    mounts_forget(mounts, client, path);
    /* The oldest entry makes room: the list only informs. */
    if (mounts->count == MOUNTS_MAX)
        memmove(mounts->list, mounts->list + 1, --mounts->count * sizeof mounts->list[0]);
    mount *made = &mounts->list[mounts->count++];
    strcpy(made->client, client);
    strcpy(made->path, path);
    pthread_mutex_unlock(&mounts->lock);
}

/* The path's parts without empty ones: 0 for the root, 1 with *name, more for something below. */
static int split_path(const uint8_t *path, uint32_t bytes, const uint8_t **name, size_t *name_bytes)
{
    int parts = 0;
    for (uint32_t i = 0; i < bytes;) {
        uint32_t start = i;
        while (i < bytes && path[i] != '/')
            i++;
        if (i > start && parts++ == 0) {
            *name = path + start;
            *name_bytes = i - start;
        }
        i += i < bytes;
    }
    return parts;
}

static void write_mounted(vdr_nfs_call *call, const vdr_nfs_object *of, const char *path)
{
    vdr_xdr_write_u32(&call->out, MNT3_OK);
    vdr_nfs_object_write_handle(call, of);
    vdr_xdr_write_u32(&call->out, 1);
    vdr_xdr_write_u32(&call->out, VDR_RPC_AUTH_SYS);
    mounts_remember(call->service->mounts, call->client->name, path);
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_MOUNTED, call->client->name, "%s", path);
}

static void mount_path(vdr_nfs_call *call)
{
    uint32_t bytes;
    const uint8_t *name = NULL, *path = vdr_xdr_read_opaque(&call->in, VDR_NFS_PATH_BYTES_MAX, &bytes);
    size_t name_bytes = 0;
    if (!path)
        return;
    int parts = split_path(path, bytes, &name, &name_bytes);
    if (parts == 0) {
        write_mounted(call, &(vdr_nfs_object){.kind = VDR_NFS_ROOT}, "/");
        return;
    }
    vdr_nfs_export *found = vdr_nfs_exports_find_name(&call->service->exports, name, name_bytes);
    if (!found)
        vdr_xdr_write_u32(&call->out, MNT3ERR_NOENT);
    else if (!vdr_nfs_export_allows(found, call->client->address)) {
        vdr_xdr_write_u32(&call->out, MNT3ERR_ACCES);
        vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_BAD_CALL, call->client->name,
                            "mount of /%s refused: not one of its clients", found->spec.name);
    } else if (parts > 1)
        vdr_xdr_write_u32(&call->out, MNT3ERR_NOTDIR);
    else {
        char text[VDR_NFS_NAME_BYTES + 1] = "/";
        strcat(text, found->spec.name);
        write_mounted(call, &(vdr_nfs_object){.kind = VDR_NFS_DIRECTORY, .export = found}, text);
    }
    vdr_nfs_exports_release(&call->service->exports, found);
}

static void unmount_path(vdr_nfs_call *call)
{
    uint32_t bytes;
    const uint8_t *name = NULL, *path = vdr_xdr_read_opaque(&call->in, VDR_NFS_PATH_BYTES_MAX, &bytes);
    size_t name_bytes = 0;
    char text[VDR_NFS_NAME_BYTES + 1] = "/";
    if (!path || split_path(path, bytes, &name, &name_bytes) > 1 || name_bytes >= sizeof text - 1)
        return;
    if (name)
        memcpy(text + 1, name, name_bytes);
    pthread_mutex_lock(&call->service->mounts->lock);
    size_t forgotten = mounts_forget(call->service->mounts, call->client->name, text);
    pthread_mutex_unlock(&call->service->mounts->lock);
    if (forgotten)
        vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_UNMOUNTED, call->client->name, "%s", text);
}

static void list_mounts(vdr_nfs_call *call)
{
    vdr_nfs_mounts *mounts = call->service->mounts;
    pthread_mutex_lock(&mounts->lock);
    for (size_t i = 0; i < mounts->count; i++) {
        vdr_xdr_write_u32(&call->out, 1);
        vdr_xdr_write_opaque(&call->out, mounts->list[i].client, strlen(mounts->list[i].client));
        vdr_xdr_write_opaque(&call->out, mounts->list[i].path, strlen(mounts->list[i].path));
    }
    pthread_mutex_unlock(&mounts->lock);
    vdr_xdr_write_u32(&call->out, 0);
}

static void list_exports(vdr_nfs_call *call)
{
    vdr_nfs_exports *exports = &call->service->exports;
    vdr_nfs_export *found;
    for (uint64_t cookie = 0; (found = vdr_nfs_exports_find_after(exports, cookie)); ) {
        cookie = found->cookie;
        if (vdr_nfs_export_allows(found, call->client->address)) {
            char path[VDR_NFS_NAME_BYTES + 1] = "/";
            strcat(path, found->spec.name);
            vdr_xdr_write_u32(&call->out, 1);
            vdr_xdr_write_opaque(&call->out, path, strlen(path));
            for (uint32_t i = 0; i < found->spec.network_count; i++) {
                const char *text = found->spec.networks[i].text;
                vdr_xdr_write_u32(&call->out, 1);
                vdr_xdr_write_opaque(&call->out, text, strlen(text));
            }
            vdr_xdr_write_u32(&call->out, 0);
        }
        vdr_nfs_exports_release(exports, found);
    }
    vdr_xdr_write_u32(&call->out, 0);
}

vdr_rpc_status vdr_nfs_mount_call(vdr_nfs_call *call)
{
    switch (call->procedure) {
    case MOUNT_NULL:
        break;
    case MOUNT_MNT:
        mount_path(call);
        break;
    case MOUNT_DUMP:
        list_mounts(call);
        break;
    case MOUNT_UMNT:
        unmount_path(call);
        break;
    case MOUNT_UMNTALL:
        pthread_mutex_lock(&call->service->mounts->lock);
        mounts_forget(call->service->mounts, call->client->name, NULL);
        pthread_mutex_unlock(&call->service->mounts->lock);
        break;
    case MOUNT_EXPORT:
        list_exports(call);
        break;
    default:
        return VDR_RPC_PROC_UNAVAIL;
    }
    return VDR_RPC_SUCCESS;
}

#include "nfs_export.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>

#include "err.h"

_Static_assert(sizeof(((vdr_nfs_export_spec *)0)->networks) == VDR_NFS_NETWORKS_MAX * sizeof(vdr_nfs_network), "bound");
_Static_assert(sizeof(((vdr_nfs_export_spec *)0)->name) == VDR_NFS_NAME_BYTES, "bound");

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int vdr_nfs_exports_open(vdr_nfs_exports *exports)
{
    memset(exports, 0, sizeof *exports);
    exports->items = calloc(VDR_NFS_EXPORTS_MAX, sizeof *exports->items);
    if (!exports->items)
        return VDR_E_MEMORY;
    pthread_rwlock_init(&exports->lock, NULL);
    pthread_mutex_init(&exports->idle_lock, NULL);
    pthread_cond_init(&exports->idle, NULL);
    /* Cookies 1 and 2 are "." and "..". */
    exports->next_cookie = 3;
    atomic_init(&exports->modified_ns, now_ns());
    return VDR_OK;
}

static void export_free(vdr_nfs_export *export)
{
    vdr_nfs_scratch_close(export->scratch);
    vdr_disk_close(export->disk);
    free(export);
}

void vdr_nfs_exports_close(vdr_nfs_exports *exports)
{
    for (size_t i = 0; i < exports->count; i++)
        export_free(exports->items[i]);
    free(exports->items);
    pthread_rwlock_destroy(&exports->lock);
    pthread_mutex_destroy(&exports->idle_lock);
    pthread_cond_destroy(&exports->idle);
}

static int name_is_valid(const char name[VDR_NFS_NAME_BYTES])
{
    size_t bytes = strnlen(name, VDR_NFS_NAME_BYTES);
    return bytes > 0 && bytes < VDR_NFS_NAME_BYTES && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int spec_is_valid(const vdr_nfs_export_spec *spec, const vdr_disk *disk)
{
    if (!name_is_valid(spec->name) || !name_is_valid(spec->disk_name) || spec->network_count > VDR_NFS_NETWORKS_MAX)
        return 0;
    for (uint32_t i = 0; i < spec->network_count; i++)
        if (spec->networks[i].prefix_bits > 128 || !memchr(spec->networks[i].text, 0, sizeof spec->networks[i].text))
            return 0;
    return !spec->is_writable || vdr_disk_is_writable(disk);
}

static uint64_t file_number(const uint8_t id[16])
{
    uint64_t first, second;
    memcpy(&first, id, 8);
    memcpy(&second, id + 8, 8);
    uint64_t mixed = (first ^ second * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
    /* Number 1 is the root's. */
    return ((mixed ^ mixed >> 29) << 1 | 1u << 8) & ~(uint64_t)1;
}

/* Make the export, not yet in the table. */
static int export_make(const vdr_nfs_export_spec *spec, vdr_disk *disk, const uint8_t key[VDR_SIPHASH_KEY_BYTES],
                       vdr_nfs_export **export)
{
    vdr_nfs_export *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->spec = *spec;
    if (!made->spec.disk_name[0])
        memcpy(made->spec.disk_name, VDR_NFS_DISK_NAME, sizeof VDR_NFS_DISK_NAME);
    made->size_bytes = vdr_disk_size_bytes(disk);
    made->file_number = file_number(spec->id);
    made->disk = disk;
    atomic_init(&made->modified_ns, spec->modified_ns);
    atomic_init(&made->users, 0);
    int error = spec_is_valid(&made->spec, disk) ? VDR_OK : VDR_E_ARGUMENT;
    if (!error && getrandom(made->write_verifier, sizeof made->write_verifier, 0) != sizeof made->write_verifier)
        error = VDR_E_IO;
    if (!error && spec->has_scratch)
        error = vdr_nfs_scratch_open(spec->scratch_fd, made->spec.disk_name, key, spec->scratch_bytes_max,
                                     spec->scratch_files_max, &made->scratch);
    if (error) {
        free(made);
        return error;
    }
    vdr_disk_retain(disk);
    *export = made;
    return VDR_OK;
}

int vdr_nfs_exports_add(vdr_nfs_exports *exports, const vdr_nfs_export_spec *spec, vdr_disk *disk,
                        const uint8_t key[VDR_SIPHASH_KEY_BYTES])
{
    vdr_nfs_export *made;
    int error = export_make(spec, disk, key, &made);
    if (error)
        return error;
    pthread_rwlock_wrlock(&exports->lock);
    error = exports->count == VDR_NFS_EXPORTS_MAX ? VDR_E_ARGUMENT : VDR_OK;
    for (size_t i = 0; i < exports->count; i++)
        if (memcmp(exports->items[i]->spec.id, spec->id, sizeof spec->id) == 0 ||
            strcmp(exports->items[i]->spec.name, spec->name) == 0)
            error = VDR_E_ARGUMENT;
    if (!error) {
        made->cookie = exports->next_cookie++;
        exports->items[exports->count++] = made;
        atomic_store(&exports->modified_ns, now_ns());
    }
    pthread_rwlock_unlock(&exports->lock);
    if (error)
        export_free(made);
    return error;
}

int vdr_nfs_exports_remove(vdr_nfs_exports *exports, const uint8_t id[16])
{
    vdr_nfs_export *found = NULL;
    pthread_rwlock_wrlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++) {
        if (found)
            exports->items[i - 1] = exports->items[i];
        else if (memcmp(exports->items[i]->spec.id, id, 16) == 0)
            found = exports->items[i];
    }
    exports->count -= found != NULL;
    atomic_store(&exports->modified_ns, now_ns());
    pthread_rwlock_unlock(&exports->lock);
    if (!found)
        return VDR_E_MISSING;
    atomic_fetch_or(&found->users, VDR_NFS_EXPORT_REMOVED);
    pthread_mutex_lock(&exports->idle_lock);
    while (atomic_load(&found->users) != VDR_NFS_EXPORT_REMOVED)
        pthread_cond_wait(&exports->idle, &exports->idle_lock);
    pthread_mutex_unlock(&exports->idle_lock);
    export_free(found);
    return VDR_OK;
}

vdr_nfs_export *vdr_nfs_exports_find(vdr_nfs_exports *exports, const uint8_t id[16])
{
    vdr_nfs_export *found = NULL;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count && !found; i++)
        if (memcmp(exports->items[i]->spec.id, id, 16) == 0)
            found = exports->items[i];
    if (found)
        atomic_fetch_add(&found->users, 1);
    pthread_rwlock_unlock(&exports->lock);
    return found;
}

vdr_nfs_export *vdr_nfs_exports_find_name(vdr_nfs_exports *exports, const uint8_t *name, size_t bytes)
{
    vdr_nfs_export *found = NULL;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count && !found; i++)
        if (strlen(exports->items[i]->spec.name) == bytes && memcmp(exports->items[i]->spec.name, name, bytes) == 0)
            found = exports->items[i];
    if (found)
        atomic_fetch_add(&found->users, 1);
    pthread_rwlock_unlock(&exports->lock);
    return found;
}

vdr_nfs_export *vdr_nfs_exports_find_after(vdr_nfs_exports *exports, uint64_t cookie)
{
    vdr_nfs_export *found = NULL;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count && !found; i++)
        if (exports->items[i]->cookie > cookie)
            found = exports->items[i];
    if (found)
        atomic_fetch_add(&found->users, 1);
    pthread_rwlock_unlock(&exports->lock);
    return found;
}

void vdr_nfs_exports_release(vdr_nfs_exports *exports, vdr_nfs_export *export)
{
    if (!export)
        return;
    /* The last user of a removed export wakes the remover. The export may be gone right after it is counted down. */
    if (atomic_fetch_sub(&export->users, 1) != (VDR_NFS_EXPORT_REMOVED | 1))
        return;
    pthread_mutex_lock(&exports->idle_lock);
    pthread_cond_broadcast(&exports->idle);
    pthread_mutex_unlock(&exports->idle_lock);
}

int vdr_nfs_export_allows(const vdr_nfs_export *export, const uint8_t address[16])
{
    for (uint32_t i = 0; i < export->spec.network_count; i++) {
        const vdr_nfs_network *network = &export->spec.networks[i];
        uint32_t whole = network->prefix_bits / 8, rest = network->prefix_bits % 8;
        if (memcmp(network->address, address, whole) != 0)
            continue;
        if (rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0)
            return 1;
    }
    return 0;
}

uint64_t vdr_nfs_exports_size_bytes(vdr_nfs_exports *exports)
{
    uint64_t sum = 0;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++)
        sum += exports->items[i]->size_bytes;
    pthread_rwlock_unlock(&exports->lock);
    return sum;
}

static void watch(vdr_nfs_events *events, unsigned *told, uint64_t used, uint64_t limit, const char *what, const char *name)
{
    static const unsigned levels[] = {100, 95, 90, 80};
    uint64_t percent = limit ? (uint64_t)((double)used * 100 / (double)limit) : 0;
    unsigned level = 0;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0] && !level; i++)
        level = percent >= levels[i] ? levels[i] : 0;
    if (level > *told)
        vdr_nfs_events_tell(events, VDR_NFS_EVENT_FILLING, "-", "%s%s is %llu%% full: %llu of %llu MiB", what, name,
                            (unsigned long long)percent, (unsigned long long)(used >> 20),
                            (unsigned long long)(limit >> 20));
    *told = level;
}

void vdr_nfs_exports_watch(vdr_nfs_exports *exports, vdr_nfs_events *events, int space_fd)
{
    struct statvfs space;
    uint64_t used, limit;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++) {
        vdr_nfs_export *export = exports->items[i];
        if (vdr_disk_usage(export->disk, &used, &limit) == VDR_OK)
            watch(events, &export->cache_level, used, limit, "cache of /", export->spec.name);
        if (export->scratch) {
            vdr_nfs_scratch_usage usage;
            vdr_nfs_scratch_get_usage(export->scratch, &usage);
            watch(events, &export->scratch_level, usage.bytes, usage.bytes_max, "room for files of /", export->spec.name);
        }
    }
    pthread_rwlock_unlock(&exports->lock);
    if (space_fd < 0 || fstatvfs(space_fd, &space))
        return;
    uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    used = (uint64_t)(space.f_blocks - space.f_bfree) * space.f_frsize;
    watch(events, &exports->space_level, used, used + free_bytes, "file system of the caches", "");
}

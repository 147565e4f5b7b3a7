#include "nbd_export.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"

_Static_assert(sizeof(((vdr_nbd_export_spec *)0)->networks) == VDR_NBD_NETWORKS_MAX * sizeof(vdr_nbd_network), "bound");
_Static_assert(sizeof(((vdr_nbd_export_spec *)0)->name) == VDR_NBD_NAME_BYTES, "bound");

int vdr_nbd_exports_open(vdr_nbd_exports *exports)
{
    memset(exports, 0, sizeof *exports);
    exports->items = calloc(VDR_NBD_EXPORTS_MAX, sizeof *exports->items);
    if (!exports->items)
        return VDR_E_MEMORY;
    pthread_rwlock_init(&exports->lock, NULL);
    pthread_mutex_init(&exports->idle_lock, NULL);
    pthread_cond_init(&exports->idle, NULL);
    return VDR_OK;
}

static void export_free(vdr_nbd_export *export)
{
    vdr_disk_close(export->disk);
    free(export);
}

void vdr_nbd_exports_close(vdr_nbd_exports *exports)
{
    for (size_t i = 0; i < exports->count; i++)
        export_free(exports->items[i]);
    free(exports->items);
    pthread_rwlock_destroy(&exports->lock);
    pthread_mutex_destroy(&exports->idle_lock);
    pthread_cond_destroy(&exports->idle);
}

static int spec_is_valid(const vdr_nbd_export_spec *spec, const vdr_disk *disk)
{
    size_t bytes = strnlen(spec->name, sizeof spec->name);
    if (bytes == 0 || bytes == sizeof spec->name || spec->network_count > VDR_NBD_NETWORKS_MAX)
        return 0;
    for (uint32_t i = 0; i < spec->network_count; i++)
        if (spec->networks[i].prefix_bits > 128)
            return 0;
    return !spec->is_writable || vdr_disk_is_writable(disk);
}

int vdr_nbd_exports_add(vdr_nbd_exports *exports, const vdr_nbd_export_spec *spec, vdr_disk *disk)
{
    if (!spec_is_valid(spec, disk))
        return VDR_E_ARGUMENT;
    vdr_nbd_export *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->spec = *spec;
    made->size_bytes = vdr_disk_size_bytes(disk);
    made->disk = disk;
    vdr_disk_retain(disk);

    pthread_rwlock_wrlock(&exports->lock);
    int error = exports->count == VDR_NBD_EXPORTS_MAX ? VDR_E_ARGUMENT : VDR_OK;
    for (size_t i = 0; i < exports->count; i++)
        if (memcmp(exports->items[i]->spec.id, spec->id, sizeof spec->id) == 0 ||
            strcmp(exports->items[i]->spec.name, spec->name) == 0)
            error = VDR_E_ARGUMENT;
    if (!error)
        exports->items[exports->count++] = made;
    pthread_rwlock_unlock(&exports->lock);
    if (error)
        export_free(made);
    return error;
}

int vdr_nbd_exports_remove(vdr_nbd_exports *exports, const uint8_t id[16])
{
    vdr_nbd_export *found = NULL;
    pthread_rwlock_wrlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++) {
        if (found)
            exports->items[i - 1] = exports->items[i];
        else if (memcmp(exports->items[i]->spec.id, id, 16) == 0)
            found = exports->items[i];
    }
    exports->count -= found != NULL;
    pthread_rwlock_unlock(&exports->lock);
    if (!found)
        return VDR_E_MISSING;
    pthread_mutex_lock(&exports->idle_lock);
    while (found->users > 0)
        pthread_cond_wait(&exports->idle, &exports->idle_lock);
    pthread_mutex_unlock(&exports->idle_lock);
    export_free(found);
    return VDR_OK;
}

static int is_allowed(const vdr_nbd_export *export, const uint8_t address[16])
{
    for (uint32_t i = 0; i < export->spec.network_count; i++) {
        const vdr_nbd_network *network = &export->spec.networks[i];
        uint32_t whole = network->prefix_bits / 8, rest = network->prefix_bits % 8;
        if (memcmp(network->address, address, whole) != 0)
            continue;
        if (rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0)
            return 1;
    }
    return 0;
}

vdr_nbd_export *vdr_nbd_exports_find(vdr_nbd_exports *exports, const uint8_t id[16])
{
    vdr_nbd_export *found = NULL;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count && !found; i++)
        if (memcmp(exports->items[i]->spec.id, id, 16) == 0)
            found = exports->items[i];
    if (found)
        found->users++;
    pthread_rwlock_unlock(&exports->lock);
    return found;
}

static int is_named(const vdr_nbd_export *export, const uint8_t *name, size_t bytes)
{
    return bytes == 0 || (strlen(export->spec.name) == bytes && memcmp(export->spec.name, name, bytes) == 0);
}

vdr_nbd_export *vdr_nbd_exports_find_name(vdr_nbd_exports *exports, const uint8_t address[16], const uint8_t *name,
                                          size_t bytes)
{
    vdr_nbd_export *found = NULL;
    size_t count = 0;
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++)
        if (is_named(exports->items[i], name, bytes) && is_allowed(exports->items[i], address)) {
            found = exports->items[i];
            count++;
        }
    if (count != 1)
        found = NULL;
    if (found)
        found->users++;
    pthread_rwlock_unlock(&exports->lock);
    return found;
}

void vdr_nbd_exports_release(vdr_nbd_exports *exports, vdr_nbd_export *export)
{
    /* Inside the lock: a remover that sees nobody left frees the export. */
    pthread_mutex_lock(&exports->idle_lock);
    if (--export->users == 0)
        pthread_cond_broadcast(&exports->idle);
    pthread_mutex_unlock(&exports->idle_lock);
}

void vdr_nbd_exports_list(vdr_nbd_exports *exports, const uint8_t address[16],
                          void (*tell)(void *context, const char *name), void *context)
{
    pthread_rwlock_rdlock(&exports->lock);
    for (size_t i = 0; i < exports->count; i++)
        if (is_allowed(exports->items[i], address))
            tell(context, exports->items[i]->spec.name);
    pthread_rwlock_unlock(&exports->lock);
}

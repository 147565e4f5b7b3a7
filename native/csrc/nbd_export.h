/* The exports of the NBD server: which disk is served under which name, to whom, and whether it may be written.
 *
 * Connections know an export by its id and find it for every request, so it can end while they last. */
#ifndef VDR_NBD_EXPORT_H
#define VDR_NBD_EXPORT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "disk.h"

/* cffi: begin */
enum { VDR_NBD_NETWORKS_MAX = 16, VDR_NBD_NAME_BYTES = 128, VDR_NBD_EXPORTS_MAX = 4096 };

typedef struct {
    uint8_t address[16];   /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    uint32_t prefix_bits;  /* of the 128 */
} vdr_nbd_network;

typedef struct {
    uint8_t id[16];
    char name[128];
    uint32_t is_writable;
    uint32_t network_count;
    vdr_nbd_network networks[16];  /* clients that may use it */
} vdr_nbd_export_spec;
/* cffi: end */

typedef struct {
    vdr_nbd_export_spec spec;
    vdr_disk *disk;
    uint64_t size_bytes;
    _Atomic uint64_t users;
} vdr_nbd_export;

typedef struct {
    pthread_rwlock_t lock;
    pthread_mutex_t idle_lock;
    pthread_cond_t idle;
    vdr_nbd_export **items;
    size_t count;
} vdr_nbd_exports;

int vdr_nbd_exports_open(vdr_nbd_exports *exports);
void vdr_nbd_exports_close(vdr_nbd_exports *exports);

/* Add an export of `disk` (retained). VDR_E_ARGUMENT: no name, or the id or name is taken, or the table is full. */
int vdr_nbd_exports_add(vdr_nbd_exports *exports, const vdr_nbd_export_spec *spec, vdr_disk *disk);

/* Remove; returns when no request uses the disk any more. VDR_E_MISSING: there is no such export. */
int vdr_nbd_exports_remove(vdr_nbd_exports *exports, const uint8_t id[16]);

/* The export, to be released, or NULL. Only what `address` may use is found by name; the empty name is the only one. */
vdr_nbd_export *vdr_nbd_exports_find(vdr_nbd_exports *exports, const uint8_t id[16]);
vdr_nbd_export *vdr_nbd_exports_find_name(vdr_nbd_exports *exports, const uint8_t address[16], const uint8_t *name,
                                          size_t bytes);
void vdr_nbd_exports_release(vdr_nbd_exports *exports, vdr_nbd_export *export);

/* Tell the names that `address` may use, in the order in which they were added. */
void vdr_nbd_exports_list(vdr_nbd_exports *exports, const uint8_t address[16],
                          void (*tell)(void *context, const char *name), void *context);

#endif

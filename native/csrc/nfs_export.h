/* The exports of the NFS server: which disk is served under which name, to whom, and how writes to it are.
 *
 * Handles carry an export's id and not its place in the table, so they survive a restart and changes of the table. */
#ifndef VDR_NFS_EXPORT_H
#define VDR_NFS_EXPORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "disk.h"
#include "nfs_event.h"
#include "nfs_scratch.h"

/* cffi: begin */
enum { VDR_NFS_NETWORKS_MAX = 16, VDR_NFS_NAME_BYTES = 128, VDR_NFS_EXPORTS_MAX = 4096 };

typedef struct {
    uint8_t address[16];   /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    uint32_t prefix_bits;  /* of the 128 */
    char text[64];         /* as EXPORT shows it */
} vdr_nfs_network;

typedef struct {
    uint8_t id[16];        /* unique and the same after a restart: handles are made of it */
    char name[128];        /* name of the directory, without '/' */
    uint32_t is_writable;
    uint32_t network_count;
    uint64_t modified_ns;  /* mtime to begin with, ns since the epoch */
    char disk_name[128];   /* what the disk is called, or with a scratch was called at first; empty: disk.raw */
    uint32_t owner_uid, owner_gid;  /* whose all files appear to be: every client's user is mapped to it */
    uint32_t has_scratch;  /* clients may make files beside the disk */
    int32_t scratch_fd;    /* directory for them, duplicated */
    uint64_t scratch_bytes_max, scratch_files_max;
    vdr_nfs_network networks[16];  /* clients that may use it */
} vdr_nfs_export_spec;
/* cffi: end */

enum { VDR_NFS_EXPORT_REMOVED = 1 << 30 };

#define VDR_NFS_DISK_NAME "disk.raw"

typedef struct {
    vdr_nfs_export_spec spec;
    vdr_disk *disk;
    vdr_nfs_scratch *scratch;    /* NULL: nothing but the disk, and nothing can be made */
    uint64_t size_bytes;
    uint64_t cookie;             /* of its entry in the root directory; grows with every addition */
    uint64_t file_number;        /* even and unique as far as ids are: its directory; + 1: its disk */
    uint8_t write_verifier[8];   /* changes whenever unstable writes may have been lost */
    _Atomic uint64_t modified_ns;
    atomic_uint users;           /* and VDR_NFS_EXPORT_REMOVED */
    unsigned cache_level, scratch_level;  /* percent last told of, by vdr_nfs_exports_watch */
} vdr_nfs_export;

typedef struct {
    pthread_rwlock_t lock;
    pthread_mutex_t idle_lock;
    pthread_cond_t idle;
    vdr_nfs_export **items;      /* in order of their cookies */
    size_t count;
    uint64_t next_cookie;
    _Atomic uint64_t modified_ns;
    unsigned space_level;
} vdr_nfs_exports;

int vdr_nfs_exports_open(vdr_nfs_exports *exports);
void vdr_nfs_exports_close(vdr_nfs_exports *exports);

/* Add an export of `disk` (retained). VDR_E_ARGUMENT: bad name, or the id or name is taken, or the table is full. Errors of
 * vdr_nfs_scratch_open. `key` is for the cookies of its scratch. */
int vdr_nfs_exports_add(vdr_nfs_exports *exports, const vdr_nfs_export_spec *spec, vdr_disk *disk,
                        const uint8_t key[VDR_SIPHASH_KEY_BYTES]);

/* Remove; returns when no call uses the disk any more. VDR_E_MISSING: there is no such export. */
int vdr_nfs_exports_remove(vdr_nfs_exports *exports, const uint8_t id[16]);

/* The export, to be released, or NULL. `after` finds the first whose cookie is higher. */
vdr_nfs_export *vdr_nfs_exports_find(vdr_nfs_exports *exports, const uint8_t id[16]);
vdr_nfs_export *vdr_nfs_exports_find_name(vdr_nfs_exports *exports, const uint8_t *name, size_t bytes);
vdr_nfs_export *vdr_nfs_exports_find_after(vdr_nfs_exports *exports, uint64_t cookie);
void vdr_nfs_exports_release(vdr_nfs_exports *exports, vdr_nfs_export *export);

int vdr_nfs_export_allows(const vdr_nfs_export *export, const uint8_t address[16]);

/* Tell of caches, scratches and the file system of `space_fd` (-1: none) that have become 80, 90, 95 or 100% full since the
 * last call. For one thread. */
void vdr_nfs_exports_watch(vdr_nfs_exports *exports, vdr_nfs_events *events, int space_fd);

/* Bytes of all exported disks. */
uint64_t vdr_nfs_exports_size_bytes(vdr_nfs_exports *exports);

#endif

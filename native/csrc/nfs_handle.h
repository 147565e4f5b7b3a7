/* File handles: 48 bytes that say which object, the same after a restart, with a MAC so that they can only be had from us. */
#ifndef VDR_NFS_HANDLE_H
#define VDR_NFS_HANDLE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "nfs_scratch.h"
#include "siphash.h"

enum {
    VDR_NFS_HANDLE_BYTES = 48,
    VDR_NFS_HANDLE_BYTES_MAX = 64, /* that the protocol allows */
};

typedef enum {
    VDR_NFS_NOTHING = 0, /* of a handle that was refused */
    VDR_NFS_ROOT = 1,
    VDR_NFS_DIRECTORY = 2, /* of an export */
    VDR_NFS_DISK = 3,
    VDR_NFS_FILE = 4, /* file, directory or link in the export's scratch */
} vdr_nfs_object_kind;

typedef struct {
    vdr_nfs_object_kind kind;
    uint8_t export_id[16]; /* zero for the root */
    vdr_nfs_file file;     /* zero for what is not in a scratch */
} vdr_nfs_handle;

typedef struct {
    uint8_t magic[4];
    uint8_t kind;
    uint8_t reserved[3];
    uint8_t export_id[16];
    uint64_t inode, generation;
    uint64_t mac;
} vdr_nfs_handle_record;

_Static_assert(sizeof(vdr_nfs_handle_record) == VDR_NFS_HANDLE_BYTES, "handle layout");

static inline void vdr_nfs_handle_make(const uint8_t key[VDR_SIPHASH_KEY_BYTES], const vdr_nfs_handle *handle,
                                       uint8_t bytes[VDR_NFS_HANDLE_BYTES])
{
    vdr_nfs_handle_record record = {.magic = {'V', 'N', 'H', 2},
                                    .kind = (uint8_t)handle->kind,
                                    .inode = htole64(handle->file.inode),
                                    .generation = htole64(handle->file.generation)};
    memcpy(record.export_id, handle->export_id, sizeof record.export_id);
    record.mac = htole64(vdr_siphash(key, &record, offsetof(vdr_nfs_handle_record, mac)));
    memcpy(bytes, &record, sizeof record);
}

/* 1 and the parts, or 0 for bytes that no server with this key gave out. */
static inline int vdr_nfs_handle_parse(const uint8_t key[VDR_SIPHASH_KEY_BYTES], const uint8_t *bytes, size_t length,
                                       vdr_nfs_handle *handle)
{
    vdr_nfs_handle_record record;
    uint8_t made[VDR_NFS_HANDLE_BYTES];
    if (length != sizeof record)
        return 0;
    memcpy(&record, bytes, sizeof record);
    if (record.kind < VDR_NFS_ROOT || record.kind > VDR_NFS_FILE)
        return 0;
    *handle = (vdr_nfs_handle){.kind = (vdr_nfs_object_kind)record.kind,
                               .file = {le64toh(record.inode), le64toh(record.generation)}};
    memcpy(handle->export_id, record.export_id, sizeof handle->export_id);
    vdr_nfs_handle_make(key, handle, made);
    uint8_t differing = 0;
    for (size_t i = 0; i < sizeof made; i++)
        differing |= (uint8_t)(made[i] ^ bytes[i]);
    return differing == 0;
}

#endif

/* An NFS service over memory disks, and one valid call of every procedure, for tests and the fuzzer. */
#ifndef VDR_TEST_NFS_FIXTURE_H
#define VDR_TEST_NFS_FIXTURE_H

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>

#include "disk_memory.h"
#include "err.h"
#include "nfs_call.h"
#include "nfs_handle.h"
#include "nfs_record.h"
#include "nfs_service.h"

enum { DISK_BYTES = (1 << 20) + 100, CALL_BYTES_MAX = 4096, CALLS = 62 };

static const uint8_t handle_key[VDR_SIPHASH_KEY_BYTES] = "the handles key";

typedef struct {
    vdr_nfs_service service;
    vdr_nfs_client client;
    vdr_disk *disk;
    char scratch[32];
    vdr_nfs_file file;  /* in the scratch of export d */
} nfs_fixture;

/* In memory: what matters is not on disk, and syncing it would take the fuzzer's time. */
static inline void open_scratch(nfs_fixture *f, vdr_nfs_export_spec *spec)
{
    strcpy(f->scratch, "/dev/shm/vdr-nfs-XXXXXX");
    assert(mkdtemp(f->scratch));
    spec->has_scratch = 1;
    spec->scratch_fd = open(f->scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(spec->scratch_fd >= 0);
    spec->scratch_bytes_max = 1 << 20;
    spec->scratch_files_max = 200;
}

static inline void nfs_fixture_open(nfs_fixture *f)
{
    assert(vdr_nfs_service_open(&f->service, -1, handle_key) == VDR_OK);
    assert(vdr_disk_memory_open(DISK_BYTES, &f->disk) == VDR_OK);
    f->service.nfs_port = 2049;
    f->service.mount_port = 20048;
    f->client = (vdr_nfs_client){.name = "tester", .programs = VDR_NFS_PORTMAP | VDR_NFS_MOUNT | VDR_NFS_NFS};
    for (int i = 0; i < 4; i++) {
        vdr_nfs_export_spec spec = {.is_writable = i != 1, .network_count = 1, .modified_ns = 1700000000000000000u};
        memset(spec.id, 'a' + i, sizeof spec.id);
        snprintf(spec.name, sizeof spec.name, "export-%d", i);
        if (i == 2) /* not for this client */
            spec.networks[0] = (vdr_nfs_network){.address = {1}, .prefix_bits = 128};
        if (i == 3)
            open_scratch(f, &spec);
        assert(vdr_nfs_service_export(&f->service, &spec, f->disk) == VDR_OK);
        if (i == 3)
            close(spec.scratch_fd);
    }
    vdr_nfs_export *export = vdr_nfs_exports_find_name(&f->service.exports, (const uint8_t *)"export-3", 8);
    vdr_nfs_node_kind kind;
    int is_new;
    assert(vdr_nfs_scratch_create(export->scratch, (vdr_nfs_file){0, 0}, "file", 4, VDR_NFS_CREATE_GUARDED, 0600, 0,
                                  &f->file, &kind, &is_new) == 0);
    vdr_nfs_exports_release(&f->service.exports, export);
}

static inline void nfs_fixture_close(nfs_fixture *f)
{
    char remove[64];
    vdr_nfs_service_close(&f->service);
    vdr_disk_close(f->disk);
    snprintf(remove, sizeof remove, "rm -r %s", f->scratch);
    assert(system(remove) == 0);
}

static inline void write_call_header(vdr_xdr_writer *out, uint32_t program, uint32_t version, uint32_t procedure)
{
    const uint32_t head[] = {7, 0, 2, program, version, procedure, VDR_RPC_AUTH_SYS, 32, 0};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        vdr_xdr_write_u32(out, head[i]);
    vdr_xdr_write_opaque(out, "machine", 7);
    for (int i = 0; i < 2; i++)
        vdr_xdr_write_u32(out, 0);
    vdr_xdr_write_u32(out, 1);
    vdr_xdr_write_u32(out, 0);
    for (int i = 0; i < 2; i++)
        vdr_xdr_write_u32(out, 0);
}

static inline void write_handle_of(vdr_xdr_writer *out, vdr_nfs_object_kind kind, char id)
{
    uint8_t bytes[VDR_NFS_HANDLE_BYTES];
    vdr_nfs_handle handle = {.kind = kind};
    memset(handle.export_id, id, sizeof handle.export_id);
    if (kind == VDR_NFS_FILE)
        handle.file.inode = 1; /* see repair_handles */
    vdr_nfs_handle_make(handle_key, &handle, bytes);
    vdr_xdr_write_opaque(out, bytes, sizeof bytes);
}

/* Make handles valid whose MAC is not, so that damage gets past it: inode 1 becomes the fixture's file. */
static inline void repair_handles(const nfs_fixture *f, uint8_t *record, size_t bytes)
{
    for (size_t at = 0; at + VDR_NFS_HANDLE_BYTES <= bytes; at += 4) {
        vdr_nfs_handle_record found;
        memcpy(&found, record + at, sizeof found);
        if (memcmp(found.magic, "VNH\2", 4) != 0)
            continue;
        vdr_nfs_handle handle = {.kind = (vdr_nfs_object_kind)found.kind, .file = {found.inode, found.generation}};
        memcpy(handle.export_id, found.export_id, sizeof handle.export_id);
        if (handle.file.inode == 1)
            handle.file = f->file;
        vdr_nfs_handle_make(handle_key, &handle, record + at);
    }
}

/* Valid call number `number` < CALLS into `bytes`; returns its length. */
static inline size_t make_call(unsigned number, uint8_t bytes[CALL_BYTES_MAX])
{
    static const char data[700] = "data";
    vdr_xdr_writer out = {bytes, bytes + CALL_BYTES_MAX, 0};
    uint32_t procedure = number;
    int is_scratch = number >= 40; /* every procedure of NFS again, in a scratch */
    if (is_scratch)
        procedure = number -= 40;
    if (number >= 34) {
        procedure = number - 34;
        write_call_header(&out, 100005, 3, procedure);
        if (procedure == 1 || procedure == 3)
            vdr_xdr_write_opaque(&out, "/export-1", 9);
        return (size_t)(out.next - bytes);
    }
    if (number >= 29) {
        procedure = number - 29;
        write_call_header(&out, 100000, 2, procedure);
        const uint32_t mapping[] = {100003, 3, 6, 0};
        for (int i = 0; i < 4 && (procedure == 1 || procedure == 2 || procedure == 3); i++)
            vdr_xdr_write_u32(&out, mapping[i]);
        return (size_t)(out.next - bytes);
    }
    if (number >= 22) /* the rest again, of other objects */
        procedure = (uint32_t[]){3, 6, 7, 16, 17, 1, 21}[number - 22];
    write_call_header(&out, 100003, 3, procedure);
    int is_again = number >= 22;
    switch (procedure) {
    case 0:
        break;
    case 3: case 8: case 9: case 10: case 11: case 12: case 13: case 14: /* a directory and a name */
        write_handle_of(&out, is_again ? VDR_NFS_ROOT : VDR_NFS_DIRECTORY, is_again ? 0 : is_scratch ? 'd' : 'a');
        vdr_xdr_write_opaque(&out, is_again ? "export-1" : is_scratch ? "new.file" : VDR_NFS_DISK_NAME, 8);
        break;
    case 16: case 17:
        write_handle_of(&out, is_again || is_scratch ? VDR_NFS_DIRECTORY : VDR_NFS_ROOT,
                        is_scratch ? 'd' : is_again ? 'a' : 0);
        break;
    default:
        write_handle_of(&out, is_scratch ? VDR_NFS_FILE : VDR_NFS_DISK, is_scratch ? 'd' : is_again ? 'c' : 'a');
    }
    switch (procedure) {
    case 2: /* SETATTR: no size, no guard */
        for (int i = 0; i < 7; i++)
            vdr_xdr_write_u32(&out, 0);
        break;
    case 4:
        vdr_xdr_write_u32(&out, 63);
        break;
    case 6:
        vdr_xdr_write_u64(&out, 4096);
        vdr_xdr_write_u32(&out, 8192);
        break;
    case 7:
        vdr_xdr_write_u64(&out, 5000);
        vdr_xdr_write_u32(&out, sizeof data);
        vdr_xdr_write_u32(&out, 2);
        vdr_xdr_write_opaque(&out, data, sizeof data);
        break;
    case 8:
        vdr_xdr_write_u32(&out, 0);
        for (int i = 0; i < 6; i++)
            vdr_xdr_write_u32(&out, 0);
        break;
    case 9: case 10: case 11: /* mode 0700; of a pipe */
        if (procedure == 11)
            vdr_xdr_write_u32(&out, 7);
        vdr_xdr_write_u32(&out, 1);
        vdr_xdr_write_u32(&out, 0700);
        for (int i = 0; i < 5; i++)
            vdr_xdr_write_u32(&out, 0);
        if (procedure == 10)
            vdr_xdr_write_opaque(&out, "../target", 9);
        break;
    case 14: case 15:
        write_handle_of(&out, VDR_NFS_DIRECTORY, is_scratch ? 'd' : 'a');
        vdr_xdr_write_opaque(&out, "new", 3);
        break;
    case 16: case 17:
        vdr_xdr_write_u64(&out, 0);
        vdr_xdr_write_u64(&out, 0);
        vdr_xdr_write_u32(&out, 4096);
        if (procedure == 17)
            vdr_xdr_write_u32(&out, 8192);
        break;
    case 21:
        vdr_xdr_write_u64(&out, 0);
        vdr_xdr_write_u32(&out, 0);
        break;
    default:
        break;
    }
    return (size_t)(out.next - bytes);
}

/* Answer a record and check what must hold of any answer. */
static inline int64_t answer_checked(nfs_fixture *f, const uint8_t *record, size_t bytes, uint8_t *reply)
{
    int64_t length = vdr_nfs_service_answer(&f->service, &f->client, record, bytes, reply, VDR_NFS_RECORD_BYTES_MAX);
    if (length >= 0) {
        uint32_t mark = (uint32_t)reply[0] << 24 | (uint32_t)reply[1] << 16 | (uint32_t)reply[2] << 8 | reply[3];
        assert(length >= 24 && length <= VDR_NFS_RECORD_BYTES_MAX && length % 4 == 0);
        assert(mark == ((uint32_t)(length - 4) | 0x80000000u));
        assert(memcmp(reply + 4, record, 4) == 0);
    }
    return length;
}

#endif

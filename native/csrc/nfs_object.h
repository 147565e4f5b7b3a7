/* What NFS calls are about: the root, an export's directory, its disk, files in its scratch. Handles that name them, attributes
 * that describe them, statuses that refuse them. */
#ifndef VDR_NFS_OBJECT_H
#define VDR_NFS_OBJECT_H

#include "nfs_call.h"
#include "nfs_handle.h"

typedef enum {
    NFS3_OK = 0,
    NFS3ERR_PERM = 1,
    NFS3ERR_NOENT = 2,
    NFS3ERR_IO = 5,
    NFS3ERR_ACCES = 13,
    NFS3ERR_EXIST = 17,
    NFS3ERR_XDEV = 18,
    NFS3ERR_NOTDIR = 20,
    NFS3ERR_ISDIR = 21,
    NFS3ERR_INVAL = 22,
    NFS3ERR_FBIG = 27,
    NFS3ERR_NOSPC = 28,
    NFS3ERR_ROFS = 30,
    NFS3ERR_MLINK = 31,
    NFS3ERR_NAMETOOLONG = 63,
    NFS3ERR_NOTEMPTY = 66,
    NFS3ERR_DQUOT = 69,
    NFS3ERR_STALE = 70,
    NFS3ERR_BADHANDLE = 10001,
    NFS3ERR_NOT_SYNC = 10002,
    NFS3ERR_BAD_COOKIE = 10003,
    NFS3ERR_NOTSUPP = 10004,
    NFS3ERR_TOOSMALL = 10005,
    NFS3ERR_SERVERFAULT = 10006,
} vdr_nfs_status;

enum {
    VDR_NFS_TYPE_FILE = 1,
    VDR_NFS_TYPE_DIRECTORY = 2,
    VDR_NFS_TYPE_LINK = 5,
    VDR_NFS_NAME_BYTES_MAX = 255,
};

/* A file or directory, held: its export stays while the call uses it. */
typedef struct {
    vdr_nfs_object_kind kind;
    vdr_nfs_export *export; /* NULL for the root */
    vdr_nfs_file file;      /* of a file in the scratch; zero for the export's directory */
} vdr_nfs_object;

typedef struct {
    uint32_t type, mode, links, uid, gid;
    uint64_t size_bytes, stored_bytes, file_number;
    uint64_t accessed_ns, modified_ns, changed_ns;
} vdr_nfs_attributes;

/* Read a handle and hold what it names. The object must be released whatever the status. */
vdr_nfs_status vdr_nfs_object_read(vdr_nfs_call *call, vdr_nfs_object *found);
void vdr_nfs_object_release(vdr_nfs_call *call, vdr_nfs_object *held);
void vdr_nfs_object_write_handle(vdr_nfs_call *call, const vdr_nfs_object *of);

/* 1 if it is a directory in which names can be looked up: the scratch's, or one whose entries are fixed. */
int vdr_nfs_object_is_scratch(const vdr_nfs_object *of);

/* 0 when there are none: the object is not known, or gone. */
int vdr_nfs_object_attributes(const vdr_nfs_call *call, const vdr_nfs_object *of, vdr_nfs_attributes *attributes);
void vdr_nfs_write_attributes(vdr_nfs_call *call, const vdr_nfs_attributes *attributes);

/* post_op_attr of the object as it is now. */
void vdr_nfs_write_optional(vdr_nfs_call *call, const vdr_nfs_object *of);

/* wcc_data: what the object was before and is after, so that a client can tell its own change from another's. */
typedef struct {
    int is_known;
    vdr_nfs_attributes attributes;
} vdr_nfs_before;

vdr_nfs_before vdr_nfs_remember(const vdr_nfs_call *call, const vdr_nfs_object *of);
void vdr_nfs_write_change(vdr_nfs_call *call, const vdr_nfs_object *of, const vdr_nfs_before *before);
void vdr_nfs_write_no_change(vdr_nfs_call *call, const vdr_nfs_object *of);

/* The object that a file of an export's scratch is; it holds nothing of its own. */
vdr_nfs_object vdr_nfs_object_in(const vdr_nfs_object *directory, vdr_nfs_file file, vdr_nfs_node_kind kind);

uint64_t vdr_nfs_file_number(const vdr_nfs_object *of);
const uint8_t *vdr_nfs_read_name(vdr_nfs_call *call, uint32_t *bytes);
vdr_nfs_status vdr_nfs_status_of(int number);

/* What a client is told of a disk that failed. A lower disk's damage is an I/O error to it and an event to us. */
vdr_nfs_status vdr_nfs_disk_status(vdr_nfs_call *call, const vdr_nfs_object *disk, int error, const char *what,
                                   uint64_t offset);

/* Procedures that make, change and list names (nfs_names.c). */
void vdr_nfs_lookup(vdr_nfs_call *call);
void vdr_nfs_create(vdr_nfs_call *call);
void vdr_nfs_mkdir(vdr_nfs_call *call);
void vdr_nfs_symlink(vdr_nfs_call *call);
void vdr_nfs_mknod(vdr_nfs_call *call);
void vdr_nfs_remove(vdr_nfs_call *call, int is_directory);
void vdr_nfs_rename(vdr_nfs_call *call);
void vdr_nfs_link(vdr_nfs_call *call);

/* READDIR and READDIRPLUS (nfs_list.c). */
void vdr_nfs_list(vdr_nfs_call *call, int is_plus);

/* sattr3 and what becomes of it (nfs_setattr.c). */
typedef struct {
    int sets_mode, sets_uid, sets_gid, sets_size, sets_accessed, sets_modified;
    uint32_t mode, uid, gid;
    uint64_t size_bytes, accessed_ns, modified_ns;
} vdr_nfs_wanted;

vdr_nfs_wanted vdr_nfs_read_wanted(vdr_nfs_call *call);

/* `guard_ns` 0: none. */
vdr_nfs_status vdr_nfs_apply_wanted(vdr_nfs_call *call, const vdr_nfs_object *of, const vdr_nfs_wanted *wanted,
                                    uint64_t guard_ns);
void vdr_nfs_setattr(vdr_nfs_call *call);

#endif

/* One call as the programs see it: decoded header, arguments to read, results to write. */
#ifndef VDR_NFS_CALL_H
#define VDR_NFS_CALL_H

#include "nfs_service.h"
#include "xdr.h"

enum {
    VDR_RPC_AUTH_NONE = 0,
    VDR_RPC_AUTH_SYS = 1,
};

/* accept_stat of RFC 5531: what became of a call that was understood. */
typedef enum {
    VDR_RPC_SUCCESS = 0,
    VDR_RPC_PROG_UNAVAIL = 1,
    VDR_RPC_PROG_MISMATCH = 2,
    VDR_RPC_PROC_UNAVAIL = 3,
    VDR_RPC_GARBAGE_ARGS = 4,
    VDR_RPC_SYSTEM_ERR = 5,
} vdr_rpc_status;

typedef struct {
    vdr_nfs_service *service;
    const vdr_nfs_client *client;
    uint32_t xid, program, version, procedure;
    uint32_t credential;   /* VDR_RPC_AUTH_* */
    vdr_xdr_reader in;
    vdr_xdr_writer out;
} vdr_nfs_call;

/* Each runs one procedure: reads call->in to its end, writes its results to call->out. Results written before a status
 * other than SUCCESS are dropped, and so are those of arguments that turn out to be short. */
vdr_rpc_status vdr_nfs_portmap_call(vdr_nfs_call *call);
vdr_rpc_status vdr_nfs_mount_call(vdr_nfs_call *call);
vdr_rpc_status vdr_nfs_three_call(vdr_nfs_call *call);

/* A procedure of NFS that, run twice, does not answer the same twice. */
int vdr_nfs_three_must_not_repeat(uint32_t procedure);

/* What clients have mounted, as they tell it: for DUMP, nothing depends on it. */
int vdr_nfs_mounts_open(vdr_nfs_mounts **mounts);
void vdr_nfs_mounts_close(vdr_nfs_mounts *mounts);

enum { VDR_NFS_PATH_BYTES_MAX = 1024 };

#endif

/* PORTMAP version 2 (RFC 1833): tells where MOUNT and NFS listen. Registering is refused, forwarding not served. */
#include "nfs_call.h"

enum {
    PMAP_NULL = 0,
    PMAP_SET = 1,
    PMAP_UNSET = 2,
    PMAP_GETPORT = 3,
    PMAP_DUMP = 4,
    PROTOCOL_TCP = 6,
    REGISTRATIONS = 3,
};

typedef struct {
    uint32_t program, version, protocol, port;
} mapping;

static void list_mappings(const vdr_nfs_service *service, mapping list[REGISTRATIONS])
{
    list[0] = (mapping){100000, 2, PROTOCOL_TCP, service->portmap_port};
    list[1] = (mapping){100003, 3, PROTOCOL_TCP, service->nfs_port};
    list[2] = (mapping){100005, 3, PROTOCOL_TCP, service->mount_port};
}

static mapping read_mapping(vdr_xdr_reader *in)
{
    mapping found;
    found.program = vdr_xdr_read_u32(in);
    found.version = vdr_xdr_read_u32(in);
    found.protocol = vdr_xdr_read_u32(in);
    found.port = vdr_xdr_read_u32(in);
    return found;
}

vdr_rpc_status vdr_nfs_portmap_call(vdr_nfs_call *call)
{
    mapping list[REGISTRATIONS];
    list_mappings(call->service, list);
    switch (call->procedure) {
    case PMAP_NULL:
        return VDR_RPC_SUCCESS;
    case PMAP_SET:
    case PMAP_UNSET:
        read_mapping(&call->in);
        vdr_xdr_write_u32(&call->out, 0);
        return VDR_RPC_SUCCESS;
    case PMAP_GETPORT: {
        mapping asked = read_mapping(&call->in);
        uint32_t port = 0;
        for (int i = 0; i < REGISTRATIONS; i++)
            if (list[i].program == asked.program && list[i].version == asked.version &&
                list[i].protocol == asked.protocol)
                port = list[i].port;
        vdr_xdr_write_u32(&call->out, port);
        return VDR_RPC_SUCCESS;
    }
    case PMAP_DUMP:
        for (int i = 0; i < REGISTRATIONS; i++) {
            if (!list[i].port)
                continue;
            vdr_xdr_write_u32(&call->out, 1);
            vdr_xdr_write_u32(&call->out, list[i].program);
            vdr_xdr_write_u32(&call->out, list[i].version);
            vdr_xdr_write_u32(&call->out, list[i].protocol);
            vdr_xdr_write_u32(&call->out, list[i].port);
        }
        vdr_xdr_write_u32(&call->out, 0);
        return VDR_RPC_SUCCESS;
    default:
        return VDR_RPC_PROC_UNAVAIL;
    }
}

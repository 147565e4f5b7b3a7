#include "nfs_service.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "nfs_call.h"
#include "nfs_record.h"

enum {
    CALL = 0,
    REPLY = 1,
    MSG_ACCEPTED = 0,
    MSG_DENIED = 1,
    RPC_MISMATCH = 0,
    AUTH_ERROR = 1,
    AUTH_BADCRED = 1,
    AUTH_BADVERF = 3,
    AUTH_TOOWEAK = 5,
    RPC_VERSION = 2,
    AUTH_BYTES_MAX = 400,
    MACHINE_NAME_BYTES_MAX = 255,
    GROUPS_MAX = 16,
    NFS_PROGRAM = 100003,
    NFS_COMMIT = 21,
};

typedef struct {
    uint32_t number, version;
    uint32_t mask;
    vdr_rpc_status (*call)(vdr_nfs_call *call);
} program;

static const program programs[] = {
    {100000, 2, VDR_NFS_PORTMAP, vdr_nfs_portmap_call},
    {NFS_PROGRAM, 3, VDR_NFS_NFS, vdr_nfs_three_call},
    {100005, 3, VDR_NFS_MOUNT, vdr_nfs_mount_call},
};

int vdr_nfs_service_open(vdr_nfs_service *service, int space_fd, const uint8_t handle_key[VDR_SIPHASH_KEY_BYTES])
{
    memset(service, 0, sizeof *service);
    service->space_fd = space_fd;
    memcpy(service->handle_key, handle_key, sizeof service->handle_key);
    int error = vdr_nfs_exports_open(&service->exports);
    if (error)
        return error;
    error = vdr_nfs_events_open(&service->events);
    if (!error && (error = vdr_nfs_mounts_open(&service->mounts)))
        vdr_nfs_events_close(service->events);
    if (!error && (error = vdr_nfs_replay_open(&service->replay))) {
        vdr_nfs_mounts_close(service->mounts);
        vdr_nfs_events_close(service->events);
    }
    if (error)
        vdr_nfs_exports_close(&service->exports);
    return error;
}

void vdr_nfs_service_close(vdr_nfs_service *service)
{
    vdr_nfs_replay_close(service->replay);
    vdr_nfs_mounts_close(service->mounts);
    vdr_nfs_events_close(service->events);
    vdr_nfs_exports_close(&service->exports);
}

int vdr_nfs_service_export(vdr_nfs_service *service, const vdr_nfs_export_spec *spec, vdr_disk *disk)
{
    /* A key of its own for cookies: clients choose names, and must not learn a MAC of theirs under the handles' key. */
    uint64_t key[2];
    for (uint8_t i = 0; i < 2; i++)
        key[i] = htole64(vdr_siphash(service->handle_key, &(uint8_t[]){'c', i}, 2));
    return vdr_nfs_exports_add(&service->exports, spec, disk, (const uint8_t *)key);
}

/* An AUTH_SYS body: stamp, machine name, uid, gid, gids. Who the user is does not matter (access is given by client address,
 * and every user is mapped to the export's owner), but a body that is none is refused. */
static int auth_sys_is_valid(const uint8_t *body, uint32_t bytes)
{
    vdr_xdr_reader in = {body, body + bytes, 0};
    uint32_t name_bytes;
    vdr_xdr_read_u32(&in);
    vdr_xdr_read_opaque(&in, MACHINE_NAME_BYTES_MAX, &name_bytes);
    vdr_xdr_read_u32(&in);
    vdr_xdr_read_u32(&in);
    uint32_t groups = vdr_xdr_read_u32(&in);
    if (groups > GROUPS_MAX)
        return 0;
    vdr_xdr_read_fixed(&in, 4 * (size_t)groups);
    return !in.is_bad && in.next == in.end;
}

static void begin_reply(vdr_nfs_call *call, uint8_t *reply, size_t capacity, uint32_t reply_status)
{
    call->out = (vdr_xdr_writer){reply, reply + capacity, 0};
    vdr_xdr_write_u32(&call->out, 0); /* the record mark, when the length is known */
    vdr_xdr_write_u32(&call->out, call->xid);
    vdr_xdr_write_u32(&call->out, REPLY);
    vdr_xdr_write_u32(&call->out, reply_status);
}

static int64_t end_reply(vdr_nfs_call *call, uint8_t *reply)
{
    size_t bytes = (size_t)(call->out.next - reply);
    vdr_xdr_writer mark = {reply, reply + 4, 0};
    vdr_xdr_write_u32(&mark, (uint32_t)(bytes - 4) | 0x80000000u);
    return (int64_t)bytes;
}

static int64_t deny(vdr_nfs_call *call, uint8_t *reply, size_t capacity, uint32_t reason, uint32_t first,
                    uint32_t second)
{
    begin_reply(call, reply, capacity, MSG_DENIED);
    vdr_xdr_write_u32(&call->out, reason);
    vdr_xdr_write_u32(&call->out, first);
    if (reason == RPC_MISMATCH)
        vdr_xdr_write_u32(&call->out, second);
    call->service->refused_calls++;
    vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_BAD_CALL, call->client->name,
                        reason == RPC_MISMATCH ? "call of an unknown RPC version" : "credentials refused: %u", first);
    return end_reply(call, reply);
}

static void begin_accepted(vdr_nfs_call *call, uint8_t *reply, size_t capacity, vdr_rpc_status status)
{
    begin_reply(call, reply, capacity, MSG_ACCEPTED);
    vdr_xdr_write_u32(&call->out, VDR_RPC_AUTH_NONE);
    vdr_xdr_write_u32(&call->out, 0);
    vdr_xdr_write_u32(&call->out, status);
}

static int64_t refuse(vdr_nfs_call *call, uint8_t *reply, size_t capacity, vdr_rpc_status status, uint32_t version)
{
    static const char *const reasons[] = {"", "program not served", "program version not served",
                                          "procedure not served", "malformed arguments", "answer too long"};
    begin_accepted(call, reply, capacity, status);
    if (status == VDR_RPC_PROG_MISMATCH) {
        vdr_xdr_write_u32(&call->out, version);
        vdr_xdr_write_u32(&call->out, version);
    }
    call->service->refused_calls++;
    /* Clients probe for programs and versions as a matter of course. */
    if (status >= VDR_RPC_PROC_UNAVAIL)
        vdr_nfs_events_tell(call->service->events, VDR_NFS_EVENT_BAD_CALL, call->client->name,
                            "%s: program %u version %u procedure %u", reasons[status], call->program, call->version,
                            call->procedure);
    return end_reply(call, reply);
}

static const program *find_program(const vdr_nfs_call *call)
{
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
        if (programs[i].number == call->program && (programs[i].mask & call->client->programs))
            return &programs[i];
    return NULL;
}

static int64_t run(vdr_nfs_call *call, const program *found, uint8_t *reply, size_t capacity)
{
    begin_accepted(call, reply, capacity, VDR_RPC_SUCCESS);
    vdr_rpc_status status = found->call(call);
    if (status == VDR_RPC_SUCCESS && call->in.is_bad)
        status = VDR_RPC_GARBAGE_ARGS;
    if (status == VDR_RPC_SUCCESS && call->out.is_full)
        status = VDR_RPC_SYSTEM_ERR;
    return status == VDR_RPC_SUCCESS ? end_reply(call, reply) : refuse(call, reply, capacity, status, 0);
}

/* Run a call, or answer as before if it was sent again. */
static int64_t answer_once(vdr_nfs_call *call, const program *found, const uint8_t *record, size_t bytes, uint8_t *reply,
                           size_t capacity)
{
    vdr_nfs_replay_entry *entry;
    vdr_nfs_replay *replay = call->service->replay;
    size_t known = vdr_nfs_replay_begin(replay, call->client->address, call->xid, call->procedure, record, bytes, reply,
                                        &entry);
    if (known)
        return (int64_t)known;
    int64_t answered = run(call, found, reply, capacity);
    vdr_nfs_replay_end(replay, entry, reply, answered > 0 ? (size_t)answered : 0);
    return answered;
}

int64_t vdr_nfs_service_answer(vdr_nfs_service *service, const vdr_nfs_client *client, const uint8_t *record,
                               size_t bytes, uint8_t *reply, size_t capacity)
{
    vdr_nfs_call call = {.service = service, .client = client, .in = {record, record + bytes, 0}};
    uint32_t credential_bytes, verifier_bytes;
    call.xid = vdr_xdr_read_u32(&call.in);
    uint32_t kind = vdr_xdr_read_u32(&call.in);
    uint32_t rpc_version = vdr_xdr_read_u32(&call.in);
    if (call.in.is_bad || kind != CALL)
        return VDR_E_CORRUPT;
    service->calls++;
    if (rpc_version != RPC_VERSION)
        return deny(&call, reply, capacity, RPC_MISMATCH, RPC_VERSION, RPC_VERSION);
    call.program = vdr_xdr_read_u32(&call.in);
    call.version = vdr_xdr_read_u32(&call.in);
    call.procedure = vdr_xdr_read_u32(&call.in);
    call.credential = vdr_xdr_read_u32(&call.in);
    const uint8_t *credential = vdr_xdr_read_opaque(&call.in, AUTH_BYTES_MAX, &credential_bytes);
    uint32_t verifier = vdr_xdr_read_u32(&call.in);
    vdr_xdr_read_opaque(&call.in, AUTH_BYTES_MAX, &verifier_bytes);
    if (call.in.is_bad)
        return VDR_E_CORRUPT;
    if (verifier != VDR_RPC_AUTH_NONE)
        return deny(&call, reply, capacity, AUTH_ERROR, AUTH_BADVERF, 0);
    if (call.credential == VDR_RPC_AUTH_SYS && !auth_sys_is_valid(credential, credential_bytes))
        return deny(&call, reply, capacity, AUTH_ERROR, AUTH_BADCRED, 0);

    const program *found = find_program(&call);
    if (!found)
        return refuse(&call, reply, capacity, VDR_RPC_PROG_UNAVAIL, 0);
    if (call.version != found->version)
        return refuse(&call, reply, capacity, VDR_RPC_PROG_MISMATCH, found->version);
    /* Without an identity a client may ask what is there (NULL, PORTMAP, MOUNT), not touch files. */
    int needs_identity = found->mask == VDR_NFS_NFS && call.procedure != 0;
    if (call.credential != VDR_RPC_AUTH_SYS && (call.credential != VDR_RPC_AUTH_NONE || needs_identity))
        return deny(&call, reply, capacity, AUTH_ERROR, AUTH_TOOWEAK, 0);

    if (found->mask == VDR_NFS_NFS && vdr_nfs_three_must_not_repeat(call.procedure))
        return answer_once(&call, found, record, bytes, reply, capacity);
    return run(&call, found, reply, capacity);
}

int vdr_nfs_service_may_wait(const uint8_t *record, size_t bytes)
{
    vdr_xdr_reader in = {record, record + bytes, 0};
    vdr_xdr_read_fixed(&in, 12); /* transaction, kind, RPC version */
    uint32_t number = vdr_xdr_read_u32(&in);
    vdr_xdr_read_u32(&in);
    uint32_t procedure = vdr_xdr_read_u32(&in);
    return number == NFS_PROGRAM && (procedure == NFS_COMMIT || vdr_nfs_three_must_not_repeat(procedure));
}

void vdr_nfs_service_statistics(vdr_nfs_service *service, vdr_nfs_call_statistics *statistics)
{
    *statistics = (vdr_nfs_call_statistics){service->calls,   service->refused_calls, service->reads,
                                            service->writes,  service->flushes,       service->read_bytes,
                                            service->written_bytes, vdr_nfs_replay_count(service->replay)};
}

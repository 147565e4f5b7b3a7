#include "nbd_service.h"

#include <errno.h>
#include <stdio.h>

#include "disk.h"
#include "err.h"
#include "nbd_wire.h"

enum {
    EXTENTS_MAX = 512,
    ZEROS_BYTES = 64 << 10,
    TEXT_BYTES = 160,
};

/* A request while it is answered. */
typedef struct {
    vdr_nbd_service *service;
    const vdr_nbd_session *session;
    const vdr_nbd_request *request;
    const uint8_t *payload;
    const vdr_nbd_sink *sink;
    vdr_disk *disk;
    int is_writable;
    uint64_t size_bytes;
} answering;

int vdr_nbd_service_open(vdr_nbd_service *service)
{
    memset(service, 0, sizeof *service);
    int error = vdr_nfs_events_open(&service->events);
    if (error)
        return error;
    error = vdr_nbd_exports_open(&service->exports);
    if (error)
        vdr_nfs_events_close(service->events);
    return error;
}

void vdr_nbd_service_close(vdr_nbd_service *service)
{
    vdr_nbd_exports_close(&service->exports);
    vdr_nfs_events_close(service->events);
}

int vdr_nbd_request_parse(const uint8_t bytes[VDR_NBD_REQUEST_BYTES], vdr_nbd_request *request)
{
    if (vdr_nbd_u32(bytes) != VDR_NBD_REQUEST_MAGIC)
        return 0;
    request->flags = vdr_nbd_u16(bytes + 4);
    request->type = vdr_nbd_u16(bytes + 6);
    memcpy(request->cookie, bytes + 8, 8);
    request->offset_bytes = vdr_nbd_u64(bytes + 16);
    request->length_bytes = vdr_nbd_u32(bytes + 24);
    return 1;
}

uint32_t vdr_nbd_request_payload_bytes(const vdr_nbd_request *request)
{
    return request->type == VDR_NBD_CMD_WRITE ? request->length_bytes : 0;
}

/* ---- replies ---- */

static uint8_t *put_simple(const answering *a, uint8_t *at, uint32_t error)
{
    at = vdr_nbd_put_u32(at, VDR_NBD_SIMPLE_MAGIC);
    at = vdr_nbd_put_u32(at, error);
    memcpy(at, a->request->cookie, 8);
    return at + 8;
}

static uint8_t *put_chunk(const answering *a, uint8_t *at, unsigned flags, unsigned type, size_t bytes)
{
    at = vdr_nbd_put_u32(at, VDR_NBD_CHUNK_MAGIC);
    at = vdr_nbd_put_u16(at, (uint16_t)flags);
    at = vdr_nbd_put_u16(at, (uint16_t)type);
    memcpy(at, a->request->cookie, 8);
    return vdr_nbd_put_u32(at + 8, (uint32_t)bytes);
}

static int is_structured(const answering *a)
{
    return a->session->has_structured_replies &&
           (a->request->type == VDR_NBD_CMD_READ || a->request->type == VDR_NBD_CMD_BLOCK_STATUS);
}

static int reply_error(const answering *a, uint32_t error, const char *text)
{
    uint8_t *start = a->sink->reserve(a->sink->context, VDR_NBD_REPLY_HEADER_BYTES + TEXT_BYTES), *end;
    if (!start)
        return VDR_E_MEMORY;
    a->service->refused_requests++;
    if (is_structured(a)) {
        size_t bytes = strnlen(text, TEXT_BYTES);
        end = put_chunk(a, start, VDR_NBD_CHUNK_DONE, VDR_NBD_CHUNK_ERROR, 6 + bytes);
        end = vdr_nbd_put_u32(end, error);
        end = vdr_nbd_put_u16(end, (uint16_t)bytes);
        memcpy(end, text, bytes);
        end += bytes;
    } else
        end = put_simple(a, start, error);
    a->sink->commit(a->sink->context, (size_t)(end - start), 1);
    return VDR_OK;
}

static int reply_done(const answering *a)
{
    uint8_t *start = a->sink->reserve(a->sink->context, VDR_NBD_REPLY_HEADER_BYTES), *end;
    if (!start)
        return VDR_E_MEMORY;
    end = is_structured(a) ? put_chunk(a, start, VDR_NBD_CHUNK_DONE, VDR_NBD_CHUNK_NONE, 0) : put_simple(a, start, 0);
    a->sink->commit(a->sink->context, (size_t)(end - start), 1);
    return VDR_OK;
}

/* The error of a disk as NBD has it, reported once here. */
static uint32_t disk_error(const answering *a, int error, const char *verb)
{
    int number = error == VDR_E_IO ? errno : 0;
    char why[TEXT_BYTES];
    snprintf(why, sizeof why, "%s", vdr_err_name(error));
    if (number)
        snprintf(why, sizeof why, "errno %d", number);
    vdr_nfs_events_tell(a->service->events, VDR_NFS_EVENT_DISK_FAILED, a->session->name, "export=%s %s offset=%llu: %s",
                        a->session->export_name, verb, (unsigned long long)a->request->offset_bytes, why);
    if (number == ENOSPC || number == EDQUOT)
        return VDR_NBD_ENOSPC;
    if (number == EROFS)
        return VDR_NBD_EPERM;
    return error == VDR_E_MEMORY ? VDR_NBD_ENOMEM : VDR_NBD_EIO;
}

/* Done, or the disk's error. */
static int reply_result(const answering *a, int error, const char *verb)
{
    return error ? reply_error(a, disk_error(a, error, verb), "the disk failed") : reply_done(a);
}

/* ---- commands ---- */

/* [done, done + bytes) of the range, behind the header that it needs. 1 when the reply has ended with an error. */
static int read_piece(const answering *a, uint32_t done, uint32_t bytes)
{
    const vdr_nbd_request *request = a->request;
    int is_last = done + bytes == request->length_bytes;
    uint8_t *start = a->sink->reserve(a->sink->context, VDR_NBD_REPLY_HEADER_BYTES + (size_t)bytes), *at = start;
    if (!start)
        return VDR_E_MEMORY;
    if (is_structured(a)) {
        at = put_chunk(a, at, is_last ? VDR_NBD_CHUNK_DONE : 0, VDR_NBD_CHUNK_DATA, 8 + (size_t)bytes);
        at = vdr_nbd_put_u64(at, request->offset_bytes + done);
    } else
        at = put_simple(a, at, 0);
    int error = vdr_disk_read(a->disk, request->offset_bytes + done, at, bytes);
    if (error) {
        error = reply_error(a, disk_error(a, error, "read"), "the disk cannot be read");
        return error ? error : 1;
    }
    a->sink->commit(a->sink->context, (size_t)(at - start) + bytes, is_last);
    return VDR_OK;
}

static int answer_read(const answering *a)
{
    uint32_t length = a->request->length_bytes, done = 0;
    if (length > VDR_NBD_PAYLOAD_BYTES_MAX)
        return reply_error(a, VDR_NBD_EOVERFLOW, "the read is longer than the limit");
    if (length == 0)
        return reply_done(a);
    /* A simple reply tells first that all is well, and what belongs to it must not be mixed with others. */
    int is_whole = !is_structured(a) || a->request->flags & VDR_NBD_DF;
    uint32_t step = is_whole ? length : VDR_NBD_PIECE_BYTES;
    while (done < length) {
        uint32_t bytes = length - done < step ? length - done : step;
        int result = read_piece(a, done, bytes);
        if (result)
            return result < 0 ? result : VDR_OK;
        done += bytes;
    }
    a->service->reads++;
    a->service->read_bytes += length;
    return VDR_OK;
}

static int flush_if_forced(const answering *a, int error)
{
    return error || !(a->request->flags & VDR_NBD_FUA) ? error : vdr_disk_flush(a->disk);
}

static int answer_write(const answering *a)
{
    int error = vdr_disk_write(a->disk, a->request->offset_bytes, a->payload, a->request->length_bytes);
    error = flush_if_forced(a, error);
    if (!error) {
        a->service->writes++;
        a->service->written_bytes += a->request->length_bytes;
    }
    return reply_result(a, error, "write");
}

/* Zeros that take their space. */
static int write_zeros(const answering *a)
{
    static const uint8_t zeros[ZEROS_BYTES];
    uint64_t at = a->request->offset_bytes, left = a->request->length_bytes;
    while (left > 0) {
        size_t step = left < sizeof zeros ? (size_t)left : sizeof zeros;
        int error = vdr_disk_write(a->disk, at, zeros, step);
        if (error)
            return error;
        at += step;
        left -= step;
    }
    return VDR_OK;
}

static int answer_zero(const answering *a)
{
    int must_keep_space = a->request->type == VDR_NBD_CMD_WRITE_ZEROES && a->request->flags & VDR_NBD_NO_HOLE;
    int error = must_keep_space ? write_zeros(a)
                                : vdr_disk_zero(a->disk, a->request->offset_bytes, a->request->length_bytes);
    return reply_result(a, flush_if_forced(a, error), "zero");
}

static uint32_t state_of(uint32_t kind)
{
    switch (kind) {
    case VDR_EXTENT_DATA:
        return 0;
    case VDR_EXTENT_ZERO:
        return VDR_NBD_STATE_ZERO;
    default:
        return VDR_NBD_STATE_HOLE | VDR_NBD_STATE_ZERO;
    }
}

static int answer_status(const answering *a)
{
    vdr_extent extents[EXTENTS_MAX];
    if (!vdr_nbd_session_has_status(a->session))
        return reply_error(a, VDR_NBD_EINVAL, "no context was agreed on");
    if (a->request->length_bytes == 0)
        return reply_error(a, VDR_NBD_EINVAL, "nothing was asked for");
    size_t capacity = a->request->flags & VDR_NBD_REQ_ONE ? 1 : EXTENTS_MAX;
    int64_t count = vdr_disk_extents(a->disk, a->request->offset_bytes, a->request->length_bytes, extents, capacity);
    if (count < 0)
        return reply_error(a, disk_error(a, (int)count, "map"), "the disk cannot be mapped");
    size_t bytes = 4 + 8 * (size_t)count;
    uint8_t *start = a->sink->reserve(a->sink->context, VDR_NBD_REPLY_HEADER_BYTES + bytes);
    if (!start)
        return VDR_E_MEMORY;
    uint8_t *end = put_chunk(a, start, VDR_NBD_CHUNK_DONE, VDR_NBD_CHUNK_STATUS, bytes);
    end = vdr_nbd_put_u32(end, VDR_NBD_CONTEXT_ID);
    for (int64_t i = 0; i < count; i++) {
        end = vdr_nbd_put_u32(end, (uint32_t)extents[i].length_bytes);
        end = vdr_nbd_put_u32(end, state_of(extents[i].kind));
    }
    a->sink->commit(a->sink->context, (size_t)(end - start), 1);
    return VDR_OK;
}

static unsigned allowed_flags(uint16_t type)
{
    switch (type) {
    case VDR_NBD_CMD_READ:
        return VDR_NBD_FUA | VDR_NBD_DF;
    case VDR_NBD_CMD_WRITE_ZEROES:
        return VDR_NBD_FUA | VDR_NBD_NO_HOLE;
    case VDR_NBD_CMD_BLOCK_STATUS:
        return VDR_NBD_FUA | VDR_NBD_REQ_ONE;
    default:
        return VDR_NBD_FUA;
    }
}

static int is_change(uint16_t type)
{
    return type == VDR_NBD_CMD_WRITE || type == VDR_NBD_CMD_TRIM || type == VDR_NBD_CMD_WRITE_ZEROES;
}

static int answer_checked(const answering *a)
{
    const vdr_nbd_request *request = a->request;
    if (request->flags & ~allowed_flags(request->type))
        return reply_error(a, VDR_NBD_EINVAL, "a flag that the command does not take");
    if (request->type == VDR_NBD_CMD_FLUSH) {
        a->service->flushes++;
        return reply_result(a, vdr_disk_flush(a->disk), "flush");
    }
    if (is_change(request->type) && !a->is_writable)
        return reply_error(a, VDR_NBD_EPERM, "the export is read-only");
    if (request->offset_bytes > a->size_bytes || request->length_bytes > a->size_bytes - request->offset_bytes)
        return reply_error(a, is_change(request->type) ? VDR_NBD_ENOSPC : VDR_NBD_EINVAL, "outside the disk");
    switch (request->type) {
    case VDR_NBD_CMD_READ:
        return answer_read(a);
    case VDR_NBD_CMD_WRITE:
        return answer_write(a);
    case VDR_NBD_CMD_TRIM:
    case VDR_NBD_CMD_WRITE_ZEROES:
        return answer_zero(a);
    case VDR_NBD_CMD_CACHE:
        vdr_disk_prefetch(a->disk, request->offset_bytes, request->length_bytes, 0);
        return reply_done(a);
    case VDR_NBD_CMD_BLOCK_STATUS:
        return answer_status(a);
    default:
        return reply_error(a, VDR_NBD_EINVAL, "not a command");
    }
}

int vdr_nbd_service_answer(vdr_nbd_service *service, const vdr_nbd_session *session, const vdr_nbd_request *request,
                           const uint8_t *payload, const vdr_nbd_sink *sink)
{
    answering a = {.service = service, .session = session, .request = request, .payload = payload, .sink = sink};
    service->requests++;
    vdr_nbd_export *export = vdr_nbd_exports_find(&service->exports, session->export_id);
    if (!export)
        return reply_error(&a, VDR_NBD_ESHUTDOWN, "the export has ended");
    a.disk = export->disk;
    a.is_writable = export->spec.is_writable != 0;
    a.size_bytes = export->size_bytes;
    int result = answer_checked(&a);
    vdr_nbd_exports_release(&service->exports, export);
    return result;
}

void vdr_nbd_service_statistics(vdr_nbd_service *service, vdr_nbd_request_statistics *statistics)
{
    *statistics = (vdr_nbd_request_statistics){
        .requests = service->requests,
        .refused_requests = service->refused_requests,
        .reads = service->reads,
        .writes = service->writes,
        .flushes = service->flushes,
        .read_bytes = service->read_bytes,
        .written_bytes = service->written_bytes,
    };
}

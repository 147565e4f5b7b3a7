#include "nfs_record.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* Pull into `place`; > 0 bytes, else the state to return in *state. */
static ssize_t pull(vdr_nfs_record *record, const vdr_nfs_record_source *source, void *place, size_t bytes,
                    vdr_nfs_record_state *state)
{
    ssize_t got;
    do
        got = source->pull(source->context, place, bytes);
    while (got < 0 && errno == EINTR);
    record->is_drained = got < (ssize_t)bytes;
    if (got > 0)
        record->is_inside = 1;
    else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        *state = VDR_NFS_RECORD_WAIT;
    else
        *state = record->is_inside ? VDR_NFS_RECORD_CUT : VDR_NFS_RECORD_END;
    return got;
}

/* Read the next mark, together with what follows it as far as there is room. */
static vdr_nfs_record_state begin_fragment(vdr_nfs_record *record, const vdr_nfs_record_source *source)
{
    vdr_nfs_record_state state;
    if (record->head_bytes - record->head_used < 4) {
        memmove(record->head, record->head + record->head_used, record->head_bytes - record->head_used);
        record->head_bytes -= record->head_used;
        record->head_used = 0;
    }
    while (record->head_bytes - record->head_used < 4) {
        ssize_t got = pull(record, source, record->head + record->head_bytes,
                           sizeof record->head - record->head_bytes, &state);
        if (got <= 0)
            return state;
        record->head_bytes += (size_t)got;
    }
    uint32_t mark;
    memcpy(&mark, record->head + record->head_used, sizeof mark);
    mark = be32toh(mark);
    record->head_used += sizeof mark;
    record->is_inside = 1;
    record->is_last = mark >> 31 != 0;
    record->fragment_left = mark & 0x7fffffff;
    if (record->fragment_left > VDR_NFS_RECORD_BYTES_MAX - record->bytes)
        return VDR_NFS_RECORD_TOO_LONG;
    if (++record->fragments > VDR_NFS_FRAGMENTS_MAX)
        return VDR_NFS_RECORD_TOO_MANY_FRAGMENTS;
    if (!record->buffer)
        record->buffer = source->take_buffer(source->context);
    return record->buffer ? VDR_NFS_RECORD_WHOLE : VDR_NFS_RECORD_NO_BUFFER;
}

static vdr_nfs_record_state fill_fragment(vdr_nfs_record *record, const vdr_nfs_record_source *source)
{
    vdr_nfs_record_state state;
    size_t waiting = record->head_bytes - record->head_used;
    if (waiting > 0) {
        size_t taken = waiting < record->fragment_left ? waiting : record->fragment_left;
        memcpy(record->buffer + record->bytes, record->head + record->head_used, taken);
        record->head_used += taken;
        record->bytes += taken;
        record->fragment_left -= (uint32_t)taken;
    }
    while (record->fragment_left > 0) {
        ssize_t got = pull(record, source, record->buffer + record->bytes, record->fragment_left, &state);
        if (got <= 0)
            return state;
        record->bytes += (size_t)got;
        record->fragment_left -= (uint32_t)got;
    }
    return VDR_NFS_RECORD_WHOLE;
}

vdr_nfs_record_state vdr_nfs_record_pull(vdr_nfs_record *record, const vdr_nfs_record_source *source)
{
    for (;;) {
        vdr_nfs_record_state state;
        if (record->fragment_left == 0) {
            state = begin_fragment(record, source);
            if (state != VDR_NFS_RECORD_WHOLE)
                return state;
        }
        state = fill_fragment(record, source);
        if (state != VDR_NFS_RECORD_WHOLE || record->is_last)
            return state;
    }
}

uint8_t *vdr_nfs_record_reset(vdr_nfs_record *record)
{
    uint8_t *buffer = record->buffer;
    record->buffer = NULL;
    record->bytes = 0;
    record->fragments = 0;
    record->is_last = 0;
    record->is_inside = record->head_bytes > record->head_used;
    return buffer;
}

/* libFuzzer target: a connection's bytes, as a peer may send them, through record marking and every program.
 *
 * The first byte is the size of the pieces in which the bytes arrive. Built and run by tests/native/test_fuzz_nfs.py. */
#undef NDEBUG
#include <errno.h>
#include <stdlib.h>

#include "nfs_fixture.h"

typedef struct {
    const uint8_t *next, *end;
    size_t piece;
} stream;

static uint8_t *record_buffer, *reply_buffer;

static ssize_t pull(void *context, void *place, size_t bytes)
{
    stream *from = context;
    size_t left = (size_t)(from->end - from->next);
    size_t taken = bytes < from->piece ? bytes : from->piece;
    taken = taken < left ? taken : left;
    memcpy(place, from->next, taken);
    from->next += taken;
    return (ssize_t)taken;
}

static uint8_t *take_buffer(void *context)
{
    (void)context;
    return record_buffer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static nfs_fixture fixture;
    if (!record_buffer) {
        record_buffer = malloc(VDR_NFS_RECORD_BYTES_MAX);
        reply_buffer = malloc(VDR_NFS_RECORD_BYTES_MAX);
        nfs_fixture_open(&fixture);
    }
    if (bytes == 0)
        return 0;
    stream from = {data + 1, data + bytes, (size_t)data[0] + 1};
    vdr_nfs_record_source source = {pull, take_buffer, &from};
    vdr_nfs_record record = {.bytes = 0};
    while (vdr_nfs_record_pull(&record, &source) == VDR_NFS_RECORD_WHOLE) {
        /* A copy of its exact length, so that reading past it is seen. */
        size_t length = record.bytes;
        uint8_t *exact = malloc(length ? length : 1);
        memcpy(exact, record_buffer, length);
        vdr_nfs_record_reset(&record);
        repair_handles(&fixture, exact, length);
        int64_t answered = answer_checked(&fixture, exact, length, reply_buffer);
        free(exact);
        if (answered < 0)
            break;
    }
    vdr_nfs_event events[16];
    uint64_t lost;
    while (vdr_nfs_events_take(fixture.service.events, events, 16, &lost) > 0)
        ;
    return 0;
}

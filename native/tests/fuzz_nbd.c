/* libFuzzer target: what a peer may send, through negotiation and every command, in the order in which the server does it.
 *
 * The first byte chooses whether TLS is off, offered or required. Built and run by tests/native/test_fuzz_nbd.py. */
#undef NDEBUG
#include <stdlib.h>

#include "nbd_fixture.h"

static uint8_t *reply;

static uint8_t *reserve(void *context, size_t bytes)
{
    (void)context;
    assert(bytes <= VDR_NBD_PAYLOAD_BYTES_MAX + VDR_NBD_REPLY_HEADER_BYTES);
    free(reply);
    reply = malloc(bytes ? bytes : 1);
    return reply;
}

static void commit(void *context, size_t bytes, int is_last)
{
    uint64_t *ended = context;
    assert(bytes >= 16 && *ended == 0);
    uint32_t magic = vdr_nbd_u32(reply);
    assert(magic == VDR_NBD_SIMPLE_MAGIC || magic == VDR_NBD_CHUNK_MAGIC);
    *ended += (uint64_t)is_last;
}

/* Requests from a copy of its exact length, so that reading past it is seen. */
static void transmit(vdr_nbd_service *service, const vdr_nbd_session *session, const uint8_t *data, size_t bytes)
{
    while (bytes >= VDR_NBD_REQUEST_BYTES) {
        vdr_nbd_request request;
        if (!vdr_nbd_request_parse(data, &request) || request.type == VDR_NBD_CMD_DISC)
            return;
        data += VDR_NBD_REQUEST_BYTES;
        bytes -= VDR_NBD_REQUEST_BYTES;
        size_t payload_bytes = vdr_nbd_request_payload_bytes(&request);
        if (payload_bytes > bytes)
            return;
        uint8_t *payload = malloc(payload_bytes ? payload_bytes : 1);
        memcpy(payload, data, payload_bytes);
        uint64_t ended = 0;
        vdr_nbd_sink sink = {reserve, commit, &ended};
        assert(vdr_nbd_service_answer(service, session, &request, payload, &sink) == VDR_OK && ended == 1);
        free(payload);
        data += payload_bytes;
        bytes -= payload_bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static vdr_nbd_service service;
    static uint8_t *answer;
    if (!answer) {
        vdr_disk *disk;
        answer = malloc(VDR_NBD_ANSWER_BYTES_MAX);
        assert(vdr_nbd_service_open(&service) == VDR_OK && vdr_disk_memory_open(NBD_DISK_BYTES, &disk) == VDR_OK);
        for (int i = 0; i < 3; i++) {
            vdr_nbd_export_spec spec = nbd_spec(i);
            if (i == 2) /* not for this client */
                spec.networks[0] = (vdr_nbd_network){.address = {1}, .prefix_bits = 128};
            assert(vdr_nbd_exports_add(&service.exports, &spec, disk) == VDR_OK);
        }
    }
    if (bytes == 0)
        return 0;
    vdr_nbd_session session = {.exports = &service.exports, .name = "fuzzer", .tls_mode = data[0] % 3};
    uint8_t greeting[VDR_NBD_GREETING_BYTES], *exact = malloc(bytes);
    vdr_nbd_session_greet(&session, greeting);
    bytes--;
    memcpy(exact, data + 1, bytes);
    size_t at = 0, answered;
    while (session.phase < VDR_NBD_TRANSMISSION) {
        if (session.phase == VDR_NBD_STARTING_TLS)
            vdr_nbd_session_secure(&session);
        int64_t used = vdr_nbd_session_negotiate(&session, exact + at, bytes - at, answer, &answered);
        assert(answered <= VDR_NBD_ANSWER_BYTES_MAX && used <= (int64_t)(bytes - at));
        if (used <= 0)
            break;
        at += (size_t)used;
    }
    if (session.phase == VDR_NBD_TRANSMISSION) {
        assert(session.export_id[0] != 'c' && (session.is_secure || session.tls_mode != VDR_NBD_TLS_REQUIRED));
        transmit(&service, &session, exact + at, bytes - at);
    }
    free(exact);
    vdr_nfs_event events[16];
    uint64_t lost;
    while (vdr_nfs_events_take(service.events, events, 16, &lost) > 0)
        ;
    return 0;
}

/* Calls of every procedure through the RPC layer: whole, cut, and damaged in many ways, always the same ones. */
#undef NDEBUG
#include <errno.h>
#include <stdlib.h>

#include "nfs_fixture.h"

static uint64_t seed = 42;

static uint32_t random_below(uint32_t bound)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % bound;
}

static uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* accept_stat of an accepted reply, 1000 + reject_stat of a denied one. */
static uint32_t reply_status(const uint8_t *reply)
{
    return word_at(reply + 12) == 0 ? word_at(reply + 24) : 1000 + word_at(reply + 16);
}

static void check_valid_calls_are_answered(nfs_fixture *f, uint8_t *reply)
{
    uint8_t call[CALL_BYTES_MAX];
    for (unsigned number = 0; number < CALLS; number++) {
        size_t bytes = make_call(number, call);
        repair_handles(f, call, bytes);
        assert(answer_checked(f, call, bytes, reply) > 0);
        assert(reply_status(reply) == VDR_RPC_SUCCESS);
    }
}

static void check_cut_calls_change_nothing(nfs_fixture *f, uint8_t *reply)
{
    uint8_t call[CALL_BYTES_MAX], byte;
    for (unsigned number = 0; number < CALLS; number++) {
        size_t bytes = make_call(number, call);
        repair_handles(f, call, bytes);
        for (size_t cut = 0; cut < bytes; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1);
            memcpy(exact, call, cut);
            assert(vdr_disk_zero(f->disk, 5000, 4) == VDR_OK);
            int64_t answered = answer_checked(f, exact, cut, reply);
            assert(answered < 0 || cut >= 40);
            if (number == 7) { /* WRITE */
                assert(answered < 0 || reply_status(reply) == VDR_RPC_GARBAGE_ARGS);
                assert(vdr_disk_read(f->disk, 5000, &byte, 1) == VDR_OK && byte == 0);
            }
            free(exact);
        }
    }
}

static void damage(uint8_t *call, size_t *bytes)
{
    static const uint32_t words[] = {0, 1, 2, 3, 7, 64, 255, 400, 0x7fffffff, 0x80000000u, 0xffffffffu, 0xfffffffcu};
    for (uint32_t times = 1 + random_below(4); times > 0; times--) {
        uint32_t at = random_below((uint32_t)*bytes);
        switch (random_below(5)) {
        case 0:
            call[at] ^= (uint8_t)(1u << random_below(8));
            break;
        case 1: {
            uint32_t word = words[random_below(sizeof words / sizeof words[0])];
            at &= ~3u;
            for (uint32_t i = 0; i < 4 && at + i < *bytes; i++)
                call[at + i] = (uint8_t)(word >> (24 - 8 * i));
            break;
        }
        case 2:
            *bytes = 1 + at;
            break;
        case 3: {
            uint8_t other[CALL_BYTES_MAX];
            size_t other_bytes = make_call(random_below(CALLS), other);
            for (size_t i = at; i < other_bytes && i < *bytes; i++)
                call[i] = other[i];
            break;
        }
        default:
            for (uint32_t i = at; i < *bytes && i < at + 8; i++)
                call[i] = (uint8_t)random_below(256);
        }
    }
}

static void check_damaged_calls_are_survived(nfs_fixture *f, uint8_t *reply)
{
    uint8_t call[CALL_BYTES_MAX];
    vdr_nfs_event events[256];
    uint64_t lost;
    unsigned outcomes[4] = {0};
    for (int round = 0; round < 200000; round++) {
        size_t bytes = make_call(random_below(CALLS), call);
        damage(call, &bytes);
        repair_handles(f, call, bytes);
        uint8_t *exact = malloc(bytes);
        memcpy(exact, call, bytes);
        int64_t answered = answer_checked(f, exact, bytes, reply);
        outcomes[answered < 0 ? 0 : reply_status(reply) == VDR_RPC_SUCCESS ? 1 : reply_status(reply) >= 1000 ? 2 : 3]++;
        free(exact);
        if (round % 100 == 0)
            vdr_nfs_events_take(f->service.events, events, 256, &lost);
    }
    for (int i = 0; i < 4; i++) /* each outcome was seen, so the damage is neither too small nor too great */
        assert(outcomes[i] > 1000);
}

static void check_events_are_bounded_and_printable(nfs_fixture *f)
{
    vdr_nfs_event events[512];
    uint64_t lost;
    while (vdr_nfs_events_take(f->service.events, events, 512, &lost) > 0)
        ;
    for (int i = 0; i < 1000; i++)
        vdr_nfs_events_tell(f->service.events, VDR_NFS_EVENT_BAD_CALL, "peer\n", "line %d\x1b[31m", i);
    int64_t taken = vdr_nfs_events_take(f->service.events, events, 512, &lost);
    assert(taken == 256 && lost == 744);
    assert(strcmp(events[3].text, "line 3?[31m") == 0 && strcmp(events[3].peer, "peer?") == 0);
    assert(vdr_nfs_events_take(f->service.events, events, 512, &lost) == 0 && lost == 0);
}

typedef struct {
    const uint8_t *bytes;
    size_t at, length, piece;
    int waits;  /* answer EAGAIN between pieces */
} stream;

static uint8_t record_buffer[VDR_NFS_RECORD_BYTES_MAX];

static ssize_t pull(void *context, void *place, size_t bytes)
{
    stream *from = context;
    if (from->waits++ % 2 == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t taken = bytes < from->piece ? bytes : from->piece;
    if (taken > from->length - from->at)
        taken = from->length - from->at;
    memcpy(place, from->bytes + from->at, taken);
    from->at += taken;
    return (ssize_t)taken;
}

static uint8_t *take_buffer(void *context)
{
    (void)context;
    return record_buffer;
}

static vdr_nfs_record_state pull_through(vdr_nfs_record *record, stream *from)
{
    vdr_nfs_record_source source = {pull, take_buffer, from};
    vdr_nfs_record_state state;
    do
        state = vdr_nfs_record_pull(record, &source);
    while (state == VDR_NFS_RECORD_WAIT);
    return state;
}

static void check_records_of_any_fragments_are_put_together(void)
{
    uint8_t bytes[4000];
    for (int round = 0; round < 3000; round++) {
        size_t length = 0, expected[3], records = 1 + random_below(3);
        uint8_t next = 0;
        for (size_t r = 0; r < records; r++) {
            expected[r] = 0;
            for (uint32_t left = 1 + random_below(6); left > 0; left--) {
                uint32_t fragment = random_below(3) ? random_below(120) : random_below(3);
                uint32_t mark = fragment | (left == 1 ? 0x80000000u : 0);
                for (int i = 0; i < 4; i++)
                    bytes[length++] = (uint8_t)(mark >> (24 - 8 * i));
                for (uint32_t i = 0; i < fragment; i++)
                    bytes[length++] = next++;
                expected[r] += fragment;
            }
        }
        stream from = {bytes, 0, length, 1 + random_below(200), 0};
        vdr_nfs_record record = {.bytes = 0};
        uint8_t byte = 0;
        for (size_t r = 0; r < records; r++) {
            assert(pull_through(&record, &from) == VDR_NFS_RECORD_WHOLE && record.bytes == expected[r]);
            for (size_t i = 0; i < record.bytes; i++)
                assert(record_buffer[i] == byte++);
            assert(vdr_nfs_record_reset(&record) == record_buffer);
        }
        assert(pull_through(&record, &from) == VDR_NFS_RECORD_END);
    }
}

static void check_bad_records_are_refused(void)
{
    static const uint8_t too_long[] = {0x80, 0x10, 0x20, 0x01, 0};
    static const uint8_t two_too_long[] = {0, 0, 0, 1, 9, 0x80, 0x10, 0x20, 0x00};
    static const uint8_t cut_in_mark[] = {0x80, 0};
    static const uint8_t cut_in_body[] = {0x80, 0, 0, 9, 1, 2};
    static const uint8_t empty_fragments[4 * 70] = {0};
    const struct {
        const uint8_t *bytes;
        size_t length;
        vdr_nfs_record_state state;
    } cases[] = {
        {too_long, sizeof too_long, VDR_NFS_RECORD_TOO_LONG},
        {two_too_long, sizeof two_too_long, VDR_NFS_RECORD_TOO_LONG},
        {cut_in_mark, sizeof cut_in_mark, VDR_NFS_RECORD_CUT},
        {cut_in_body, sizeof cut_in_body, VDR_NFS_RECORD_CUT},
        {empty_fragments, sizeof empty_fragments, VDR_NFS_RECORD_TOO_MANY_FRAGMENTS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece < 100; piece += 7) {
            stream from = {cases[i].bytes, 0, cases[i].length, piece, 0};
            vdr_nfs_record record = {.bytes = 0};
            assert(pull_through(&record, &from) == cases[i].state);
        }
}

int main(void)
{
    nfs_fixture fixture;
    uint8_t *reply = malloc(VDR_NFS_RECORD_BYTES_MAX);
    nfs_fixture_open(&fixture);
    check_valid_calls_are_answered(&fixture, reply);
    check_cut_calls_change_nothing(&fixture, reply);
    check_damaged_calls_are_survived(&fixture, reply);
    check_events_are_bounded_and_printable(&fixture);
    check_records_of_any_fragments_are_put_together();
    check_bad_records_are_refused();
    nfs_fixture_close(&fixture);
    free(reply);
    puts("nfs service: ok");
    return 0;
}

/* The service threads under clients that ask, pipeline, dribble, stall and vanish, while exports come and go. */
#undef NDEBUG
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "nbd_fixture.h"
#include "nbd_server.h"

enum { CLIENTS = 6, TURNS = 30, SLOT_BYTES = 128 << 10, REQUESTS = 40 };

static vdr_nbd_server *server;
static vdr_disk *disk;
static atomic_int answered, is_over;

/* A connection that the server serves, as soon as it has a place: those before may not have left yet. */
static int connect_to_server(void)
{
    static const uint8_t address[16];
    int sockets[2], error = VDR_E_SPACE;
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    struct timeval limit = {60, 0};
    assert(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    for (int attempt = 0; attempt < 60000 && error == VDR_E_SPACE; attempt++) {
        error = vdr_nbd_server_serve(server, sockets[1], address, "tester");
        if (error == VDR_E_SPACE)
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    assert(error == VDR_OK);
    return sockets[0];
}

static int receive_all(int fd, void *place, size_t bytes)
{
    for (uint8_t *next = place; bytes > 0;) {
        ssize_t got = recv(fd, next, bytes, 0);
        if (got <= 0)
            return 0;
        next += got;
        bytes -= (size_t)got;
    }
    return 1;
}

static void send_all(int fd, const uint8_t *bytes, size_t count, size_t piece)
{
    while (count > 0) {
        ssize_t put = send(fd, bytes, piece < count ? piece : count, MSG_NOSIGNAL);
        assert(put > 0);
        bytes += put;
        count -= (size_t)put;
    }
}

/* Choose an export the way of old, with simple replies, or with structured ones. */
static void negotiate(int fd, const char *name, int is_structured)
{
    uint8_t bytes[256], reply[1024], *end = put_flags(bytes);
    assert(receive_all(fd, reply, VDR_NBD_GREETING_BYTES));
    if (is_structured)
        end = put_option(end, VDR_NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    end = put_option(end, VDR_NBD_OPT_EXPORT_NAME, name, strlen(name));
    send_all(fd, bytes, (size_t)(end - bytes), 7);
    assert(receive_all(fd, reply, is_structured ? 30 : 10));
}

/* Reads one reply to its end; its cookie, and for a read its data in `data`. The error or 0. */
static uint32_t receive_reply(int fd, uint64_t *cookie, uint8_t *data, uint64_t offset, const uint32_t *lengths)
{
    uint8_t head[20], more[64];
    assert(receive_all(fd, head, 4));
    if (vdr_nbd_u32(head) == VDR_NBD_SIMPLE_MAGIC) {
        assert(receive_all(fd, head + 4, 12));
        *cookie = vdr_nbd_u64(head + 8);
        uint32_t error = vdr_nbd_u32(head + 4);
        if (!error && lengths[*cookie])
            assert(receive_all(fd, data, lengths[*cookie]));
        return error;
    }
    assert(vdr_nbd_u32(head) == VDR_NBD_CHUNK_MAGIC);
    for (;;) {
        assert(receive_all(fd, head + 4, 16));
        uint32_t bytes = vdr_nbd_u32(head + 16), error = 0;
        *cookie = vdr_nbd_u64(head + 8);
        if (vdr_nbd_u16(head + 6) == VDR_NBD_CHUNK_DATA) {
            assert(bytes > 8 && receive_all(fd, more, 8));
            uint64_t at = vdr_nbd_u64(more);
            assert(at >= offset && at - offset + bytes - 8 <= lengths[*cookie]);
            assert(receive_all(fd, data + (at - offset), bytes - 8));
        } else if (vdr_nbd_u16(head + 6) == VDR_NBD_CHUNK_ERROR) {
            uint8_t text[256];
            assert(bytes <= sizeof text && receive_all(fd, text, bytes));
            error = vdr_nbd_u32(text);
        } else
            assert(bytes == 0);
        if (vdr_nbd_u16(head + 4) & VDR_NBD_CHUNK_DONE)
            return error;
        assert(receive_all(fd, head, 4) && vdr_nbd_u32(head) == VDR_NBD_CHUNK_MAGIC);
    }
}

/* Write and read back one's own part of the disk, all requests sent before the first reply is read. */
static void check_own_part(int fd, unsigned number, size_t piece)
{
    uint64_t start = number * (uint64_t)SLOT_BYTES, cookie;
    uint8_t *sent = malloc((size_t)REQUESTS * 3100 * 2), *end = sent, *data = malloc(SLOT_BYTES), expected[3000];
    uint32_t none[REQUESTS * 2] = {0}, lengths[REQUESTS * 2];
    for (uint64_t i = 0; i < REQUESTS; i++) {
        end = put_request(end, VDR_NBD_CMD_WRITE, i % 5 ? 0 : VDR_NBD_FUA, i, start + i * sizeof expected, sizeof expected);
        memset(end, (int)(number * 16 + i + 1), sizeof expected);
        end += sizeof expected;
    }
    send_all(fd, sent, (size_t)(end - sent), piece);
    uint64_t seen = 0;
    for (int i = 0; i < REQUESTS; i++) {
        assert(receive_reply(fd, &cookie, data, 0, none) == 0 && cookie < REQUESTS);
        seen |= 1ull << cookie;
    }
    assert(seen == (1ull << REQUESTS) - 1);
    end = sent;
    for (uint64_t i = 0; i < REQUESTS; i++) {
        end = put_request(end, VDR_NBD_CMD_READ, 0, i, start + i * sizeof expected, sizeof expected);
        lengths[i] = sizeof expected;
    }
    send_all(fd, sent, (size_t)(end - sent), piece);
    for (int i = 0; i < REQUESTS; i++) {
        /* Where a chunk says that it stands depends on the cookie, which comes first: peek. */
        uint8_t head[20];
        assert(recv(fd, head, 16, MSG_PEEK | MSG_WAITALL) == 16);
        uint64_t peeked = vdr_nbd_u64(head + 8);
        assert(peeked < REQUESTS);
        assert(receive_reply(fd, &cookie, data, start + peeked * sizeof expected, lengths) == 0 && cookie == peeked);
        memset(expected, (int)(number * 16 + cookie + 1), sizeof expected);
        assert(memcmp(data, expected, sizeof expected) == 0);
        answered++;
    }
    /* Longer than a piece, and a write that does not fit. */
    lengths[0] = SLOT_BYTES * 6;
    uint8_t *whole = malloc(lengths[0]);
    send_all(fd, sent, (size_t)(put_request(sent, VDR_NBD_CMD_READ, 0, 0, 0, lengths[0]) - sent), piece);
    assert(receive_reply(fd, &cookie, whole, 0, lengths) == 0);
    send_all(fd, sent, (size_t)(put_request(sent, VDR_NBD_CMD_READ, 0, 1, NBD_DISK_BYTES - 5, 6) - sent), piece);
    assert(receive_reply(fd, &cookie, whole, 0, none) == VDR_NBD_EINVAL && cookie == 1);
    free(whole);
    free(data);
    free(sent);
}

static void *run_client(void *argument)
{
    unsigned number = (unsigned)(size_t)argument;
    uint8_t bytes[64];
    for (unsigned turn = 0; turn < TURNS; turn++) {
        int fd = connect_to_server();
        negotiate(fd, "kept", (turn + number) % 2);
        check_own_part(fd, number, number % 3 ? 1 << 20 : 100 + turn);
        uint8_t *end = put_request(bytes, VDR_NBD_CMD_DISC, 0, 0, 0, 0);
        if (turn % 3 == 0) /* vanish in the middle of a request */
            send_all(fd, bytes, 20, 20);
        else if (turn % 3 == 1) {
            send_all(fd, bytes, (size_t)(end - bytes), 28);
            assert(recv(fd, bytes, 1, 0) == 0);
        }
        close(fd);
    }
    return NULL;
}

static void *change_exports(void *argument)
{
    (void)argument;
    for (int turn = 0; !is_over; turn++) {
        vdr_nbd_export_spec spec = nbd_spec(turn % 2);
        if (vdr_nbd_server_unexport(server, spec.id) == VDR_OK)
            assert(vdr_nbd_server_export(server, &spec, disk) == VDR_OK);
        vdr_nfs_event events[32];
        uint64_t lost;
        vdr_nbd_server_events(server, events, 32, &lost);
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    return NULL;
}

static void check_ended_export_closes_its_connections(void)
{
    uint8_t byte;
    vdr_nbd_export_spec spec = nbd_spec(0);
    int fd = connect_to_server();
    negotiate(fd, "export-0", 1);
    assert(vdr_nbd_server_unexport(server, spec.id) == VDR_OK);
    assert(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    assert(vdr_nbd_server_unexport(server, spec.id) == VDR_E_MISSING);
}

static uint64_t seconds_from_now(uint64_t seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint64_t)now.tv_sec + seconds) * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Until it is closed: the server may be about to learn that its last answer has left. */
static void sweep_until_closed(int fd, uint64_t seconds)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    uint8_t byte;
    int is_told = 0;
    for (int attempt = 0; attempt < 3000 && !is_told; attempt++) {
        vdr_nbd_server_sweep(server, seconds_from_now(seconds));
        is_told = poll(&waiting, 1, 20);
    }
    assert(is_told == 1 && recv(fd, &byte, 1, 0) == 0);
}

static void check_limits_close_connections(void)
{
    uint8_t bytes[64], data[512];
    uint32_t lengths[] = {512};
    uint64_t cookie;
    int silent = connect_to_server(), idle = connect_to_server();
    assert(receive_all(silent, data, VDR_NBD_GREETING_BYTES));
    negotiate(idle, "kept", 0);
    size_t count = (size_t)(put_request(bytes, VDR_NBD_CMD_READ, 0, 0, 0, 512) - bytes);
    send_all(idle, bytes, count, count);
    assert(receive_reply(idle, &cookie, data, 0, lengths) == 0);
    sweep_until_closed(silent, 21);
    send_all(idle, bytes, count, count);
    assert(receive_reply(idle, &cookie, data, 0, lengths) == 0);
    sweep_until_closed(idle, 101);
    close(silent);
    close(idle);
}

/* Sends something that ends the connection, in the middle of a good one. */
static void check_violation_ends_the_connection(const uint8_t *bytes, size_t count)
{
    uint8_t byte;
    int fd = connect_to_server();
    negotiate(fd, "kept", 1);
    send_all(fd, bytes, count, count);
    assert(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
}

int main(void)
{
    vdr_nbd_settings settings = {.threads = 0, .connections_max = CLIENTS + 2, .requests_max = 5,
                                 .negotiate_seconds = 20, .stall_seconds = 10, .idle_seconds = 100};
    pthread_t clients[CLIENTS], changer;
    uint8_t bytes[64] = {0};
    assert(vdr_nbd_server_open(&settings, NULL, &server) == VDR_E_ARGUMENT);
    settings.threads = 4;
    assert(vdr_disk_memory_open(NBD_DISK_BYTES, &disk) == VDR_OK);
    assert(vdr_nbd_server_open(&settings, NULL, &server) == VDR_OK);
    vdr_nbd_export_spec kept = nbd_spec(9);
    snprintf(kept.name, sizeof kept.name, "kept");
    assert(vdr_nbd_server_export(server, &kept, disk) == VDR_OK);
    for (int i = 0; i < 2; i++) {
        vdr_nbd_export_spec spec = nbd_spec(i);
        assert(vdr_nbd_server_export(server, &spec, disk) == VDR_OK);
    }
    assert(pthread_create(&changer, NULL, change_exports, NULL) == 0);
    for (size_t i = 0; i < CLIENTS; i++)
        assert(pthread_create(&clients[i], NULL, run_client, (void *)i) == 0);
    for (size_t i = 0; i < CLIENTS; i++)
        assert(pthread_join(clients[i], NULL) == 0);
    is_over = 1;
    assert(pthread_join(changer, NULL) == 0);
    assert(answered > TURNS * REQUESTS);
    check_ended_export_closes_its_connections();
    check_limits_close_connections();
    check_violation_ends_the_connection(bytes, 28);
    put_request(bytes, VDR_NBD_CMD_WRITE, 0, 1, 0, VDR_NBD_PAYLOAD_BYTES_MAX + 1);
    check_violation_ends_the_connection(bytes, 28);

    vdr_nbd_request_statistics requests;
    vdr_nbd_connection_statistics connections;
    vdr_nbd_server_statistics(server, &requests, &connections);
    assert(requests.reads >= (uint64_t)answered && connections.accepted > CLIENTS && connections.refused >= 2);
    /* Closed in the middle of everything: what hangs in connections is freed with them. */
    int left[3];
    for (int i = 0; i < 3; i++) {
        left[i] = connect_to_server();
        negotiate(left[i], "kept", i % 2);
        put_request(bytes, VDR_NBD_CMD_READ, 0, 1, 0, 1 << 20);
        for (int call = 0; call < 40; call++)
            send_all(left[i], bytes, 28, 28);
    }
    vdr_nbd_server_close(server);
    for (int i = 0; i < 3; i++)
        close(left[i]);
    vdr_disk_close(disk);
    printf("nbd server: ok, %d answers\n", answered);
    return 0;
}

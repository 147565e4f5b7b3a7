/* The service threads under clients that ask, pipeline, dribble, stall and vanish, while exports come and go. */
#undef NDEBUG
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "nfs_fixture.h"
#include "nfs_server.h"

enum { CLIENTS = 6, TURNS = 60 };

static vdr_nfs_server *server;
static vdr_disk *disk;
static atomic_int answered, is_over;

static vdr_nfs_export_spec export_spec(int number)
{
    vdr_nfs_export_spec spec = {.is_writable = 1, .network_count = 1, .modified_ns = 1};
    memset(spec.id, 'a' + number, sizeof spec.id);
    snprintf(spec.name, sizeof spec.name, "export-%d", number);
    return spec;
}

/* A connection that the server serves; -1 when it takes no more. */
static int connect_to_server(void)
{
    static const uint8_t address[16];
    int sockets[2];
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    struct timeval limit = {20, 0};
    assert(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    int error = vdr_nfs_server_serve(server, sockets[1], address, "tester", VDR_NFS_NFS | VDR_NFS_MOUNT);
    if (error) {
        assert(error == VDR_E_SPACE);
        close(sockets[0]);
        close(sockets[1]);
        return -1;
    }
    return sockets[0];
}

static size_t make_record(unsigned number, uint8_t *record)
{
    size_t bytes = make_call(number, record + 4);
    for (int i = 0; i < 4; i++)
        record[i] = (uint8_t)(((uint32_t)bytes | 0x80000000u) >> (24 - 8 * i));
    return bytes + 4;
}

static int receive_all(int fd, uint8_t *place, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = recv(fd, place, bytes, 0);
        if (got <= 0)
            return 0;
        place += got;
        bytes -= (size_t)got;
    }
    return 1;
}

static int receive_reply(int fd)
{
    static _Thread_local uint8_t reply[VDR_NFS_RECORD_BYTES_MAX];
    uint8_t mark[4];
    if (!receive_all(fd, mark, sizeof mark))
        return 0;
    size_t bytes = (size_t)(mark[1] << 16 | mark[2] << 8 | mark[3]);
    assert(mark[0] == 0x80 && bytes <= sizeof reply && receive_all(fd, reply, bytes));
    assert(reply[3] == 7 && reply[7] == 1);
    answered++;
    return 1;
}

static void *run_client(void *argument)
{
    unsigned number = (unsigned)(size_t)argument;
    uint8_t record[CALL_BYTES_MAX + 4];
    for (unsigned turn = 0; turn < TURNS; turn++) {
        int fd = connect_to_server();
        if (fd < 0)
            continue;
        unsigned calls = 1 + (turn * 7 + number) % 30;
        for (unsigned i = 0; i < calls; i++) {
            /* Calls of NFS, without those that are answered by closing. */
            size_t bytes = make_record((turn + i * number) % 29, record), sent = 0;
            while (sent < bytes) { /* dribbled by some */
                size_t piece = number % 3 == 0 ? 1 + i % 50 : bytes;
                ssize_t put = send(fd, record + sent, piece < bytes - sent ? piece : bytes - sent, MSG_NOSIGNAL);
                assert(put > 0);
                sent += (size_t)put;
            }
        }
        if (turn % 3 == 0) { /* vanish, some in the middle of a call */
            if (number % 2)
                send(fd, record, 20, MSG_NOSIGNAL);
        } else
            for (unsigned i = 0; i < calls; i++)
                assert(receive_reply(fd));
        close(fd);
    }
    return NULL;
}

static void *change_exports(void *argument)
{
    (void)argument;
    for (int turn = 0; !is_over; turn++) {
        vdr_nfs_export_spec spec = export_spec(turn % 2);
        if (vdr_nfs_server_unexport(server, spec.id) == VDR_OK)
            assert(vdr_nfs_server_export(server, &spec, disk) == VDR_OK);
        vdr_nfs_event events[32];
        uint64_t lost;
        vdr_nfs_server_events(server, events, 32, &lost);
        nanosleep(&(struct timespec){0, 500000}, NULL);
    }
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check_limits_close_connections(void)
{
    uint8_t record[CALL_BYTES_MAX + 4], byte;
    size_t bytes = make_record(1, record);
    int silent = connect_to_server(), half = connect_to_server(), idle = connect_to_server();
    assert(send(half, record, 30, 0) == 30);
    assert(send(idle, record, bytes, 0) == (ssize_t)bytes && receive_reply(idle));
    assert(send(half, record + 30, 10, 0) == 10);
    /* The server has seen the half call when it answers what was sent after it. */
    assert(send(idle, record, bytes, 0) == (ssize_t)bytes && receive_reply(idle));
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    vdr_nfs_server_sweep(server, now_ns() + 11000000000u);
    assert(recv(half, &byte, 1, 0) <= 0);
    vdr_nfs_server_sweep(server, now_ns() + 21000000000u);
    assert(recv(silent, &byte, 1, 0) <= 0);
    assert(send(idle, record, bytes, 0) == (ssize_t)bytes && receive_reply(idle));
    vdr_nfs_server_sweep(server, now_ns() + 101000000000u);
    assert(recv(idle, &byte, 1, 0) <= 0);
    close(silent);
    close(half);
    close(idle);
}

int main(void)
{
    vdr_nfs_settings settings = {.threads = 4, .connections_max = CLIENTS + 2, .calls_max = 5,
                                 .first_call_seconds = 20, .stall_seconds = 10, .idle_seconds = 100};
    pthread_t clients[CLIENTS], changer;
    settings.threads = 0;
    assert(vdr_nfs_server_open(&settings, -1, handle_key, &server) == VDR_E_ARGUMENT);
    settings.threads = 4;
    assert(vdr_disk_memory_open(DISK_BYTES, &disk) == VDR_OK);
    assert(vdr_nfs_server_open(&settings, -1, handle_key, &server) == VDR_OK);
    for (int i = 0; i < 2; i++) {
        vdr_nfs_export_spec spec = export_spec(i);
        assert(vdr_nfs_server_export(server, &spec, disk) == VDR_OK);
        assert(vdr_nfs_server_export(server, &spec, disk) == VDR_E_ARGUMENT);
    }
    assert(pthread_create(&changer, NULL, change_exports, NULL) == 0);
    for (size_t i = 0; i < CLIENTS; i++)
        assert(pthread_create(&clients[i], NULL, run_client, (void *)i) == 0);
    for (size_t i = 0; i < CLIENTS; i++)
        assert(pthread_join(clients[i], NULL) == 0);
    is_over = 1;
    assert(pthread_join(changer, NULL) == 0);
    assert(answered > CLIENTS * TURNS);
    check_limits_close_connections();

    vdr_nfs_call_statistics calls;
    vdr_nfs_connection_statistics connections;
    vdr_nfs_server_statistics(server, &calls, &connections);
    assert(calls.calls >= (uint64_t)answered && connections.accepted > CLIENTS);
    /* Closed in the middle of everything: what hangs in connections is freed with them. */
    int left[3];
    uint8_t record[CALL_BYTES_MAX + 4];
    for (int i = 0; i < 3; i++) {
        left[i] = connect_to_server();
        size_t bytes = make_record(6, record);
        for (int call = 0; left[i] >= 0 && call < 40; call++)
            assert(send(left[i], record, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
    }
    vdr_nfs_server_close(server);
    for (int i = 0; i < 3; i++)
        if (left[i] >= 0)
            close(left[i]);
    vdr_disk_close(disk);
    printf("nfs server: ok, %d answers\n", answered);
    return 0;
}

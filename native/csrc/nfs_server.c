#define _GNU_SOURCE
#include "nfs_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "nfs_record.h"

enum {
    THREADS_MAX = 64,
    CONNECTIONS_MAX = 4096,
    CALLS_MAX = 256,
    CALLS_PER_TURN = 16, /* then other connections have theirs */
    GATHER_BYTES = 128 << 10, /* of answers that leave together */
};

/* A call that takes so long is worth another thread for those behind it: about what waking one costs. */
static const uint64_t SLOW_NS = 40000;

static const uint64_t STOP_TOKEN = UINT64_MAX;
static const uint64_t SECOND_NS = 1000000000u;

/* A call's or a reply's bytes. */
typedef struct buffer {
    struct buffer *next;
    size_t bytes, sent;
    unsigned calls;           /* whose answers it holds */
    uint8_t data[VDR_NFS_RECORD_BYTES_MAX];
} buffer;

typedef struct {
    pthread_mutex_t lock;     /* guards everything below but `record`, which is the reader's */
    vdr_nfs_server *server;
    int fd;                   /* -1: the place is free */
    uint32_t generation;      /* of the place, so that a late event of a connection before is told apart */
    uint32_t index;
    vdr_nfs_client client;
    int is_closing;
    int has_reader, has_sender, is_blocked;  /* is_blocked: the peer does not take the first reply in the queue */
    unsigned threads;         /* that work on it */
    unsigned calls;           /* read and not yet answered to the last byte */
    int is_starved;           /* what was pulled of the next call is not enough to go on */
    int is_slow;              /* the last call took long: others do not wait for the one that is answered now */
    uint32_t armed;           /* events that epoll is asked for */
    uint64_t accepted_ns, last_call_ns, inside_since_ns, blocked_since_ns;
    vdr_nfs_record record;
    buffer *reading;          /* whose data is record.buffer */
    buffer *first_reply, **last_reply, *last_queued;
} connection;

struct vdr_nfs_server {
    vdr_nfs_service service;
    vdr_nfs_settings settings;
    int epoll_fd, stop_fd, space_fd;
    _Atomic int is_stopping;
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
    connection *connections;
    _Atomic uint64_t connection_count, accepted, refused;

    pthread_mutex_t buffer_lock;
    buffer *free_buffers;
    uint32_t free_count;
    uint64_t buffer_count;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t exact_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static buffer *buffer_take(vdr_nfs_server *server)
{
    pthread_mutex_lock(&server->buffer_lock);
    buffer *taken = server->free_buffers;
    if (taken) {
        server->free_buffers = taken->next;
        server->free_count--;
    } else
        server->buffer_count++;
    pthread_mutex_unlock(&server->buffer_lock);
    if (!taken)
        taken = malloc(sizeof *taken);
    if (!taken) {
        pthread_mutex_lock(&server->buffer_lock);
        server->buffer_count--;
        pthread_mutex_unlock(&server->buffer_lock);
        return NULL;
    }
    taken->next = NULL;
    taken->bytes = taken->sent = 0;
    taken->calls = 1;
    return taken;
}

static void buffer_give(vdr_nfs_server *server, buffer *given)
{
    if (!given)
        return;
    pthread_mutex_lock(&server->buffer_lock);
    /* Each thread works with two; what a burst needed beyond that goes back. */
    int is_kept = server->free_count < 2 * server->thread_count;
    if (is_kept) {
        given->next = server->free_buffers;
        server->free_buffers = given;
        server->free_count++;
    } else
        server->buffer_count--;
    pthread_mutex_unlock(&server->buffer_lock);
    if (!is_kept)
        free(given);
}

/* Bytes of the next call were pulled with the one before: epoll will not tell of them. Lock held. */
static int has_pulled_ahead(const connection *self)
{
    return !self->has_reader && !self->is_starved && self->record.head_bytes > self->record.head_used;
}

/* Ask epoll for what the connection can use now. Lock held. */
static void arm(connection *self)
{
    uint32_t wanted = 0;
    if (self->is_closing)
        return;
    if (!self->has_reader && !self->is_blocked && self->calls < self->server->settings.calls_max)
        wanted |= EPOLLIN;
    if (self->is_blocked && !self->has_sender)
        wanted |= EPOLLOUT;
    if (wanted & EPOLLIN && has_pulled_ahead(self))
        wanted |= EPOLLOUT; /* epoll knows nothing of these bytes, but a socket that can be written to is there at once */
    if (!wanted || wanted == self->armed)
        return;
    struct epoll_event event = {.events = wanted | EPOLLONESHOT,
                                .data.u64 = (uint64_t)self->generation << 32 | self->index};
    epoll_ctl(self->server->epoll_fd, EPOLL_CTL_MOD, self->fd, &event);
    self->armed = wanted;
}

/* End the connection; it is freed when the last thread leaves it. Lock held. */
static void end(connection *self, const char *reason)
{
    if (self->is_closing)
        return;
    self->is_closing = 1;
    shutdown(self->fd, SHUT_RDWR);
    if (!reason)
        return;
    self->server->refused++;
    vdr_nfs_events_tell(self->server->service.events, VDR_NFS_EVENT_REFUSED, self->client.name, "%s", reason);
}

/* Lock held. */
static void free_if_unused(connection *self)
{
    if (!self->is_closing || self->threads > 0 || self->fd < 0)
        return;
    close(self->fd); /* leaves the epoll too */
    self->fd = -1;
    self->generation++;
    buffer_give(self->server, self->reading);
    self->reading = NULL;
    while (self->first_reply) {
        buffer *dropped = self->first_reply;
        self->first_reply = dropped->next;
        buffer_give(self->server, dropped);
    }
    self->server->connection_count--;
}

static ssize_t pull_from_socket(void *context, void *place, size_t bytes)
{
    return recv(((connection *)context)->fd, place, bytes, MSG_DONTWAIT);
}

static uint8_t *take_record_buffer(void *context)
{
    connection *self = context;
    self->reading = buffer_take(self->server);
    return self->reading ? self->reading->data : NULL;
}

static const char *end_reason(vdr_nfs_record_state state)
{
    switch (state) {
    case VDR_NFS_RECORD_CUT:
        return "connection ended inside a call";
    case VDR_NFS_RECORD_TOO_LONG:
        return "call longer than the limit";
    case VDR_NFS_RECORD_TOO_MANY_FRAGMENTS:
        return "call of too many fragments";
    case VDR_NFS_RECORD_NO_BUFFER:
        return "out of memory";
    default:
        return NULL;
    }
}

/* Send queued replies until none is left or the peer takes no more. Lock held; let go of while sending. */
static void send_replies(connection *self)
{
    self->has_sender = 1;
    while (self->first_reply && !self->is_closing) {
        buffer *reply = self->first_reply;
        pthread_mutex_unlock(&self->lock);
        ssize_t sent = send(self->fd, reply->data + reply->sent, reply->bytes - reply->sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        int error = sent < 0 ? errno : 0;
        pthread_mutex_lock(&self->lock);
        if (error == EINTR)
            continue;
        if (error == EAGAIN || error == EWOULDBLOCK) {
            if (!self->is_blocked)
                self->blocked_since_ns = now_ns();
            self->is_blocked = 1;
            break;
        }
        if (error) {
            end(self, "connection broke while answering");
            break;
        }
        if (self->is_blocked)
            self->blocked_since_ns = now_ns();
        reply->sent += (size_t)sent;
        if (reply->sent < reply->bytes)
            continue;
        self->first_reply = reply->next;
        if (!self->first_reply)
            self->last_reply = &self->first_reply;
        self->calls -= reply->calls;
        self->is_blocked = 0;
        buffer_give(self->server, reply);
    }
    self->has_sender = 0;
}

/* Answers that leave at the same time leave together. Lock held. */
static void queue_reply(connection *self, buffer *reply)
{
    buffer *last = self->last_queued;
    int is_waiting = self->first_reply && (self->first_reply != last || (!self->has_sender && !self->is_blocked));
    if (is_waiting && last->bytes + reply->bytes <= GATHER_BYTES) {
        memcpy(last->data + last->bytes, reply->data, reply->bytes);
        last->bytes += reply->bytes;
        last->calls++;
        buffer_give(self->server, reply);
        return;
    }
    *self->last_reply = reply;
    self->last_reply = &reply->next;
    self->last_queued = reply;
}

/* Whether the answers in the queue may wait for that to the next call, which is here already. Lock held. */
static int may_gather(const connection *self)
{
    return has_pulled_ahead(self) && !self->is_slow && self->calls < self->server->settings.calls_max &&
           (!self->first_reply || self->last_queued->bytes < GATHER_BYTES / 2);
}

/* Lock held. */
static void send_queued(connection *self)
{
    if (self->first_reply && !self->has_sender && !self->is_blocked && !self->is_closing)
        send_replies(self);
}

/* Read one call as the connection's reader. 1 and the call, 0 when there is none now. Lock held; let go of meanwhile. */
static int read_call(connection *self, buffer **call)
{
    vdr_nfs_record_source source = {pull_from_socket, take_record_buffer, self};
    self->has_reader = 1;
    pthread_mutex_unlock(&self->lock);
    vdr_nfs_record_state state = vdr_nfs_record_pull(&self->record, &source);
    pthread_mutex_lock(&self->lock);
    self->has_reader = 0;
    self->is_starved = state == VDR_NFS_RECORD_WAIT;
    if (state == VDR_NFS_RECORD_WHOLE) {
        *call = self->reading;
        (*call)->bytes = self->record.bytes;
        self->reading = NULL;
        vdr_nfs_record_reset(&self->record);
        self->last_call_ns = now_ns();
        self->inside_since_ns = 0;
        self->calls++;
        return 1;
    }
    if (state != VDR_NFS_RECORD_WAIT)
        end(self, end_reason(state));
    else if (self->record.is_inside && !self->inside_since_ns)
        self->inside_since_ns = now_ns();
    return 0;
}

/* Answer a call and queue the answer. Comes back with the lock. */
static void answer_call(connection *self, buffer *call)
{
    vdr_nfs_server *server = self->server;
    uint64_t begun_ns = exact_ns();
    buffer *reply = buffer_take(server);
    int64_t bytes = reply ? vdr_nfs_service_answer(&server->service, &self->client, call->data, call->bytes, reply->data,
                                                   sizeof reply->data)
                          : VDR_E_MEMORY;
    buffer_give(server, call);
    pthread_mutex_lock(&self->lock);
    if (bytes < 0) {
        end(self, bytes == VDR_E_MEMORY ? "out of memory" : "not an RPC call");
        buffer_give(server, reply);
        return;
    }
    reply->bytes = (size_t)bytes;
    self->is_slow = exact_ns() - begun_ns > SLOW_NS;
    queue_reply(self, reply);
}

static int may_read(const connection *self)
{
    return !self->is_closing && !self->has_reader && !self->is_blocked &&
           self->calls < self->server->settings.calls_max && !self->server->is_stopping;
}

/* Go on with answers that the peer did not take, if epoll says that it does now. Lock held. */
static void send_queued_or_blocked(connection *self)
{
    if (self->first_reply && !self->has_sender && !self->is_closing)
        send_replies(self);
}

/* Whether to try for one more call: what was pulled ahead at least, and what epoll has not been asked to tell of. */
static int goes_on(const connection *self, int turn)
{
    if (!may_read(self))
        return 0;
    if (has_pulled_ahead(self))
        return 1;
    /* A client that sends one call at a time has not sent the next: asking the socket would only cost a system call. */
    return turn < CALLS_PER_TURN && !(turn == 1 && self->record.is_drained);
}

/* Serve a connection that epoll told of, as long as calls come without waiting and nobody else is kept waiting. Another thread
 * is let in only before a call that may take long: waking one costs more than most calls do. */
static void serve(connection *self, uint32_t generation)
{
    buffer *call;
    pthread_mutex_lock(&self->lock);
    if (self->fd >= 0 && self->generation == generation && !self->is_closing) {
        self->threads++;
        self->armed = 0;
        send_queued_or_blocked(self);
        for (int turn = 0; goes_on(self, turn); turn++) {
            if (!read_call(self, &call))
                break;
            if (self->is_slow || vdr_nfs_service_may_wait(call->data, call->bytes)) {
                send_queued(self);
                arm(self);
            }
            pthread_mutex_unlock(&self->lock);
            answer_call(self, call); /* comes back with the lock */
            if (!may_gather(self))
                send_queued(self);
        }
        send_queued(self);
        arm(self);
        self->threads--;
    }
    free_if_unused(self);
    pthread_mutex_unlock(&self->lock);
}

static void *run_thread(void *argument)
{
    vdr_nfs_server *server = argument;
    struct epoll_event event;
    while (!server->is_stopping) {
        int count = epoll_wait(server->epoll_fd, &event, 1, -1);
        if (count == 1 && event.data.u64 != STOP_TOKEN)
            serve(&server->connections[(uint32_t)event.data.u64], (uint32_t)(event.data.u64 >> 32));
    }
    return NULL;
}

static int start_threads(vdr_nfs_server *server)
{
    sigset_t all, before;
    sigfillset(&all);
    /* Signals are the interpreter's. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (!error && server->thread_count < server->settings.threads) {
        error = pthread_create(&server->threads[server->thread_count], NULL, run_thread, server);
        if (!error) {
            char name[16];
            snprintf(name, sizeof name, "vdr-nfs-%u", server->thread_count % 1000);
            pthread_setname_np(server->threads[server->thread_count++], name);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? VDR_E_MEMORY : VDR_OK;
}

static int settings_are_valid(const vdr_nfs_settings *settings)
{
    return settings->threads >= 1 && settings->threads <= THREADS_MAX && settings->connections_max >= 1 &&
           settings->connections_max <= CONNECTIONS_MAX && settings->calls_max >= 1 && settings->calls_max <= CALLS_MAX;
}

int vdr_nfs_server_open(const vdr_nfs_settings *settings, int space_fd, const uint8_t handle_key[16],
                        vdr_nfs_server **server)
{
    if (!settings_are_valid(settings))
        return VDR_E_ARGUMENT;
    vdr_nfs_server *made = calloc(1, sizeof *made);
    connection *connections = calloc(settings->connections_max, sizeof *connections);
    if (!made || !connections) {
        free(made);
        free(connections);
        return VDR_E_MEMORY;
    }
    made->settings = *settings;
    made->connections = connections;
    pthread_mutex_init(&made->buffer_lock, NULL);
    /* Held for some hundred nanoseconds, and asked for by the next thread that epoll wakes: sleeping for it costs more. */
    pthread_mutexattr_t adaptive;
    pthread_mutexattr_init(&adaptive);
    pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    for (uint32_t i = 0; i < settings->connections_max; i++) {
        pthread_mutex_init(&connections[i].lock, &adaptive);
        connections[i].server = made;
        connections[i].index = i;
        connections[i].fd = -1;
    }
    pthread_mutexattr_destroy(&adaptive);
    made->space_fd = space_fd < 0 ? -1 : fcntl(space_fd, F_DUPFD_CLOEXEC, 0);
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    made->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = STOP_TOKEN};
    int error = vdr_nfs_service_open(&made->service, made->space_fd, handle_key);
    if (!error && (made->epoll_fd < 0 || made->stop_fd < 0 || (space_fd >= 0 && made->space_fd < 0) ||
                   epoll_ctl(made->epoll_fd, EPOLL_CTL_ADD, made->stop_fd, &event))) {
        vdr_nfs_service_close(&made->service);
        error = VDR_E_IO;
    }
    if (error) {
        close(made->epoll_fd);
        close(made->stop_fd);
        close(made->space_fd);
        free(connections);
        free(made);
        return error;
    }
    error = start_threads(made);
    if (error)
        vdr_nfs_server_close(made);
    else
        *server = made;
    return error;
}

void vdr_nfs_server_close(vdr_nfs_server *server)
{
    uint64_t one = 1;
    server->is_stopping = 1;
    ssize_t ignored = write(server->stop_fd, &one, sizeof one);
    (void)ignored;
    for (uint32_t i = 0; i < server->thread_count; i++)
        pthread_join(server->threads[i], NULL);
    for (uint32_t i = 0; i < server->settings.connections_max; i++) {
        connection *self = &server->connections[i];
        if (self->fd >= 0) {
            end(self, NULL);
            free_if_unused(self);
        }
        pthread_mutex_destroy(&self->lock);
    }
    vdr_nfs_service_close(&server->service);
    while (server->free_buffers) {
        buffer *next = server->free_buffers->next;
        free(server->free_buffers);
        server->free_buffers = next;
    }
    close(server->epoll_fd);
    close(server->stop_fd);
    if (server->space_fd >= 0)
        close(server->space_fd);
    pthread_mutex_destroy(&server->buffer_lock);
    free(server->connections);
    free(server);
}

void vdr_nfs_server_set_ports(vdr_nfs_server *server, uint32_t nfs_port, uint32_t mount_port, uint32_t portmap_port)
{
    server->service.nfs_port = (uint16_t)nfs_port;
    server->service.mount_port = (uint16_t)mount_port;
    server->service.portmap_port = (uint16_t)portmap_port;
}

static void prepare_socket(int fd)
{
    int on = 1, idle_seconds = 60, interval_seconds = 10, probes = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A peer that vanished is found out although an idle connection is left alone. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof interval_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* Lock held, place free. */
static int begin(connection *self, int fd, const uint8_t address[16], const char *name, uint32_t programs)
{
    uint32_t generation = self->generation;
    self->client.programs = programs;
    memcpy(self->client.address, address, sizeof self->client.address);
    snprintf(self->client.name, sizeof self->client.name, "%s", name);
    self->is_closing = self->has_reader = self->has_sender = self->is_blocked = 0;
    self->threads = self->calls = 0;
    self->accepted_ns = now_ns();
    self->last_call_ns = self->inside_since_ns = self->blocked_since_ns = 0;
    memset(&self->record, 0, sizeof self->record);
    self->reading = NULL;
    self->is_slow = self->is_starved = 0;
    self->first_reply = self->last_queued = NULL;
    self->last_reply = &self->first_reply;
    self->armed = EPOLLIN;
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = (uint64_t)generation << 32 | self->index};
    if (epoll_ctl(self->server->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return VDR_E_IO;
    self->fd = fd;
    self->server->connection_count++;
    self->server->accepted++;
    return VDR_OK;
}

int vdr_nfs_server_serve(vdr_nfs_server *server, int fd, const uint8_t address[16], const char *name, uint32_t programs)
{
    prepare_socket(fd);
    for (uint32_t i = 0; i < server->settings.connections_max; i++) {
        connection *self = &server->connections[i];
        pthread_mutex_lock(&self->lock);
        int is_free = self->fd < 0;
        int error = is_free ? begin(self, fd, address, name, programs) : VDR_OK;
        pthread_mutex_unlock(&self->lock);
        if (is_free)
            return error;
    }
    return VDR_E_SPACE;
}

/* A limit of 0 seconds is none. */
static int is_over(uint64_t now, uint64_t since_ns, uint32_t limit_seconds)
{
    return since_ns && limit_seconds && now > since_ns && now - since_ns > limit_seconds * SECOND_NS;
}

void vdr_nfs_server_sweep(vdr_nfs_server *server, uint64_t now)
{
    const vdr_nfs_settings *settings = &server->settings;
    vdr_nfs_exports_watch(&server->service.exports, server->service.events, server->space_fd);
    for (uint32_t i = 0; i < settings->connections_max; i++) {
        connection *self = &server->connections[i];
        pthread_mutex_lock(&self->lock);
        if (self->fd >= 0 && !self->is_closing) {
            if (is_over(now, self->inside_since_ns, settings->stall_seconds))
                end(self, "call not finished in time");
            else if (self->is_blocked && is_over(now, self->blocked_since_ns, settings->stall_seconds))
                end(self, "answers not taken in time");
            else if (!self->last_call_ns && is_over(now, self->accepted_ns, settings->first_call_seconds))
                end(self, "no call came in time");
            else if (!self->calls && is_over(now, self->last_call_ns, settings->idle_seconds))
                end(self, "idle for too long");
        }
        if (self->fd >= 0)
            free_if_unused(self);
        pthread_mutex_unlock(&self->lock);
    }
}

int vdr_nfs_server_export(vdr_nfs_server *server, const vdr_nfs_export_spec *spec, vdr_disk *disk)
{
    return vdr_nfs_service_export(&server->service, spec, disk);
}

int vdr_nfs_server_unexport(vdr_nfs_server *server, const uint8_t id[16])
{
    return vdr_nfs_exports_remove(&server->service.exports, id);
}

int vdr_nfs_server_event_fd(const vdr_nfs_server *server)
{
    return vdr_nfs_events_fd(server->service.events);
}

int64_t vdr_nfs_server_events(vdr_nfs_server *server, vdr_nfs_event *events, size_t capacity, uint64_t *lost)
{
    return vdr_nfs_events_take(server->service.events, events, capacity, lost);
}

void vdr_nfs_server_statistics(vdr_nfs_server *server, vdr_nfs_call_statistics *calls,
                               vdr_nfs_connection_statistics *connections)
{
    vdr_nfs_service_statistics(&server->service, calls);
    connections->connections = server->connection_count;
    connections->accepted = server->accepted;
    connections->refused = server->refused;
    pthread_mutex_lock(&server->buffer_lock);
    connections->buffers = server->buffer_count;
    pthread_mutex_unlock(&server->buffer_lock);
}

#define _GNU_SOURCE
#include "nbd_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "nbd_buffer.h"
#include "nbd_wire.h"

enum {
    THREADS_MAX = 64,
    CONNECTIONS_MAX = 4096,
    REQUESTS_MAX = 256,
    REQUESTS_PER_TURN = 64,      /* then other connections have theirs */
    INPUT_BYTES = 32 << 10,      /* more than an option, and many requests */
    REPLIES_PER_SEND = 32,
    HELD_BYTES_MAX = 128 << 10,  /* replies that wait for the ones behind them */
    QUICK_BYTES = 64 << 10,      /* a read of a block or less */
    QUICK_NS = 40000,            /* answered from memory; waking another thread costs about half of it */
    SAMPLED_EACH = 4,
    PROGRESS_BYTES = 64 << 10,   /* a payload that grows by so much is not stalled */
};

static const uint64_t STOP_TOKEN = UINT64_MAX;
static const uint64_t SECOND_NS = 1000000000u;

typedef struct {
    pthread_mutex_t lock;     /* guards everything below but what is the reader's */
    vdr_nbd_server *server;
    int fd;                   /* -1: the place is free */
    uint32_t generation;      /* of the place, so that a late event of a connection before is told apart */
    uint32_t index;
    vdr_nbd_session session;  /* constant in transmission */
    vdr_tls *tls;
    int tls_wants_write;
    int is_closing;
    int is_leaving;           /* said goodbye: closed when all is answered */
    int has_reader, has_sender, is_blocked;  /* is_blocked: the peer does not take the first reply in the queue */
    unsigned threads;         /* that work on it */
    unsigned calls;           /* read and not yet answered to the last byte */
    uint64_t call_bytes;      /* of them */
    uint64_t quick_ns;        /* what small reads and writes took of late */
    uint32_t armed;           /* events that epoll is asked for */
    uint64_t accepted_ns, last_call_ns, inside_since_ns, blocked_since_ns;
    vdr_nbd_buffer *first_reply, **last_reply;
    uint64_t queued_bytes;

    /* the reader's */
    uint8_t *input;           /* INPUT_BYTES; [input_start, input_end) came and is not yet taken */
    size_t input_start, input_end;
    int is_drained;           /* the last pull found less than it had room for */
    vdr_nbd_request request;  /* whose payload is coming */
    vdr_nbd_buffer *payload;
    size_t payload_seen;      /* of it when inside_since_ns was set */
} connection;

struct vdr_nbd_server {
    vdr_nbd_service service;
    vdr_nbd_settings settings;
    vdr_tls_context *tls;
    vdr_nbd_buffers buffers;
    int epoll_fd, stop_fd;
    _Atomic int is_stopping;
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
    connection *connections;
    _Atomic uint64_t connection_count, accepted, refused;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }

/* ---- what a connection waits for ---- */

static int may_read(const connection *self)
{
    return !self->is_closing && !self->is_leaving && !self->has_reader && !self->is_blocked &&
           self->calls < self->server->settings.requests_max && self->call_bytes < VDR_NBD_PAYLOAD_BYTES_MAX &&
           !self->server->is_stopping;
}

/* Bytes that came already: epoll will not tell of them. Asked when nobody reads. */
static int has_pulled_ahead(const connection *self)
{
    if (!self->payload && self->input_end - self->input_start >= VDR_NBD_REQUEST_BYTES)
        return 1;
    return self->tls && !self->is_drained && vdr_tls_has_pending(self->tls);
}

/* Ask epoll for what the connection can use now. Lock held. */
static void arm(connection *self)
{
    uint32_t wanted = 0;
    if (self->is_closing)
        return;
    if (self->session.phase != VDR_NBD_TRANSMISSION)
        wanted = self->is_blocked || self->tls_wants_write ? EPOLLOUT : EPOLLIN;
    else if (self->is_blocked && !self->has_sender)
        wanted = EPOLLOUT;
    else if (may_read(self))
        /* That the socket can be written to is told at once: somebody comes for what was pulled ahead. */
        wanted = has_pulled_ahead(self) ? EPOLLIN | EPOLLOUT : EPOLLIN;
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
    if (reason) {
        self->server->refused++;
        vdr_nfs_events_tell(self->server->service.events, VDR_NFS_EVENT_REFUSED, self->session.name, "%s", reason);
    }
    shutdown(self->fd, SHUT_RDWR);
}

/* Lock held. */
static void free_if_unused(connection *self)
{
    if (self->is_leaving && self->calls == 0)
        end(self, NULL);
    if (!self->is_closing || self->threads > 0 || self->fd < 0)
        return;
    vdr_tls_close(self->tls);
    self->tls = NULL;
    close(self->fd); /* leaves the epoll too */
    self->fd = -1;
    self->generation++;
    free(self->input);
    self->input = NULL;
    vdr_nbd_buffer_give(&self->server->buffers, self->payload);
    self->payload = NULL;
    while (self->first_reply) {
        vdr_nbd_buffer *dropped = self->first_reply;
        self->first_reply = dropped->next;
        vdr_nbd_buffer_give(&self->server->buffers, dropped);
    }
    self->server->connection_count--;
}

/* ---- sending ---- */

/* Send what the queue began with: the bytes that left, or -1. */
static ssize_t send_some(connection *self, struct iovec *parts, size_t count)
{
    if (self->tls)
        return vdr_tls_write(self->tls, parts[0].iov_base, parts[0].iov_len);
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    return sendmsg(self->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Take `sent` bytes off the queue. Lock held. */
static void dequeue(connection *self, size_t sent)
{
    self->queued_bytes -= sent;
    while (sent > 0) {
        vdr_nbd_buffer *reply = self->first_reply;
        size_t left = reply->bytes - reply->sent, part = sent < left ? sent : left;
        reply->sent += part;
        sent -= part;
        if (part < left)
            return;
        self->first_reply = reply->next;
        if (!self->first_reply)
            self->last_reply = &self->first_reply;
        if (reply->is_last) {
            self->calls--;
            self->call_bytes -= reply->call_bytes;
        }
        vdr_nbd_buffer_give(&self->server->buffers, reply);
    }
}

/* Send queued replies until none is left or the peer takes no more. Lock held; let go of while sending. */
static void send_replies(connection *self)
{
    self->has_sender = 1;
    while (self->first_reply && !self->is_closing) {
        struct iovec parts[REPLIES_PER_SEND];
        size_t count = 0;
        for (vdr_nbd_buffer *reply = self->first_reply; reply && count < REPLIES_PER_SEND; reply = reply->next)
            parts[count++] = (struct iovec){reply->data + reply->sent, reply->bytes - reply->sent};
        /* Only the sender takes replies from the queue. */
        pthread_mutex_unlock(&self->lock);
        ssize_t sent = send_some(self, parts, count);
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
        dequeue(self, (size_t)sent);
        self->is_blocked = 0;
    }
    self->has_sender = 0;
}

/* Lock held. */
static void flush_replies(connection *self)
{
    if (self->first_reply && !self->has_sender && !self->is_blocked)
        send_replies(self);
}

/* Lock held. */
static void queue_reply(connection *self, vdr_nbd_buffer *reply)
{
    self->queued_bytes += reply->bytes;
    *self->last_reply = reply;
    self->last_reply = &reply->next;
}

/* ---- receiving ---- */

/* What a pull came to. */
typedef enum { PULLED, WAIT, BROKEN } pull_state;

static pull_state pulled(connection *self, ssize_t got, size_t room)
{
    /* TLS gives a record at a time, whatever else is there. */
    self->is_drained = got < 0 || (!self->tls && (size_t)got < room);
    if (got > 0)
        return PULLED;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return WAIT;
    return BROKEN;
}

/* Bytes from the peer, to the payload that is coming first and then to the input. As the reader. */
static pull_state pull(connection *self)
{
    if (self->input_start == self->input_end)
        self->input_start = self->input_end = 0;
    else if (self->input_start > 0) {
        memmove(self->input, self->input + self->input_start, self->input_end - self->input_start);
        self->input_end -= self->input_start;
        self->input_start = 0;
    }
    size_t wanted = self->payload ? self->request.length_bytes - self->payload->bytes : 0;
    size_t room = INPUT_BYTES - self->input_end;
    uint8_t *place = self->payload ? self->payload->data + self->payload->bytes : NULL;
    ssize_t got;
    if (self->tls && wanted) {
        got = vdr_tls_read(self->tls, place, wanted);
        room = 0;
    } else if (self->tls) {
        got = vdr_tls_read(self->tls, self->input + self->input_end, room);
    } else {
        struct iovec parts[2] = {{place, wanted}, {self->input + self->input_end, room}};
        struct msghdr message = {.msg_iov = wanted ? parts : parts + 1, .msg_iovlen = wanted ? 2 : 1};
        got = recvmsg(self->fd, &message, MSG_DONTWAIT);
    }
    pull_state state = pulled(self, got, wanted + room);
    if (state == PULLED) {
        size_t to_payload = (size_t)got < wanted ? (size_t)got : wanted;
        if (self->payload)
            self->payload->bytes += to_payload;
        self->input_end += (size_t)got - to_payload;
    }
    return state;
}

/* A request with its payload, read and not yet answered. */
typedef struct {
    vdr_nbd_request request;
    vdr_nbd_buffer *payload;
} call;

/* Take a request from the input if it is all there: 1, or 0, or VDR_E_* with *reason. As the reader. */
static int parse_input(connection *self, call *out, const char **reason)
{
    if (!self->payload) {
        if (self->input_end - self->input_start < VDR_NBD_REQUEST_BYTES)
            return 0;
        if (!vdr_nbd_request_parse(self->input + self->input_start, &self->request)) {
            *reason = "sent something else than a request";
            return VDR_E_ARGUMENT;
        }
        self->input_start += VDR_NBD_REQUEST_BYTES;
        size_t wanted = vdr_nbd_request_payload_bytes(&self->request);
        if (wanted > VDR_NBD_PAYLOAD_BYTES_MAX) {
            *reason = "write longer than the limit";
            return VDR_E_ARGUMENT;
        }
        *out = (call){self->request, NULL};
        if (wanted == 0)
            return 1;
        self->payload = vdr_nbd_buffer_take(&self->server->buffers, wanted);
        if (!self->payload) {
            *reason = "out of memory";
            return VDR_E_MEMORY;
        }
        size_t here = self->input_end - self->input_start;
        self->payload->bytes = here < wanted ? here : wanted;
        memcpy(self->payload->data, self->input + self->input_start, self->payload->bytes);
        self->input_start += self->payload->bytes;
        self->payload_seen = 0;
    }
    if (self->payload->bytes < self->request.length_bytes)
        return 0;
    *out = (call){self->request, self->payload};
    self->payload = NULL;
    return 1;
}

/* What an unanswered request may hold. */
static uint64_t bytes_of_call(const vdr_nbd_request *request)
{
    int has_data = request->type == VDR_NBD_CMD_READ || request->type == VDR_NBD_CMD_WRITE;
    return has_data && request->length_bytes <= VDR_NBD_PAYLOAD_BYTES_MAX ? request->length_bytes : 0;
}

/* Mark how long the peer has been in the middle of something. Lock held, nobody reads. */
static void note_waiting(connection *self)
{
    int is_inside = self->payload || self->input_end > self->input_start;
    size_t seen = self->payload ? self->payload->bytes : 0;
    if (!is_inside)
        self->inside_since_ns = 0;
    else if (!self->inside_since_ns || seen - self->payload_seen >= PROGRESS_BYTES) {
        self->inside_since_ns = now_ns();
        self->payload_seen = seen;
    }
}

/* Read one request as the connection's reader. 1 and the request, 0 when there is none now. Lock held; let go of meanwhile. */
static int read_request(connection *self, call *out)
{
    const char *reason = NULL;
    pull_state state = PULLED;
    self->has_reader = 1;
    pthread_mutex_unlock(&self->lock);
    int parsed = parse_input(self, out, &reason);
    while (parsed == 0 && (state = pull(self)) == PULLED)
        parsed = parse_input(self, out, &reason);
    pthread_mutex_lock(&self->lock);
    self->has_reader = 0;
    if (parsed < 0) {
        end(self, reason);
        return 0;
    }
    if (parsed > 0) {
        self->last_call_ns = now_ns();
        self->inside_since_ns = 0;
        self->calls++;
        self->call_bytes += bytes_of_call(&out->request);
        return 1;
    }
    if (state == WAIT)
        note_waiting(self);
    else
        end(self, self->payload || self->input_end > self->input_start ? "connection ended inside a request" : NULL);
    return 0;
}

/* ---- answering ---- */

typedef struct {
    connection *connection;
    vdr_nbd_buffer *reserved;
    uint64_t call_bytes;
    int is_held;  /* the replies leave with a later one */
} reply_place;

static uint8_t *reserve_reply(void *context, size_t bytes)
{
    reply_place *place = context;
    /* A piece that was not used is there still. */
    if (place->reserved && place->reserved->capacity < bytes) {
        vdr_nbd_buffer_give(&place->connection->server->buffers, place->reserved);
        place->reserved = NULL;
    }
    if (!place->reserved)
        place->reserved = vdr_nbd_buffer_take(&place->connection->server->buffers, bytes);
    return place->reserved ? place->reserved->data : NULL;
}

static void commit_reply(void *context, size_t bytes, int is_last)
{
    reply_place *place = context;
    connection *self = place->connection;
    vdr_nbd_buffer *reply = place->reserved;
    place->reserved = NULL;
    reply->bytes = bytes;
    reply->is_last = is_last;
    reply->call_bytes = is_last ? place->call_bytes : 0;
    pthread_mutex_lock(&self->lock);
    queue_reply(self, reply);
    if (!place->is_held)
        flush_replies(self);
    pthread_mutex_unlock(&self->lock);
}

/* Returns with the lock. */
static void answer_call(connection *self, call *taken, int is_held)
{
    vdr_nbd_server *server = self->server;
    reply_place place = {self, NULL, bytes_of_call(&taken->request), is_held};
    vdr_nbd_sink sink = {reserve_reply, commit_reply, &place};
    int error = vdr_nbd_service_answer(&server->service, &self->session, &taken->request,
                                       taken->payload ? taken->payload->data : NULL, &sink);
    vdr_nbd_buffer_give(&server->buffers, place.reserved);
    vdr_nbd_buffer_give(&server->buffers, taken->payload);
    pthread_mutex_lock(&self->lock);
    if (error)
        end(self, "out of memory");
}

/* Of the calling thread: time is that of the processor, because on a busy machine every answer seems slow. */
typedef struct {
    uint64_t busy_ns;
    long waits;
} effort;

static effort effort_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return (effort){clock_ns(CLOCK_THREAD_CPUTIME_ID), usage.ru_nvcsw};
}

/* An answer that waited for something counts as one that takes long. */
static uint64_t effort_since(effort before)
{
    effort now = effort_now();
    uint64_t busy_ns = now.busy_ns - before.busy_ns, longest_ns = 4 * QUICK_NS;
    return now.waits != before.waits || busy_ns > longest_ns ? longest_ns : busy_ns;
}

/* What memory mostly answers. */
static int is_small(const vdr_nbd_request *request)
{
    int is_data = request->type == VDR_NBD_CMD_READ || (request->type == VDR_NBD_CMD_WRITE && !request->flags);
    return is_data && request->length_bytes <= QUICK_BYTES;
}

/* Requests, as long as they come without waiting and nobody else is kept waiting. Lock held; let go of meanwhile. */
static void serve_requests(connection *self)
{
    call taken;
    for (int turn = 0; may_read(self) && turn < REQUESTS_PER_TURN; turn++) {
        if (!read_request(self, &taken))
            break;
        if (taken.request.type == VDR_NBD_CMD_DISC) {
            self->calls--;
            self->is_leaving = 1;
            break;
        }
        int may_be_quick = is_small(&taken.request), is_quick = may_be_quick && self->quick_ns < QUICK_NS;
        if (!is_quick)
            arm(self);
        pthread_mutex_unlock(&self->lock);
        int is_sampled = may_be_quick && turn % SAMPLED_EACH == 0;
        effort before = is_sampled ? effort_now() : (effort){0, 0};
        answer_call(self, &taken, is_quick); /* comes back with the lock */
        if (is_sampled)
            self->quick_ns = (self->quick_ns * 3 + effort_since(before)) / 4;
        int has_next = !self->has_reader && !self->payload &&
                       self->input_end - self->input_start >= VDR_NBD_REQUEST_BYTES;
        if (is_quick && has_next && self->queued_bytes < HELD_BYTES_MAX)
            continue;
        flush_replies(self);
        /* A peer that waits for each answer has sent nothing more: epoll will tell of it. */
        if (!has_next && !self->has_reader && turn == 0 && self->is_drained)
            break;
    }
    flush_replies(self);
}

/* ---- negotiating ---- */

/* Lock held, replies sent. */
static int begin_tls(connection *self)
{
    if (self->input_end > self->input_start) {
        /* Somebody may have put it between the client and us. */
        end(self, "sent more before TLS began");
        return 0;
    }
    if (!self->tls && vdr_tls_open(self->server->tls, self->fd, &self->tls)) {
        end(self, "out of memory");
        return 0;
    }
    int state = vdr_tls_handshake(self->tls, &self->tls_wants_write);
    if (state < 0)
        end(self, "TLS handshake failed");
    if (state == 1)
        vdr_nbd_session_secure(&self->session);
    return state == 1;
}

/* Answer a message that came. 1 when there was one. Lock held. */
static int negotiate_message(connection *self)
{
    vdr_nbd_buffer *answer = vdr_nbd_buffer_take(&self->server->buffers, VDR_NBD_ANSWER_BYTES_MAX);
    if (!answer) {
        end(self, "out of memory");
        return 0;
    }
    size_t answered;
    int64_t used = vdr_nbd_session_negotiate(&self->session, self->input + self->input_start,
                                             self->input_end - self->input_start, answer->data, &answered);
    answer->bytes = answered;
    if (used < 0)
        end(self, self->session.reason);
    else
        self->input_start += (size_t)used;
    if (answered && !self->is_closing)
        queue_reply(self, answer);
    else
        vdr_nbd_buffer_give(&self->server->buffers, answer);
    return used > 0;
}

/* One step; 1 if there may be another at once. Lock held. */
static int negotiate(connection *self)
{
    /* We are here because the peer takes more, or it would be refused again at once. */
    if (self->is_blocked && !self->has_sender)
        send_replies(self);
    flush_replies(self);
    if (self->first_reply || self->is_closing)
        return 0;
    if (self->session.phase == VDR_NBD_OVER) {
        end(self, NULL);
        return 0;
    }
    if (self->session.phase == VDR_NBD_STARTING_TLS)
        return begin_tls(self);
    if (self->input_end > self->input_start && negotiate_message(self))
        return 1;
    if (self->is_closing)
        return 0;
    pull_state state = pull(self);
    if (state == BROKEN)
        end(self, "connection ended while negotiating");
    return state == PULLED;
}

/* ---- threads ---- */

static void serve(connection *self, uint32_t generation)
{
    pthread_mutex_lock(&self->lock);
    if (self->fd >= 0 && self->generation == generation && !self->is_closing) {
        self->threads++;
        self->armed = 0;
        while (self->session.phase != VDR_NBD_TRANSMISSION && !self->server->is_stopping && negotiate(self))
            ;
        if (self->session.phase == VDR_NBD_TRANSMISSION && !self->is_closing) {
            if (self->is_blocked && !self->has_sender)
                send_replies(self);
            serve_requests(self);
        }
        arm(self);
        self->threads--;
    }
    if (self->fd >= 0)
        free_if_unused(self);
    pthread_mutex_unlock(&self->lock);
}

static void *run_thread(void *argument)
{
    vdr_nbd_server *server = argument;
    struct epoll_event event;
    while (!server->is_stopping) {
        int count = epoll_wait(server->epoll_fd, &event, 1, -1);
        if (count == 1 && event.data.u64 != STOP_TOKEN)
            serve(&server->connections[(uint32_t)event.data.u64], (uint32_t)(event.data.u64 >> 32));
    }
    return NULL;
}

static int start_threads(vdr_nbd_server *server)
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
            snprintf(name, sizeof name, "vdr-nbd-%u", server->thread_count % 1000);
            pthread_setname_np(server->threads[server->thread_count++], name);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? VDR_E_MEMORY : VDR_OK;
}

static int settings_are_valid(const vdr_nbd_settings *settings, const vdr_tls_context *tls)
{
    return settings->threads >= 1 && settings->threads <= THREADS_MAX && settings->connections_max >= 1 &&
           settings->connections_max <= CONNECTIONS_MAX && settings->requests_max >= 1 &&
           settings->requests_max <= REQUESTS_MAX && settings->tls_mode <= VDR_NBD_TLS_REQUIRED &&
           (settings->tls_mode == VDR_NBD_TLS_OFF) == !tls;
}

int vdr_nbd_server_open(const vdr_nbd_settings *settings, vdr_tls_context *tls, vdr_nbd_server **server)
{
    if (!settings_are_valid(settings, tls))
        return VDR_E_ARGUMENT;
    vdr_nbd_server *made = calloc(1, sizeof *made);
    connection *connections = calloc(settings->connections_max, sizeof *connections);
    if (!made || !connections) {
        free(made);
        free(connections);
        return VDR_E_MEMORY;
    }
    made->settings = *settings;
    made->tls = tls;
    made->connections = connections;
    vdr_nbd_buffers_open(&made->buffers);
    for (uint32_t i = 0; i < settings->connections_max; i++) {
        pthread_mutex_init(&connections[i].lock, NULL);
        connections[i].server = made;
        connections[i].index = i;
        connections[i].fd = -1;
    }
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    made->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = STOP_TOKEN};
    int error = vdr_nbd_service_open(&made->service);
    if (!error && (made->epoll_fd < 0 || made->stop_fd < 0 ||
                   epoll_ctl(made->epoll_fd, EPOLL_CTL_ADD, made->stop_fd, &event))) {
        vdr_nbd_service_close(&made->service);
        error = VDR_E_IO;
    }
    if (error) {
        close(made->epoll_fd);
        close(made->stop_fd);
        free(connections);
        free(made);
        return error;
    }
    error = start_threads(made);
    if (error)
        vdr_nbd_server_close(made);
    else
        *server = made;
    return error;
}

void vdr_nbd_server_close(vdr_nbd_server *server)
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
    vdr_nbd_service_close(&server->service);
    vdr_nbd_buffers_close(&server->buffers);
    close(server->epoll_fd);
    close(server->stop_fd);
    free(server->connections);
    free(server);
}

static void prepare_socket(int fd)
{
    int on = 1, idle_seconds = 60, interval_seconds = 10, probes = 3;
    /* TLS reads and writes without flags. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A peer that vanished is found out although an idle connection is left alone. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds, sizeof idle_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_seconds, sizeof interval_seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* Queue the greeting and ask epoll for the connection. Lock held, place free. */
static int begin(connection *self, int fd, const uint8_t address[16], const char *name)
{
    vdr_nbd_server *server = self->server;
    vdr_nbd_buffer *greeting = vdr_nbd_buffer_take(&server->buffers, VDR_NBD_GREETING_BYTES);
    self->input = malloc(INPUT_BYTES);
    if (!greeting || !self->input) {
        vdr_nbd_buffer_give(&server->buffers, greeting);
        free(self->input);
        self->input = NULL;
        return VDR_E_MEMORY;
    }
    self->session = (vdr_nbd_session){.exports = &server->service.exports, .tls_mode = (int)server->settings.tls_mode};
    memcpy(self->session.address, address, sizeof self->session.address);
    snprintf(self->session.name, sizeof self->session.name, "%s", name);
    self->tls_wants_write = self->is_closing = self->is_leaving = 0;
    self->has_reader = self->has_sender = self->is_blocked = self->is_drained = 0;
    self->threads = self->calls = 0;
    self->call_bytes = self->quick_ns = self->queued_bytes = 0;
    self->accepted_ns = now_ns();
    self->last_call_ns = self->inside_since_ns = self->blocked_since_ns = 0;
    self->input_start = self->input_end = self->payload_seen = 0;
    self->first_reply = NULL;
    self->last_reply = &self->first_reply;
    vdr_nbd_session_greet(&self->session, greeting->data);
    greeting->bytes = VDR_NBD_GREETING_BYTES;
    queue_reply(self, greeting);
    /* It can be written to: a thread comes and greets. */
    self->armed = EPOLLOUT;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT,
                                .data.u64 = (uint64_t)self->generation << 32 | self->index};
    self->fd = fd;
    server->connection_count++;
    server->accepted++;
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return VDR_OK;
    /* The caller keeps its socket. */
    self->fd = -1;
    self->first_reply = NULL;
    vdr_nbd_buffer_give(&server->buffers, greeting);
    free(self->input);
    self->input = NULL;
    server->connection_count--;
    server->accepted--;
    return VDR_E_IO;
}

int vdr_nbd_server_serve(vdr_nbd_server *server, int fd, const uint8_t address[16], const char *name)
{
    prepare_socket(fd);
    for (uint32_t i = 0; i < server->settings.connections_max; i++) {
        connection *self = &server->connections[i];
        pthread_mutex_lock(&self->lock);
        int is_free = self->fd < 0;
        int error = is_free ? begin(self, fd, address, name) : VDR_OK;
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

/* Lock held. */
static void enforce_limits(connection *self, uint64_t now)
{
    const vdr_nbd_settings *settings = &self->server->settings;
    if (self->session.phase != VDR_NBD_TRANSMISSION) {
        if (is_over(now, self->accepted_ns, settings->negotiate_seconds))
            end(self, "did not choose an export in time");
    } else if (is_over(now, self->inside_since_ns, settings->stall_seconds))
        end(self, "request not finished in time");
    else if (self->is_blocked && is_over(now, self->blocked_since_ns, settings->stall_seconds))
        end(self, "replies not taken in time");
    else if (!self->calls &&
             is_over(now, self->last_call_ns ? self->last_call_ns : self->accepted_ns, settings->idle_seconds))
        end(self, "idle for too long");
}

void vdr_nbd_server_sweep(vdr_nbd_server *server, uint64_t now)
{
    for (uint32_t i = 0; i < server->settings.connections_max; i++) {
        connection *self = &server->connections[i];
        pthread_mutex_lock(&self->lock);
        if (self->fd >= 0 && !self->is_closing)
            enforce_limits(self, now);
        if (self->fd >= 0)
            free_if_unused(self);
        pthread_mutex_unlock(&self->lock);
    }
}

int vdr_nbd_server_export(vdr_nbd_server *server, const vdr_nbd_export_spec *spec, vdr_disk *disk)
{
    return vdr_nbd_exports_add(&server->service.exports, spec, disk);
}

int vdr_nbd_server_unexport(vdr_nbd_server *server, const uint8_t id[16])
{
    int error = vdr_nbd_exports_remove(&server->service.exports, id);
    if (error)
        return error;
    for (uint32_t i = 0; i < server->settings.connections_max; i++) {
        connection *self = &server->connections[i];
        pthread_mutex_lock(&self->lock);
        if (self->fd >= 0 && self->session.phase == VDR_NBD_TRANSMISSION &&
            memcmp(self->session.export_id, id, sizeof self->session.export_id) == 0) {
            end(self, NULL);
            free_if_unused(self);
        }
        pthread_mutex_unlock(&self->lock);
    }
    return VDR_OK;
}

int vdr_nbd_server_event_fd(const vdr_nbd_server *server)
{
    return vdr_nfs_events_fd(server->service.events);
}

int64_t vdr_nbd_server_events(vdr_nbd_server *server, vdr_nfs_event *events, size_t capacity, uint64_t *lost)
{
    return vdr_nfs_events_take(server->service.events, events, capacity, lost);
}

void vdr_nbd_server_statistics(vdr_nbd_server *server, vdr_nbd_request_statistics *requests,
                               vdr_nbd_connection_statistics *connections)
{
    vdr_nbd_service_statistics(&server->service, requests);
    *connections = (vdr_nbd_connection_statistics){
        .connections = server->connection_count,
        .accepted = server->accepted,
        .refused = server->refused,
        .buffer_bytes = server->buffers.bytes,
    };
}

#include "nfs_event.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "err.h"

enum { CAPACITY = 256 };

struct vdr_nfs_events {
    pthread_mutex_t lock;
    int fd;
    size_t first, count;
    uint64_t lost;
    vdr_nfs_event ring[CAPACITY];
};

int vdr_nfs_events_open(vdr_nfs_events **events)
{
    vdr_nfs_events *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    made->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->fd < 0) {
        free(made);
        return VDR_E_IO;
    }
    pthread_mutex_init(&made->lock, NULL);
    *events = made;
    return VDR_OK;
}

void vdr_nfs_events_close(vdr_nfs_events *events)
{
    close(events->fd);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

int vdr_nfs_events_fd(const vdr_nfs_events *events)
{
    return events->fd;
}

/* Peers choose some of the text: keep it one printable line. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e)
            *text = '?';
}

void vdr_nfs_events_tell(vdr_nfs_events *events, uint32_t kind, const char *peer, const char *format, ...)
{
    pthread_mutex_lock(&events->lock);
    if (events->count == CAPACITY) {
        events->lost++;
    } else {
        vdr_nfs_event *event = &events->ring[(events->first + events->count++) % CAPACITY];
        event->kind = kind;
        snprintf(event->peer, sizeof event->peer, "%s", peer);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(event->text, sizeof event->text, format, arguments);
        va_end(arguments);
        make_printable(event->peer);
        make_printable(event->text);
    }
    pthread_mutex_unlock(&events->lock);
    uint64_t one = 1;
    ssize_t ignored = write(events->fd, &one, sizeof one);
    (void)ignored;
}

int64_t vdr_nfs_events_take(vdr_nfs_events *events, vdr_nfs_event *taken, size_t capacity, uint64_t *lost)
{
    size_t count = 0;
    uint64_t value;
    pthread_mutex_lock(&events->lock);
    while (count < capacity && events->count > 0) {
        taken[count++] = events->ring[events->first];
        events->first = (events->first + 1) % CAPACITY;
        events->count--;
    }
    *lost = events->lost;
    events->lost = 0;
    if (events->count == 0) {
        ssize_t ignored = read(events->fd, &value, sizeof value);
        (void)ignored;
    }
    pthread_mutex_unlock(&events->lock);
    return (int64_t)count;
}

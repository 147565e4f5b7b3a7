#define _GNU_SOURCE
#include "ahead.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void vdr_ahead_open(vdr_ahead *ahead, void (*run)(void *context, const uint8_t *ids, size_t count), void *context) {
    memset(ahead, 0, sizeof *ahead);
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->has_jobs, NULL);
    pthread_cond_init(&ahead->has_room, NULL);
    ahead->run = run;
    ahead->context = context;
}

void vdr_ahead_close(vdr_ahead *ahead) {
    pthread_mutex_lock(&ahead->lock);
    ahead->is_stopping = true;
    pthread_cond_broadcast(&ahead->has_jobs);
    pthread_cond_broadcast(&ahead->has_room);
    pthread_mutex_unlock(&ahead->lock);
    for (size_t i = 0; i < ahead->thread_count; i++) pthread_join(ahead->threads[i], NULL);
    free(ahead->jobs);
    pthread_cond_destroy(&ahead->has_jobs);
    pthread_cond_destroy(&ahead->has_room);
    pthread_mutex_destroy(&ahead->lock);
}

static void *run_thread(void *argument) {
    vdr_ahead *ahead = argument;
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->is_stopping) {
        if (!ahead->count) {
            pthread_cond_wait(&ahead->has_jobs, &ahead->lock);
            continue;
        }
        vdr_ahead_job job = ahead->jobs[ahead->first];
        ahead->first = (ahead->first + 1) % VDR_AHEAD_JOBS_MAX;
        ahead->count--;
        pthread_cond_signal(&ahead->has_room);
        pthread_mutex_unlock(&ahead->lock);
        ahead->run(ahead->context, job.ids, job.count);
        pthread_mutex_lock(&ahead->lock);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

/* One a core: the work is decoding. Lock held; without memory or threads nothing is read ahead. */
static void start(vdr_ahead *ahead) {
    ahead->is_started = true;
    ahead->jobs = malloc(VDR_AHEAD_JOBS_MAX * sizeof *ahead->jobs);
    if (!ahead->jobs) return;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cores < 1 ? 1 : cores > VDR_AHEAD_THREADS_MAX ? VDR_AHEAD_THREADS_MAX : (size_t)cores;
    sigset_t all, before;
    sigfillset(&all);
    /* Signals are the interpreter's. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (ahead->thread_count < wanted &&
           !pthread_create(&ahead->threads[ahead->thread_count], NULL, run_thread, ahead))
        pthread_setname_np(ahead->threads[ahead->thread_count++], "vdr-ahead");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool vdr_ahead_add(vdr_ahead *ahead, const uint8_t *ids, size_t count, bool waits) {
    if (!count || count > VDR_AHEAD_IDS_MAX) return false;
    pthread_mutex_lock(&ahead->lock);
    if (!ahead->is_started) start(ahead);
    while (waits && ahead->thread_count && ahead->count == VDR_AHEAD_JOBS_MAX && !ahead->is_stopping)
        pthread_cond_wait(&ahead->has_room, &ahead->lock);
    bool has_room = ahead->thread_count && ahead->count < VDR_AHEAD_JOBS_MAX && !ahead->is_stopping;
    if (has_room) {
        vdr_ahead_job *job = &ahead->jobs[(ahead->first + ahead->count++) % VDR_AHEAD_JOBS_MAX];
        job->count = (uint32_t)count;
        memcpy(job->ids, ids, 32 * count);
        pthread_cond_signal(&ahead->has_jobs);
    }
    pthread_mutex_unlock(&ahead->lock);
    return has_room;
}

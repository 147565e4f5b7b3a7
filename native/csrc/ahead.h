/* Background threads that run small jobs in order: chunks that will be wanted soon are read before they are.
 *
 * Jobs are hints: one that finds no room is dropped. Threads start with the first job. Knows nothing of chunks. */
#ifndef VDR_AHEAD_H
#define VDR_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VDR_AHEAD_IDS_MAX = 16,
    VDR_AHEAD_JOBS_MAX = 64,
    VDR_AHEAD_THREADS_MAX = 4,
};

typedef struct {
    uint32_t count;
    uint8_t ids[VDR_AHEAD_IDS_MAX * 32];
} vdr_ahead_job;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t has_jobs, has_room;
    void (*run)(void *context, const uint8_t *ids, size_t count);
    void *context;
    vdr_ahead_job *jobs; /* a ring */
    size_t first, count;
    pthread_t threads[VDR_AHEAD_THREADS_MAX];
    size_t thread_count;
    bool is_started, is_stopping;
} vdr_ahead;

void vdr_ahead_open(vdr_ahead *ahead, void (*run)(void *context, const uint8_t *ids, size_t count), void *context);

/* Let running jobs end, drop the others. Nobody adds one any more. */
void vdr_ahead_close(vdr_ahead *ahead);

/* Run `run` for these ids soon; true if there was room. With `waits` it waits for room, until the threads are stopped. */
bool vdr_ahead_add(vdr_ahead *ahead, const uint8_t *ids, size_t count, bool waits);

#endif

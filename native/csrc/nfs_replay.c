#include "nfs_replay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "err.h"

typedef enum { ENTRY_EMPTY, ENTRY_RUNNING, ENTRY_DONE } entry_state;

struct vdr_nfs_replay_entry {
    entry_state state;
    uint32_t xid, procedure, checksum, part;
    size_t call_bytes, answer_bytes;
    uint64_t used;     /* when it was begun; the lowest goes first */
    uint8_t address[16];
    uint8_t answer[VDR_NFS_REPLAY_ANSWER_BYTES];
};

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint64_t clock;
    vdr_nfs_replay_entry entries[VDR_NFS_REPLAY_ENTRIES];
} part;

struct vdr_nfs_replay {
    _Atomic uint64_t count;
    part parts[VDR_NFS_REPLAY_PARTS];
};

int vdr_nfs_replay_open(vdr_nfs_replay **replay)
{
    vdr_nfs_replay *made = calloc(1, sizeof *made);
    if (!made)
        return VDR_E_MEMORY;
    for (uint32_t i = 0; i < VDR_NFS_REPLAY_PARTS; i++) {
        pthread_mutex_init(&made->parts[i].lock, NULL);
        pthread_cond_init(&made->parts[i].ended, NULL);
        for (int e = 0; e < VDR_NFS_REPLAY_ENTRIES; e++)
            made->parts[i].entries[e].part = i;
    }
    *replay = made;
    return VDR_OK;
}

void vdr_nfs_replay_close(vdr_nfs_replay *replay)
{
    for (int i = 0; i < VDR_NFS_REPLAY_PARTS; i++) {
        pthread_mutex_destroy(&replay->parts[i].lock);
        pthread_cond_destroy(&replay->parts[i].ended);
    }
    free(replay);
}

/* The call's entry, or NULL; *oldest gets the one to use instead, NULL when all are running. Lock held. */
static vdr_nfs_replay_entry *find(part *in, const vdr_nfs_replay_entry *wanted, vdr_nfs_replay_entry **oldest)
{
    *oldest = NULL;
    for (int i = 0; i < VDR_NFS_REPLAY_ENTRIES; i++) {
        vdr_nfs_replay_entry *entry = &in->entries[i];
        if (entry->state != ENTRY_EMPTY && entry->xid == wanted->xid && entry->procedure == wanted->procedure &&
            entry->checksum == wanted->checksum && entry->call_bytes == wanted->call_bytes &&
            memcmp(entry->address, wanted->address, sizeof entry->address) == 0)
            return entry;
        if (entry->state != ENTRY_RUNNING && (!*oldest || entry->used < (*oldest)->used))
            *oldest = entry;
    }
    return NULL;
}

size_t vdr_nfs_replay_begin(vdr_nfs_replay *replay, const uint8_t address[16], uint32_t xid, uint32_t procedure,
                            const uint8_t *call, size_t bytes, uint8_t *answer, vdr_nfs_replay_entry **entry)
{
    vdr_nfs_replay_entry wanted = {.xid = xid, .procedure = procedure, .call_bytes = bytes};
    memcpy(wanted.address, address, sizeof wanted.address);
    wanted.checksum = vdr_crc32c(0, call, bytes);
    part *in = &replay->parts[vdr_crc32c(0, address, 16) % VDR_NFS_REPLAY_PARTS];
    vdr_nfs_replay_entry *found, *oldest;
    size_t answer_bytes = 0;

    pthread_mutex_lock(&in->lock);
    while ((found = find(in, &wanted, &oldest)) && found->state == ENTRY_RUNNING)
        pthread_cond_wait(&in->ended, &in->lock);
    if (found) {
        answer_bytes = found->answer_bytes;
        memcpy(answer, found->answer, answer_bytes);
        replay->count++;
    } else if (oldest) {
        oldest->state = ENTRY_RUNNING;
        oldest->xid = xid;
        oldest->procedure = procedure;
        oldest->checksum = wanted.checksum;
        oldest->call_bytes = bytes;
        oldest->used = ++in->clock;
        memcpy(oldest->address, address, sizeof oldest->address);
    }
    pthread_mutex_unlock(&in->lock);
    *entry = found ? NULL : oldest;
    return answer_bytes;
}

void vdr_nfs_replay_end(vdr_nfs_replay *replay, vdr_nfs_replay_entry *entry, const uint8_t *answer, size_t bytes)
{
    if (!entry)
        return;
    part *in = &replay->parts[entry->part];
    pthread_mutex_lock(&in->lock);
    int is_kept = bytes > 0 && bytes <= sizeof entry->answer;
    entry->state = is_kept ? ENTRY_DONE : ENTRY_EMPTY;
    if (is_kept) {
        memcpy(entry->answer, answer, bytes);
        entry->answer_bytes = bytes;
    }
    pthread_cond_broadcast(&in->ended);
    pthread_mutex_unlock(&in->lock);
}

uint64_t vdr_nfs_replay_count(const vdr_nfs_replay *replay)
{
    return replay->count;
}

/* Calls that are sent again: known ones, changed ones, more than are kept, and one that still runs. */
#undef NDEBUG
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "nfs_replay.h"

static vdr_nfs_replay *replay;
static const uint8_t address[16] = "address", other[16] = "another address";
static uint8_t answer[VDR_NFS_REPLAY_ANSWER_BYTES];
static vdr_nfs_replay_entry *running;
static atomic_int has_waited;

static size_t begin(const uint8_t of[16], uint32_t xid, const char *call, vdr_nfs_replay_entry **entry)
{
    return vdr_nfs_replay_begin(replay, of, xid, 8, (const uint8_t *)call, strlen(call), answer, entry);
}

static void run(const uint8_t of[16], uint32_t xid, const char *call, const char *answered)
{
    vdr_nfs_replay_entry *entry;
    assert(begin(of, xid, call, &entry) == 0 && entry);
    vdr_nfs_replay_end(replay, entry, (const uint8_t *)answered, strlen(answered));
}

static void *send_again(void *unused)
{
    vdr_nfs_replay_entry *entry;
    uint8_t found[VDR_NFS_REPLAY_ANSWER_BYTES];
    size_t bytes = vdr_nfs_replay_begin(replay, address, 500, 8, (const uint8_t *)"slow", 4, found, &entry);
    assert(bytes == 4 && memcmp(found, "done", 4) == 0);
    has_waited = 1;
    return unused;
}

int main(void)
{
    vdr_nfs_replay_entry *entry;
    assert(vdr_nfs_replay_open(&replay) == VDR_OK);
    run(address, 1, "create a", "made a");
    assert(begin(address, 1, "create a", &entry) == 6 && memcmp(answer, "made a", 6) == 0);
    run(address, 1, "create b", "other arguments");
    run(address, 2, "create a", "other transaction");
    run(other, 1, "create a", "other client");
    assert(begin(other, 1, "create a", &entry) == 12);
    assert(vdr_nfs_replay_count(replay) == 2);

    /* Too long an answer, or none, is not kept. */
    static const uint8_t longest[VDR_NFS_REPLAY_ANSWER_BYTES + 1];
    for (size_t bytes = 0; bytes <= sizeof longest; bytes += sizeof longest) {
        assert(begin(address, 3, "long", &entry) == 0);
        vdr_nfs_replay_end(replay, entry, longest, bytes);
    }
    run(address, 3, "long", "kept");

    /* The oldest go first, and only those of clients that share the part. */
    for (uint32_t xid = 100; xid < 100 + VDR_NFS_REPLAY_ENTRIES; xid++)
        run(address, xid, "more", "answered");
    run(address, 1, "create a", "forgotten, and so it runs again");
    assert(begin(address, 99 + VDR_NFS_REPLAY_ENTRIES, "more", &entry) == 8);

    /* One that runs makes the same wait for it. When all run, a further one is not kept. */
    vdr_nfs_replay_entry *all[VDR_NFS_REPLAY_ENTRIES];
    assert(begin(address, 500, "slow", &running) == 0 && running);
    for (uint32_t i = 1; i < VDR_NFS_REPLAY_ENTRIES; i++)
        assert(begin(address, 600 + i, "busy", &all[i]) == 0 && all[i]);
    assert(begin(address, 700, "too many", &entry) == 0 && !entry);
    vdr_nfs_replay_end(replay, entry, answer, 1);
    pthread_t thread;
    assert(pthread_create(&thread, NULL, send_again, NULL) == 0);
    assert(!has_waited);
    vdr_nfs_replay_end(replay, running, (const uint8_t *)"done", 4);
    assert(pthread_join(thread, NULL) == 0 && has_waited);
    vdr_nfs_replay_close(replay);
    puts("nfs replay: ok");
    return 0;
}

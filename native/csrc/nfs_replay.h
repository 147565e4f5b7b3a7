/* Answers to calls that must not run twice (RFC 1813 section 4.5: the duplicate request cache).
 *
 * A client that lost its connection sends its unanswered calls again. Most can simply run again; CREATE, REMOVE, RENAME and
 * their like would then report what they themselves had done. Their answers are kept for a while and given again.
 *
 * A call is known by its client's address (not its port: a new connection has another), transaction, procedure, length and
 * checksum. Memory is bounded, and divided by address so that one client cannot push out what all others may need. */
#ifndef VDR_NFS_REPLAY_H
#define VDR_NFS_REPLAY_H

#include <stddef.h>
#include <stdint.h>

enum {
    VDR_NFS_REPLAY_PARTS = 16,        /* clients share a part by the hash of their address */
    VDR_NFS_REPLAY_ENTRIES = 64,      /* of a part: more than the unanswered calls of a few clients */
    VDR_NFS_REPLAY_ANSWER_BYTES = 512 /* longer than any answer to such a call */
};

typedef struct vdr_nfs_replay vdr_nfs_replay;
typedef struct vdr_nfs_replay_entry vdr_nfs_replay_entry;

int vdr_nfs_replay_open(vdr_nfs_replay **replay);
void vdr_nfs_replay_close(vdr_nfs_replay *replay);

/* Ask before a call runs. > 0: it ran already, and its answer of so many bytes is in `answer` (of
 * VDR_NFS_REPLAY_ANSWER_BYTES or more); if it runs just now in another thread, waits for it. 0: run it, and then call
 * vdr_nfs_replay_end with *entry (NULL when all entries are in use). */
size_t vdr_nfs_replay_begin(vdr_nfs_replay *replay, const uint8_t address[16], uint32_t xid, uint32_t procedure,
                            const uint8_t *call, size_t bytes, uint8_t *answer, vdr_nfs_replay_entry **entry);

/* Keep the answer; 0 bytes, or more than fit, forget the call. */
void vdr_nfs_replay_end(vdr_nfs_replay *replay, vdr_nfs_replay_entry *entry, const uint8_t *answer, size_t bytes);

/* Calls that were answered from here, ever. */
uint64_t vdr_nfs_replay_count(const vdr_nfs_replay *replay);

#endif

/* Lays the entries of a point down in a target directory: the writing half of a restore. Every name is reached through vdr_dirwalk
 * and created under a temporary name first, so that neither symbolic links in the target nor a crash leave something wrong
 * under a restored name. What cannot be done for one entry is an event; only a full disk stops.
 *
 * A restore calls, block by block: vdr_lay_directories, then vdr_lay_files (from several threads, each with its own vdr_lay), and
 * after all of that, from the start again, vdr_lay_finish. */
#ifndef VDR_LAY_H
#define VDR_LAY_H

#include <stddef.h>
#include <stdint.h>

#include "entry.h"
#include "event.h"

/* cffi: begin */
typedef struct vdr_lay vdr_lay;

/* `root_fd` is the target directory, the caller's, and must outlive the lay. `nonce` makes temporary names unique to the restore
 * and thread. `overwrites`: what is in the way is replaced (a directory only if it is empty). NULL without memory. */
vdr_lay *vdr_lay_open(int root_fd, int overwrites, uint64_t nonce);
void vdr_lay_close(vdr_lay *lay);

/* Create the directories among `bytes` bytes of loose entries, for now with mode 0700. Returns how many. VDR_E_IO when the disk is full. */
int64_t vdr_lay_directories(vdr_lay *lay, const uint8_t *records, size_t bytes, vdr_event_list *events);

/* The chunks that the entries from offset `from` on need: ids to `ids` (room for `capacity`, at least 64), without repetition, up to
 * *to, where `capacity` would be exceeded. Files with a content list need none. Returns their number. */
int64_t vdr_lay_wants(const uint8_t *records, size_t bytes, size_t from, size_t *to, uint8_t *ids, size_t capacity);

/* Create all but directories, files with a content list and VDR_STATE_LINK entries among records[from..to). `ids` names the
 * chunks at `chunks`, `lengths` bytes each. Adds to *written_bytes. Returns entries created, VDR_E_IO when the disk is
 * full, VDR_E_MISSING when a chunk was not given. */
int64_t vdr_lay_files(vdr_lay *lay, const uint8_t *records, size_t from, size_t to, const uint8_t *ids, const uint8_t *const *chunks,
                      const uint32_t *lengths, size_t count, vdr_event_list *events, uint64_t *written_bytes);

/* Begin a regular file that the caller writes: a descriptor of a temporary file of its full length, all hole, or VDR_E_MISSING when it
 * cannot be created (an event), VDR_E_IO when the disk is full. */
int vdr_lay_begin(vdr_lay *lay, const uint8_t *record, vdr_event_list *events);
/* End it: with `is_good` set attributes and name it, else remove it. Closes `fd`. Returns 1 when the file stands, else 0. */
int vdr_lay_end(vdr_lay *lay, const uint8_t *record, int fd, int is_good, vdr_event_list *events);

/* Give the file at `first` the name of `record` too. Returns 1, or 0 with an event. */
int vdr_lay_link(vdr_lay *lay, const uint8_t *record, const uint8_t *first, size_t first_bytes, vdr_event_list *events);

/* Set inode flags of the file or directory at the path of `record`, last of all. Returns 1, or 0 with an event. */
int vdr_lay_flags(vdr_lay *lay, const uint8_t *record, vdr_event_list *events);

/* Set the attributes of directories, each after all that is beneath it. Blocks must come in path order; `is_end` sets those still
 * open. Returns directories done, or VDR_E_MEMORY. */
int64_t vdr_lay_finish(vdr_lay *lay, const uint8_t *records, size_t bytes, int is_end, vdr_event_list *events);
/* cffi: end */

#endif

/* Things that happened to single paths of a tree during a backup or restore, as a list of records in a caller's buffer: what
 * degrades a run and is listed, and never stops it. */
#ifndef VDR_EVENT_H
#define VDR_EVENT_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef enum {
    VDR_EVENT_UNREADABLE = 1, /* content, names or attributes could not be read: `error` */
    VDR_EVENT_VANISHED = 2,   /* gone between listing and reading */
    VDR_EVENT_UNSTABLE = 3,   /* changed each time it was read */
    VDR_EVENT_UNCROSSED = 4,  /* a mount point that was not entered */
    VDR_EVENT_SKIPPED = 5,    /* left out as asked: the storage's own directory, a pseudo file system */
    VDR_EVENT_TOO_LONG = 6,   /* a path beyond VDR_ENTRY_PATH_BYTES_MAX, or attributes beyond their limit */
    VDR_EVENT_UNWRITABLE = 7, /* restore: not created: `error` */
    VDR_EVENT_NOT_KEPT = 9,   /* restore: its content could not be read when it was backed up */
    VDR_EVENT_UNSET = 8,      /* restore: created, but an attribute could not be set: `error`, `detail` */
} vdr_event_kind;

typedef enum {
    VDR_DETAIL_NONE = 0,
    VDR_DETAIL_OWNER = 1,
    VDR_DETAIL_MODE = 2,
    VDR_DETAIL_TIMES = 3,
    VDR_DETAIL_ATTRIBUTES = 4,
    VDR_DETAIL_FLAGS = 5,
} vdr_event_detail;

typedef struct {
    uint32_t record_bytes; /* with the path and padding, a multiple of 8 */
    uint16_t kind;
    uint16_t path_bytes;
    int32_t error; /* errno, or 0 */
    uint32_t detail;
} vdr_event;

typedef struct {
    uint8_t *records; /* 8-byte aligned */
    size_t capacity;
    size_t bytes;
    uint64_t dropped; /* events that found no room */
} vdr_event_list;
/* cffi: end */

/* Append one event, or count it as dropped. */
void vdr_event_add(vdr_event_list *list, vdr_event_kind kind, int error, vdr_event_detail detail, const uint8_t *path, size_t path_bytes);

#endif

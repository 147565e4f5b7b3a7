#include "event.h"

#include <string.h>

void vdr_event_add(vdr_event_list *list, vdr_event_kind kind, int error, vdr_event_detail detail, const uint8_t *path, size_t path_bytes) {
    size_t record_bytes = (sizeof(vdr_event) + path_bytes + 7) & ~(size_t)7;
    if (path_bytes > UINT16_MAX || record_bytes > list->capacity - list->bytes) {
        list->dropped++;
        return;
    }
    uint8_t *out = list->records + list->bytes;
    vdr_event event = {
        .record_bytes = (uint32_t)record_bytes, .kind = (uint16_t)kind, .path_bytes = (uint16_t)path_bytes, .error = error, .detail = (uint32_t)detail};
    memcpy(out, &event, sizeof event);
    memcpy(out + sizeof event, path, path_bytes);
    memset(out + sizeof event + path_bytes, 0, record_bytes - sizeof event - path_bytes);
    list->bytes += record_bytes;
}

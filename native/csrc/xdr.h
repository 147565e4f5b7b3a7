/* XDR (RFC 4506) within bounds: a reader and a writer that never leave their buffer.
 *
 * Both are sticky: after the first step outside the buffer they stay bad, further reads give zero and further writes do
 * nothing. So a decoder runs through and asks once, at the end, whether everything was there. */
#ifndef VDR_XDR_H
#define VDR_XDR_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *next, *end;
    int is_bad;
} vdr_xdr_reader;

typedef struct {
    uint8_t *next, *end;
    int is_full;
} vdr_xdr_writer;

static inline size_t vdr_xdr_padded(size_t bytes)
{
    return (bytes + 3) & ~(size_t)3;
}

static inline uint32_t vdr_xdr_read_u32(vdr_xdr_reader *in)
{
    uint32_t value;
    if ((size_t)(in->end - in->next) < sizeof value) {
        in->is_bad = 1;
        return 0;
    }
    memcpy(&value, in->next, sizeof value);
    in->next += sizeof value;
    return be32toh(value);
}

static inline uint64_t vdr_xdr_read_u64(vdr_xdr_reader *in)
{
    uint64_t high = vdr_xdr_read_u32(in);
    return high << 32 | vdr_xdr_read_u32(in);
}

/* Exactly `bytes` bytes and their padding; NULL when they are not all there. */
static inline const uint8_t *vdr_xdr_read_fixed(vdr_xdr_reader *in, size_t bytes)
{
    const uint8_t *found = in->next;
    size_t left = (size_t)(in->end - in->next);
    if (in->is_bad || bytes > left || vdr_xdr_padded(bytes) > left) {
        in->is_bad = 1;
        return NULL;
    }
    in->next += vdr_xdr_padded(bytes);
    return found;
}

/* Counted bytes, at most `most`; NULL (and bad) when longer or not all there. */
static inline const uint8_t *vdr_xdr_read_opaque(vdr_xdr_reader *in, uint32_t most, uint32_t *bytes)
{
    uint32_t length = vdr_xdr_read_u32(in);
    if (length > most)
        in->is_bad = 1;
    const uint8_t *found = vdr_xdr_read_fixed(in, length);
    *bytes = found ? length : 0;
    return found;
}

/* Room for `bytes` bytes (already padded), or NULL and full. */
static inline uint8_t *vdr_xdr_reserve(vdr_xdr_writer *out, size_t bytes)
{
    uint8_t *place = out->next;
    if (out->is_full || (size_t)(out->end - out->next) < bytes) {
        out->is_full = 1;
        return NULL;
    }
    out->next += bytes;
    return place;
}

static inline void vdr_xdr_write_u32(vdr_xdr_writer *out, uint32_t value)
{
    uint8_t *place = vdr_xdr_reserve(out, sizeof value);
    value = htobe32(value);
    if (place)
        memcpy(place, &value, sizeof value);
}

static inline void vdr_xdr_write_u64(vdr_xdr_writer *out, uint64_t value)
{
    vdr_xdr_write_u32(out, (uint32_t)(value >> 32));
    vdr_xdr_write_u32(out, (uint32_t)value);
}

static inline void vdr_xdr_write_fixed(vdr_xdr_writer *out, const void *data, size_t bytes)
{
    uint8_t *place = vdr_xdr_reserve(out, vdr_xdr_padded(bytes));
    if (!place)
        return;
    memcpy(place, data, bytes);
    memset(place + bytes, 0, vdr_xdr_padded(bytes) - bytes);
}

static inline void vdr_xdr_write_opaque(vdr_xdr_writer *out, const void *data, size_t bytes)
{
    vdr_xdr_write_u32(out, (uint32_t)bytes);
    vdr_xdr_write_fixed(out, data, bytes);
}

#endif

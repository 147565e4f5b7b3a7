/* A client's bytes, for tests of the NBD server and for the fuzzer's seeds. */
#ifndef VDR_TEST_NBD_FIXTURE_H
#define VDR_TEST_NBD_FIXTURE_H

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "disk_memory.h"
#include "err.h"
#include "nbd_export.h"
#include "nbd_service.h"
#include "nbd_wire.h"

enum { NBD_DISK_BYTES = (1 << 20) + 100, NBD_SEEDS = 12 };

static inline vdr_nbd_export_spec nbd_spec(int number)
{
    vdr_nbd_export_spec spec = {.is_writable = number != 1, .network_count = 1};
    memset(spec.id, 'a' + number, sizeof spec.id);
    snprintf(spec.name, sizeof spec.name, "export-%d", number);
    return spec;
}

static inline uint8_t *put_flags(uint8_t *at) { return vdr_nbd_put_u32(at, VDR_NBD_FIXED_NEWSTYLE | VDR_NBD_NO_ZEROES); }

static inline uint8_t *put_option(uint8_t *at, uint32_t option, const void *data, size_t bytes)
{
    at = vdr_nbd_put_u64(at, VDR_NBD_OPTION_MAGIC);
    at = vdr_nbd_put_u32(at, option);
    at = vdr_nbd_put_u32(at, (uint32_t)bytes);
    if (bytes)
        memcpy(at, data, bytes);
    return at + bytes;
}

/* INFO or GO of an export. */
static inline uint8_t *put_go(uint8_t *at, uint32_t option, const char *name)
{
    uint8_t data[64], *end = vdr_nbd_put_u32(data, (uint32_t)strlen(name));
    memcpy(end, name, strlen(name));
    end = vdr_nbd_put_u16(end + strlen(name), 2);
    end = vdr_nbd_put_u16(end, VDR_NBD_INFO_NAME);
    end = vdr_nbd_put_u16(end, VDR_NBD_INFO_BLOCK_SIZE);
    return put_option(at, option, data, (size_t)(end - data));
}

static inline uint8_t *put_context(uint8_t *at, uint32_t option, const char *name, const char *query)
{
    uint8_t data[128], *end = vdr_nbd_put_u32(data, (uint32_t)strlen(name));
    memcpy(end, name, strlen(name));
    end = vdr_nbd_put_u32(end + strlen(name), 1);
    end = vdr_nbd_put_u32(end, (uint32_t)strlen(query));
    memcpy(end, query, strlen(query));
    return put_option(at, option, data, (size_t)(end - data) + strlen(query));
}

static inline uint8_t *put_request(uint8_t *at, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset,
                                   uint32_t length)
{
    at = vdr_nbd_put_u32(at, VDR_NBD_REQUEST_MAGIC);
    at = vdr_nbd_put_u16(at, flags);
    at = vdr_nbd_put_u16(at, type);
    at = vdr_nbd_put_u64(at, cookie);
    at = vdr_nbd_put_u64(at, offset);
    return vdr_nbd_put_u32(at, length);
}

/* A whole conversation, from the client's flags on. */
static inline size_t make_seed(unsigned number, uint8_t *bytes)
{
    static const uint8_t payload[3000] = "payload";
    uint8_t *at = put_flags(bytes);
    if (number % 2)
        at = put_option(at, VDR_NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    if (number % 4 == 3)
        at = put_context(at, VDR_NBD_OPT_SET_META_CONTEXT, "export-0", "base:allocation");
    if (number == 1)
        at = put_context(at, VDR_NBD_OPT_LIST_META_CONTEXT, "export-0", "base:");
    if (number == 2)
        at = put_option(at, VDR_NBD_OPT_LIST, NULL, 0);
    if (number == 4)
        at = put_go(at, VDR_NBD_OPT_INFO, "export-1");
    if (number == 5)
        at = put_option(at, VDR_NBD_OPT_STARTTLS, NULL, 0);
    if (number == 6) {
        at = put_option(at, VDR_NBD_OPT_ABORT, NULL, 0);
        return (size_t)(at - bytes);
    }
    at = number == 8 ? put_option(at, VDR_NBD_OPT_EXPORT_NAME, "export-0", 8) : put_go(at, VDR_NBD_OPT_GO, "export-0");
    at = put_request(at, VDR_NBD_CMD_READ, 0, 1, 4096, 9000);
    at = put_request(at, VDR_NBD_CMD_WRITE, VDR_NBD_FUA, 2, 5000, sizeof payload);
    memcpy(at, payload, sizeof payload);
    at = put_request(at + sizeof payload, VDR_NBD_CMD_BLOCK_STATUS, 0, 3, 0, NBD_DISK_BYTES);
    at = put_request(at, VDR_NBD_CMD_TRIM, 0, 4, 100, 5000);
    at = put_request(at, VDR_NBD_CMD_WRITE_ZEROES, VDR_NBD_NO_HOLE, 5, 100, 5000);
    at = put_request(at, VDR_NBD_CMD_CACHE, 0, 6, 0, 5000);
    at = put_request(at, VDR_NBD_CMD_FLUSH, 0, 7, 0, 0);
    at = put_request(at, VDR_NBD_CMD_READ, VDR_NBD_DF, 8, 1 << 20, 200);
    at = put_request(at, VDR_NBD_CMD_DISC, 0, 9, 0, 0);
    return (size_t)(at - bytes);
}

#endif

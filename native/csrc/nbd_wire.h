/* The numbers of the NBD protocol (https://github.com/NetworkBlockDevice/nbd, doc/proto.md) and its byte order. */
#ifndef VDR_NBD_WIRE_H
#define VDR_NBD_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VDR_NBD_MAGIC 0x4e42444d41474943u          /* "NBDMAGIC" */
#define VDR_NBD_OPTION_MAGIC 0x49484156454f5054u   /* "IHAVEOPT" */
#define VDR_NBD_REPLY_MAGIC 0x0003e889045565a9u    /* of an answer to an option */

enum {
    VDR_NBD_REQUEST_MAGIC = 0x25609513,
    VDR_NBD_SIMPLE_MAGIC = 0x67446698,
    VDR_NBD_CHUNK_MAGIC = 0x668e33ef,

    /* handshake flags, of either side */
    VDR_NBD_FIXED_NEWSTYLE = 1,
    VDR_NBD_NO_ZEROES = 2,

    VDR_NBD_OPT_EXPORT_NAME = 1,
    VDR_NBD_OPT_ABORT = 2,
    VDR_NBD_OPT_LIST = 3,
    VDR_NBD_OPT_STARTTLS = 5,
    VDR_NBD_OPT_INFO = 6,
    VDR_NBD_OPT_GO = 7,
    VDR_NBD_OPT_STRUCTURED_REPLY = 8,
    VDR_NBD_OPT_LIST_META_CONTEXT = 9,
    VDR_NBD_OPT_SET_META_CONTEXT = 10,

    VDR_NBD_INFO_EXPORT = 0,
    VDR_NBD_INFO_NAME = 1,
    VDR_NBD_INFO_DESCRIPTION = 2,
    VDR_NBD_INFO_BLOCK_SIZE = 3,

    /* transmission flags */
    VDR_NBD_HAS_FLAGS = 1 << 0,
    VDR_NBD_READ_ONLY = 1 << 1,
    VDR_NBD_SEND_FLUSH = 1 << 2,
    VDR_NBD_SEND_FUA = 1 << 3,
    VDR_NBD_SEND_TRIM = 1 << 5,
    VDR_NBD_SEND_WRITE_ZEROES = 1 << 6,
    VDR_NBD_SEND_DF = 1 << 7,
    VDR_NBD_CAN_MULTI_CONN = 1 << 8,
    VDR_NBD_SEND_CACHE = 1 << 10,

    VDR_NBD_CMD_READ = 0,
    VDR_NBD_CMD_WRITE = 1,
    VDR_NBD_CMD_DISC = 2,
    VDR_NBD_CMD_FLUSH = 3,
    VDR_NBD_CMD_TRIM = 4,
    VDR_NBD_CMD_CACHE = 5,
    VDR_NBD_CMD_WRITE_ZEROES = 6,
    VDR_NBD_CMD_BLOCK_STATUS = 7,

    VDR_NBD_FUA = 1 << 0,
    VDR_NBD_NO_HOLE = 1 << 1,
    VDR_NBD_DF = 1 << 2,
    VDR_NBD_REQ_ONE = 1 << 3,

    VDR_NBD_CHUNK_DONE = 1,
    VDR_NBD_CHUNK_NONE = 0,
    VDR_NBD_CHUNK_DATA = 1,
    VDR_NBD_CHUNK_STATUS = 5,
    VDR_NBD_CHUNK_ERROR = 0x8001,

    VDR_NBD_STATE_HOLE = 1,
    VDR_NBD_STATE_ZERO = 2,

    VDR_NBD_EPERM = 1,
    VDR_NBD_EIO = 5,
    VDR_NBD_ENOMEM = 12,
    VDR_NBD_EINVAL = 22,
    VDR_NBD_ENOSPC = 28,
    VDR_NBD_EOVERFLOW = 75,
    VDR_NBD_ESHUTDOWN = 108,
};

/* types of answers to options */
#define VDR_NBD_REP_ACK 1u
#define VDR_NBD_REP_SERVER 2u
#define VDR_NBD_REP_INFO 3u
#define VDR_NBD_REP_META_CONTEXT 4u
#define VDR_NBD_REP_ERR_UNSUP 0x80000001u
#define VDR_NBD_REP_ERR_POLICY 0x80000002u
#define VDR_NBD_REP_ERR_INVALID 0x80000003u
#define VDR_NBD_REP_ERR_TLS_REQD 0x80000005u
#define VDR_NBD_REP_ERR_UNKNOWN 0x80000006u

static inline uint16_t vdr_nbd_u16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline uint32_t vdr_nbd_u32(const uint8_t *at)
{
    uint32_t raw;
    memcpy(&raw, at, 4);
    return __builtin_bswap32(raw);
}

static inline uint64_t vdr_nbd_u64(const uint8_t *at)
{
    uint64_t raw;
    memcpy(&raw, at, 8);
    return __builtin_bswap64(raw);
}

static inline uint8_t *vdr_nbd_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static inline uint8_t *vdr_nbd_put_u32(uint8_t *at, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(at, &value, 4);
    return at + 4;
}

static inline uint8_t *vdr_nbd_put_u64(uint8_t *at, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(at, &value, 8);
    return at + 8;
}

#endif

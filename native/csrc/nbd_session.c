#include "nbd_session.h"

#include "err.h"
#include "nbd_wire.h"

static const char CONTEXT[] = "base:allocation";

/* An answer while it is written. */
typedef struct {
    uint8_t *out;
    size_t bytes;
} answer;

static void append(answer *to, const void *bytes, size_t count)
{
    /* The bound holds the list of all exports. */
    if (count == 0 || count > VDR_NBD_ANSWER_BYTES_MAX - to->bytes)
        return;
    memcpy(to->out + to->bytes, bytes, count);
    to->bytes += count;
}

static void reply(answer *to, uint32_t option, uint32_t type, const void *data, size_t bytes)
{
    uint8_t head[20];
    vdr_nbd_put_u64(head, VDR_NBD_REPLY_MAGIC);
    vdr_nbd_put_u32(head + 8, option);
    vdr_nbd_put_u32(head + 12, type);
    vdr_nbd_put_u32(head + 16, (uint32_t)bytes);
    append(to, head, sizeof head);
    append(to, data, bytes);
}

/* Errors carry a text for the client's user. */
static void refuse(answer *to, uint32_t option, uint32_t type, const char *text)
{
    reply(to, option, type, text, strlen(text));
}

static int64_t violate(vdr_nbd_session *session, const char *reason)
{
    session->phase = VDR_NBD_OVER;
    session->reason = reason;
    return VDR_E_ARGUMENT;
}

/* ---- exports ---- */

/* What the client may use under this name, to be released, or NULL. */
static vdr_nbd_export *find_export(const vdr_nbd_session *session, const uint8_t *name, size_t bytes)
{
    return vdr_nbd_exports_find_name(session->exports, session->address, name, bytes);
}

static uint16_t transmission_flags(const vdr_nbd_export *export)
{
    unsigned flags = VDR_NBD_HAS_FLAGS | VDR_NBD_SEND_FLUSH | VDR_NBD_SEND_DF | VDR_NBD_CAN_MULTI_CONN | VDR_NBD_SEND_CACHE;
    if (export->spec.is_writable)
        flags |= VDR_NBD_SEND_FUA | VDR_NBD_SEND_TRIM | VDR_NBD_SEND_WRITE_ZEROES;
    else
        flags |= VDR_NBD_READ_ONLY;
    return (uint16_t)flags;
}

static void begin_transmission(vdr_nbd_session *session, const vdr_nbd_export *export)
{
    memcpy(session->export_id, export->spec.id, sizeof session->export_id);
    memcpy(session->export_name, export->spec.name, sizeof session->export_name);
    session->phase = VDR_NBD_TRANSMISSION;
}

/* ---- options ---- */

static int64_t choose_by_name(vdr_nbd_session *session, const uint8_t *name, size_t bytes, answer *to)
{
    vdr_nbd_export *export = find_export(session, name, bytes);
    if (!export)
        return violate(session, "asked for an export that there is not, or not for it");
    uint8_t chosen[8 + 2 + 124] = {0};
    vdr_nbd_put_u64(chosen, export->size_bytes);
    vdr_nbd_put_u16(chosen + 8, transmission_flags(export));
    append(to, chosen, session->wants_no_zeroes ? 10 : sizeof chosen);
    begin_transmission(session, export);
    vdr_nbd_exports_release(session->exports, export);
    return VDR_OK;
}

static void list_one(void *context, const char *name)
{
    uint8_t server[4 + VDR_NBD_NAME_BYTES];
    size_t length = strlen(name);
    vdr_nbd_put_u32(server, (uint32_t)length);
    memcpy(server + 4, name, length);
    reply(context, VDR_NBD_OPT_LIST, VDR_NBD_REP_SERVER, server, 4 + length);
}

static void list(vdr_nbd_session *session, size_t bytes, answer *to)
{
    if (bytes > 0) {
        refuse(to, VDR_NBD_OPT_LIST, VDR_NBD_REP_ERR_INVALID, "LIST carries no data");
        return;
    }
    vdr_nbd_exports_list(session->exports, session->address, list_one, to);
    reply(to, VDR_NBD_OPT_LIST, VDR_NBD_REP_ACK, NULL, 0);
}

static void start_tls(vdr_nbd_session *session, size_t bytes, answer *to)
{
    if (bytes > 0 || session->is_secure) {
        refuse(to, VDR_NBD_OPT_STARTTLS, VDR_NBD_REP_ERR_INVALID, "TLS begins once and carries no data");
    } else if (session->tls_mode == VDR_NBD_TLS_OFF) {
        refuse(to, VDR_NBD_OPT_STARTTLS, VDR_NBD_REP_ERR_POLICY, "this server has no certificate");
    } else {
        reply(to, VDR_NBD_OPT_STARTTLS, VDR_NBD_REP_ACK, NULL, 0);
        session->phase = VDR_NBD_STARTING_TLS;
    }
}

/* The name at the start of an option's data; 0 when it does not fit. */
static int take_name(const uint8_t **data, size_t *bytes, const uint8_t **name, size_t *name_bytes)
{
    if (*bytes < 4)
        return 0;
    *name_bytes = vdr_nbd_u32(*data);
    if (*name_bytes > *bytes - 4)
        return 0;
    *name = *data + 4;
    *data += 4 + *name_bytes;
    *bytes -= 4 + *name_bytes;
    return 1;
}

static void tell_info(const vdr_nbd_export *export, uint32_t option, uint16_t wanted, answer *to)
{
    uint8_t info[2 + VDR_NBD_NAME_BYTES];
    uint8_t *end = vdr_nbd_put_u16(info, wanted);
    if (wanted == VDR_NBD_INFO_EXPORT) {
        end = vdr_nbd_put_u64(end, export->size_bytes);
        end = vdr_nbd_put_u16(end, transmission_flags(export));
    } else if (wanted == VDR_NBD_INFO_BLOCK_SIZE) {
        end = vdr_nbd_put_u32(end, 1);
        end = vdr_nbd_put_u32(end, VDR_NBD_PREFERRED_BYTES);
        end = vdr_nbd_put_u32(end, VDR_NBD_PAYLOAD_BYTES_MAX);
    } else if (wanted == VDR_NBD_INFO_NAME) {
        size_t length = strlen(export->spec.name);
        memcpy(end, export->spec.name, length);
        end += length;
    } else
        return; /* may be left out */
    reply(to, option, VDR_NBD_REP_INFO, info, (size_t)(end - info));
}

static void inform(vdr_nbd_session *session, uint32_t option, const uint8_t *data, size_t bytes, answer *to)
{
    const uint8_t *name;
    size_t name_bytes;
    if (!take_name(&data, &bytes, &name, &name_bytes) || bytes < 2 || bytes - 2 != 2 * (size_t)vdr_nbd_u16(data)) {
        refuse(to, option, VDR_NBD_REP_ERR_INVALID, "the lengths do not fit together");
        return;
    }
    vdr_nbd_export *export = find_export(session, name, name_bytes);
    if (!export) {
        refuse(to, option, VDR_NBD_REP_ERR_UNKNOWN, "there is no such export, or not for you");
        return;
    }
    unsigned told = 1u << VDR_NBD_INFO_EXPORT | 1u << VDR_NBD_INFO_BLOCK_SIZE;
    tell_info(export, option, VDR_NBD_INFO_EXPORT, to);
    tell_info(export, option, VDR_NBD_INFO_BLOCK_SIZE, to);
    for (size_t i = 2; i < bytes; i += 2) {
        uint16_t wanted = vdr_nbd_u16(data + i);
        if (wanted > VDR_NBD_INFO_BLOCK_SIZE || told >> wanted & 1)
            continue; /* each once, however often it is asked for */
        told |= 1u << wanted;
        tell_info(export, option, wanted, to);
    }
    reply(to, option, VDR_NBD_REP_ACK, NULL, 0);
    if (option == VDR_NBD_OPT_GO)
        begin_transmission(session, export);
    vdr_nbd_exports_release(session->exports, export);
}

static void agree_on_structured_replies(vdr_nbd_session *session, size_t bytes, answer *to)
{
    if (bytes > 0 || session->has_structured_replies) {
        refuse(to, VDR_NBD_OPT_STRUCTURED_REPLY, VDR_NBD_REP_ERR_INVALID, "agreed once, without data");
        return;
    }
    session->has_structured_replies = 1;
    reply(to, VDR_NBD_OPT_STRUCTURED_REPLY, VDR_NBD_REP_ACK, NULL, 0);
}

static int is_query_for_context(const uint8_t *query, size_t bytes, int is_list)
{
    if (bytes == sizeof CONTEXT - 1 && memcmp(query, CONTEXT, bytes) == 0)
        return 1;
    return is_list && bytes == 5 && memcmp(query, CONTEXT, 5) == 0;
}

static void choose_context(vdr_nbd_session *session, uint32_t option, const uint8_t *data, size_t bytes, answer *to)
{
    int is_list = option == VDR_NBD_OPT_LIST_META_CONTEXT, is_wanted = 0, is_valid = session->has_structured_replies;
    const uint8_t *name = NULL, *query;
    size_t name_bytes = 0, query_bytes;
    if (!is_list)
        session->has_context = 0;
    is_valid = is_valid && take_name(&data, &bytes, &name, &name_bytes) && bytes >= 4;
    uint32_t queries = 0;
    if (is_valid) {
        queries = vdr_nbd_u32(data);
        data += 4;
        bytes -= 4;
    }
    if (is_list && queries == 0)
        is_wanted = 1;
    for (uint32_t i = 0; i < queries && is_valid; i++) {
        is_valid = take_name(&data, &bytes, &query, &query_bytes);
        is_wanted |= is_valid && is_query_for_context(query, query_bytes, is_list);
    }
    if (!is_valid || bytes > 0) {
        refuse(to, option, VDR_NBD_REP_ERR_INVALID, "contexts need structured replies, and lengths that fit together");
        return;
    }
    vdr_nbd_export *export = find_export(session, name, name_bytes);
    if (!export) {
        refuse(to, option, VDR_NBD_REP_ERR_UNKNOWN, "there is no such export, or not for you");
        return;
    }
    if (is_wanted) {
        uint8_t context[4 + sizeof CONTEXT - 1];
        vdr_nbd_put_u32(context, is_list ? 0 : VDR_NBD_CONTEXT_ID);
        memcpy(context + 4, CONTEXT, sizeof CONTEXT - 1);
        reply(to, option, VDR_NBD_REP_META_CONTEXT, context, sizeof context);
    }
    if (is_wanted && !is_list) {
        session->has_context = 1;
        memcpy(session->context_export, export->spec.id, sizeof session->context_export);
    }
    reply(to, option, VDR_NBD_REP_ACK, NULL, 0);
    vdr_nbd_exports_release(session->exports, export);
}

static int64_t take_option(vdr_nbd_session *session, uint32_t option, const uint8_t *data, size_t bytes, answer *to)
{
    if (++session->options > VDR_NBD_OPTIONS_MAX)
        return violate(session, "negotiates without end");
    if (session->tls_mode == VDR_NBD_TLS_REQUIRED && !session->is_secure && option != VDR_NBD_OPT_STARTTLS &&
        option != VDR_NBD_OPT_ABORT) {
        if (option == VDR_NBD_OPT_EXPORT_NAME)
            return violate(session, "asked for an export without TLS");
        refuse(to, option, VDR_NBD_REP_ERR_TLS_REQD, "this server talks TLS only");
        return VDR_OK;
    }
    switch (option) {
    case VDR_NBD_OPT_EXPORT_NAME:
        return choose_by_name(session, data, bytes, to);
    case VDR_NBD_OPT_ABORT:
        reply(to, option, VDR_NBD_REP_ACK, NULL, 0);
        session->phase = VDR_NBD_OVER;
        break;
    case VDR_NBD_OPT_LIST:
        list(session, bytes, to);
        break;
    case VDR_NBD_OPT_STARTTLS:
        start_tls(session, bytes, to);
        break;
    case VDR_NBD_OPT_INFO:
    case VDR_NBD_OPT_GO:
        inform(session, option, data, bytes, to);
        break;
    case VDR_NBD_OPT_STRUCTURED_REPLY:
        agree_on_structured_replies(session, bytes, to);
        break;
    case VDR_NBD_OPT_LIST_META_CONTEXT:
    case VDR_NBD_OPT_SET_META_CONTEXT:
        choose_context(session, option, data, bytes, to);
        break;
    default:
        refuse(to, option, VDR_NBD_REP_ERR_UNSUP, "this server does not know the option");
    }
    return VDR_OK;
}

/* ---- the stream ---- */

void vdr_nbd_session_greet(vdr_nbd_session *session, uint8_t out[VDR_NBD_GREETING_BYTES])
{
    vdr_nbd_put_u64(out, VDR_NBD_MAGIC);
    vdr_nbd_put_u64(out + 8, VDR_NBD_OPTION_MAGIC);
    vdr_nbd_put_u16(out + 16, VDR_NBD_FIXED_NEWSTYLE | VDR_NBD_NO_ZEROES);
    session->phase = VDR_NBD_GREETED;
}

int64_t vdr_nbd_session_negotiate(vdr_nbd_session *session, const uint8_t *input, size_t bytes, uint8_t *out,
                                  size_t *answered)
{
    *answered = 0;
    if (session->phase == VDR_NBD_GREETED) {
        if (bytes < 4)
            return 0;
        uint32_t flags = vdr_nbd_u32(input);
        if (!(flags & VDR_NBD_FIXED_NEWSTYLE) || flags & ~(uint32_t)(VDR_NBD_FIXED_NEWSTYLE | VDR_NBD_NO_ZEROES))
            return violate(session, "does not speak fixed newstyle NBD");
        session->wants_no_zeroes = (flags & VDR_NBD_NO_ZEROES) != 0;
        session->phase = VDR_NBD_OPTIONS;
        return 4;
    }
    if (session->phase != VDR_NBD_OPTIONS)
        return violate(session, "negotiates at the wrong time");
    if (bytes < VDR_NBD_OPTION_HEADER_BYTES)
        return 0;
    if (vdr_nbd_u64(input) != VDR_NBD_OPTION_MAGIC)
        return violate(session, "sent something else than an option");
    uint32_t option = vdr_nbd_u32(input + 8), length = vdr_nbd_u32(input + 12);
    if (length > VDR_NBD_OPTION_BYTES_MAX)
        return violate(session, "sent an option longer than the limit");
    if (bytes - VDR_NBD_OPTION_HEADER_BYTES < length)
        return 0;
    answer to = {out, 0};
    int64_t result = take_option(session, option, input + VDR_NBD_OPTION_HEADER_BYTES, length, &to);
    *answered = to.bytes;
    return result < 0 ? result : VDR_NBD_OPTION_HEADER_BYTES + (int64_t)length;
}

void vdr_nbd_session_secure(vdr_nbd_session *session)
{
    session->is_secure = 1;
    session->has_structured_replies = session->has_context = 0;
    session->phase = VDR_NBD_OPTIONS;
}

int vdr_nbd_session_has_status(const vdr_nbd_session *session)
{
    return session->has_context && session->has_structured_replies &&
           memcmp(session->context_export, session->export_id, sizeof session->export_id) == 0;
}

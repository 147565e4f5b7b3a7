/* Negotiation, message by message: what is answered, what is refused, what ends the connection. */
#undef NDEBUG
#include <stdlib.h>

#include "nbd_fixture.h"

static vdr_nbd_exports exports;
static uint8_t answer[VDR_NBD_ANSWER_BYTES_MAX];
static size_t answered;

static vdr_nbd_session begin(int tls_mode)
{
    uint8_t greeting[VDR_NBD_GREETING_BYTES], flags[4];
    vdr_nbd_session session = {.exports = &exports, .name = "tester", .tls_mode = tls_mode};
    vdr_nbd_session_greet(&session, greeting);
    assert(memcmp(greeting, "NBDMAGICIHAVEOPT\0\3", 18) == 0);
    put_flags(flags);
    assert(vdr_nbd_session_negotiate(&session, flags, 3, answer, &answered) == 0);
    assert(vdr_nbd_session_negotiate(&session, flags, 4, answer, &answered) == 4 && answered == 0);
    return session;
}

/* Type of the last answer to an option that is fed byte by byte first. */
static uint32_t ask(vdr_nbd_session *session, const uint8_t *option, const uint8_t *end)
{
    size_t bytes = (size_t)(end - option), last = 0;
    for (size_t i = 0; i < bytes; i++)
        assert(vdr_nbd_session_negotiate(session, option, i, answer, &answered) == 0 && answered == 0);
    assert(vdr_nbd_session_negotiate(session, option, bytes, answer, &answered) == (int64_t)bytes);
    for (size_t at = 0; at < answered; at += 20 + vdr_nbd_u32(answer + at + 16)) {
        assert(vdr_nbd_u64(answer + at) == VDR_NBD_REPLY_MAGIC);
        assert(vdr_nbd_u32(answer + at + 8) == vdr_nbd_u32(option + 8));
        last = at;
    }
    return vdr_nbd_u32(answer + last + 12);
}

static void check_export_is_chosen(void)
{
    uint8_t option[256];
    vdr_nbd_session session = begin(VDR_NBD_TLS_OFF);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-9")) == VDR_NBD_REP_ERR_UNKNOWN);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-2")) == VDR_NBD_REP_ERR_UNKNOWN);
    /* Two exports can be seen: none of them goes without a name. */
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "")) == VDR_NBD_REP_ERR_UNKNOWN);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_INFO, "export-1")) == VDR_NBD_REP_ACK);
    assert(session.phase == VDR_NBD_OPTIONS);
    assert(vdr_nbd_u16(answer + 20) == VDR_NBD_INFO_EXPORT && vdr_nbd_u64(answer + 22) == NBD_DISK_BYTES);
    assert(vdr_nbd_u16(answer + 30) & VDR_NBD_READ_ONLY);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-0")) == VDR_NBD_REP_ACK);
    assert(session.phase == VDR_NBD_TRANSMISSION && session.export_id[0] == 'a');
    assert(vdr_nbd_session_negotiate(&session, option, 20, answer, &answered) == VDR_E_ARGUMENT);
}

static void check_old_way_of_choosing(void)
{
    uint8_t option[64];
    vdr_nbd_session session = begin(VDR_NBD_TLS_OFF);
    size_t bytes = (size_t)(put_option(option, VDR_NBD_OPT_EXPORT_NAME, "export-0", 8) - option);
    assert(vdr_nbd_session_negotiate(&session, option, bytes, answer, &answered) == (int64_t)bytes && answered == 10);
    assert(vdr_nbd_u64(answer) == NBD_DISK_BYTES && session.phase == VDR_NBD_TRANSMISSION);
    session = begin(VDR_NBD_TLS_OFF);
    session.wants_no_zeroes = 0;
    assert(vdr_nbd_session_negotiate(&session, option, bytes, answer, &answered) == (int64_t)bytes && answered == 134);
    session = begin(VDR_NBD_TLS_OFF);
    bytes = (size_t)(put_option(option, VDR_NBD_OPT_EXPORT_NAME, "export-2", 8) - option);
    assert(vdr_nbd_session_negotiate(&session, option, bytes, answer, &answered) == VDR_E_ARGUMENT && session.reason);
}

static void check_contexts_need_structured_replies(void)
{
    uint8_t option[256];
    vdr_nbd_session session = begin(VDR_NBD_TLS_OFF);
    const uint32_t set = VDR_NBD_OPT_SET_META_CONTEXT, all = VDR_NBD_OPT_LIST_META_CONTEXT;
    assert(ask(&session, option, put_context(option, set, "export-0", "base:allocation")) == VDR_NBD_REP_ERR_INVALID);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STRUCTURED_REPLY, "x", 1)) == VDR_NBD_REP_ERR_INVALID);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STRUCTURED_REPLY, NULL, 0)) == VDR_NBD_REP_ACK);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STRUCTURED_REPLY, NULL, 0)) == VDR_NBD_REP_ERR_INVALID);
    assert(ask(&session, option, put_context(option, all, "export-0", "base:")) == VDR_NBD_REP_ACK);
    assert(vdr_nbd_u32(answer + 12) == VDR_NBD_REP_META_CONTEXT && memcmp(answer + 24, "base:allocation", 15) == 0);
    assert(ask(&session, option, put_context(option, set, "export-0", "qemu:dirty-bitmap:x")) == VDR_NBD_REP_ACK);
    assert(!session.has_context);
    assert(ask(&session, option, put_context(option, set, "export-0", "base:allocation")) == VDR_NBD_REP_ACK);
    assert(session.has_context);
    assert(ask(&session, option, put_context(option, set, "export-9", "base:allocation")) == VDR_NBD_REP_ERR_UNKNOWN);
    assert(!session.has_context);
    assert(ask(&session, option, put_context(option, set, "export-1", "base:allocation")) == VDR_NBD_REP_ACK);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-0")) == VDR_NBD_REP_ACK);
    /* It was chosen for another export. */
    assert(!vdr_nbd_session_has_status(&session));
}

static void check_tls_is_demanded(void)
{
    uint8_t option[256];
    vdr_nbd_session session = begin(VDR_NBD_TLS_REQUIRED);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-0")) == VDR_NBD_REP_ERR_TLS_REQD);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_LIST, NULL, 0)) == VDR_NBD_REP_ERR_TLS_REQD);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STARTTLS, NULL, 0)) == VDR_NBD_REP_ACK);
    assert(session.phase == VDR_NBD_STARTING_TLS);
    vdr_nbd_session_secure(&session);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STARTTLS, NULL, 0)) == VDR_NBD_REP_ERR_INVALID);
    assert(ask(&session, option, put_go(option, VDR_NBD_OPT_GO, "export-0")) == VDR_NBD_REP_ACK);
    session = begin(VDR_NBD_TLS_OFF);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STARTTLS, NULL, 0)) == VDR_NBD_REP_ERR_POLICY);
    session = begin(VDR_NBD_TLS_REQUIRED);
    size_t bytes = (size_t)(put_option(option, VDR_NBD_OPT_EXPORT_NAME, "export-0", 8) - option);
    assert(vdr_nbd_session_negotiate(&session, option, bytes, answer, &answered) == VDR_E_ARGUMENT);
    /* What was agreed in the clear does not count. */
    session = begin(VDR_NBD_TLS_OFFERED);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STRUCTURED_REPLY, NULL, 0)) == VDR_NBD_REP_ACK);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_STARTTLS, NULL, 0)) == VDR_NBD_REP_ACK);
    vdr_nbd_session_secure(&session);
    assert(!session.has_structured_replies);
}

static void check_bounds(void)
{
    uint8_t option[256];
    vdr_nbd_session session = begin(VDR_NBD_TLS_OFF);
    assert(ask(&session, option, put_option(option, 77, NULL, 0)) == VDR_NBD_REP_ERR_UNSUP);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_GO, "\0\0\0\xff", 4)) == VDR_NBD_REP_ERR_INVALID);
    vdr_nbd_put_u32(option + 12, VDR_NBD_OPTION_BYTES_MAX + 1);
    assert(vdr_nbd_session_negotiate(&session, option, 16, answer, &answered) == VDR_E_ARGUMENT);
    session = begin(VDR_NBD_TLS_OFF);
    put_option(option, VDR_NBD_OPT_LIST, NULL, 0);
    for (int i = 0; i < VDR_NBD_OPTIONS_MAX; i++)
        assert(vdr_nbd_session_negotiate(&session, option, 16, answer, &answered) == 16);
    assert(vdr_nbd_session_negotiate(&session, option, 16, answer, &answered) == VDR_E_ARGUMENT);
    session = begin(VDR_NBD_TLS_OFF);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_ABORT, NULL, 0)) == VDR_NBD_REP_ACK);
    assert(session.phase == VDR_NBD_OVER);
    vdr_nbd_session old = {.exports = &exports};
    vdr_nbd_session_greet(&old, option);
    assert(vdr_nbd_session_negotiate(&old, (const uint8_t *)"\0\0\0\0", 4, answer, &answered) == VDR_E_ARGUMENT);
}

static void check_list_of_all_exports_fits(vdr_disk *disk)
{
    uint8_t option[64];
    for (int i = 3; i < VDR_NBD_EXPORTS_MAX; i++) {
        vdr_nbd_export_spec spec = {.network_count = 1};
        memcpy(spec.id, &i, sizeof i);
        memset(spec.name, 'n', sizeof spec.name - 1);
        snprintf(spec.name, sizeof spec.name, "%0127d", i);
        assert(vdr_nbd_exports_add(&exports, &spec, disk) == VDR_OK);
    }
    vdr_nbd_export_spec more = nbd_spec(20);
    assert(vdr_nbd_exports_add(&exports, &more, disk) == VDR_E_ARGUMENT);
    vdr_nbd_session session = begin(VDR_NBD_TLS_OFF);
    assert(ask(&session, option, put_option(option, VDR_NBD_OPT_LIST, NULL, 0)) == VDR_NBD_REP_ACK);
    assert(answered > (size_t)(VDR_NBD_EXPORTS_MAX - 3) * 151);
}

int main(void)
{
    vdr_disk *disk;
    assert(vdr_nbd_exports_open(&exports) == VDR_OK && vdr_disk_memory_open(NBD_DISK_BYTES, &disk) == VDR_OK);
    for (int i = 0; i < 3; i++) {
        vdr_nbd_export_spec spec = nbd_spec(i);
        if (i == 2) /* not for this client */
            spec.networks[0] = (vdr_nbd_network){.address = {1}, .prefix_bits = 128};
        assert(vdr_nbd_exports_add(&exports, &spec, disk) == VDR_OK);
        assert(vdr_nbd_exports_add(&exports, &spec, disk) == VDR_E_ARGUMENT);
    }
    check_export_is_chosen();
    check_old_way_of_choosing();
    check_contexts_need_structured_replies();
    check_tls_is_demanded();
    check_bounds();
    check_list_of_all_exports_fits(disk);
    vdr_nbd_exports_close(&exports);
    vdr_disk_close(disk);
    printf("nbd session: ok\n");
    return 0;
}

/* AES-256-XTS against IEEE 1619-2018 vector 10, and what holes and tears do to it. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "xts.h"

static void from_hex(const char *hex, uint8_t *bytes)
{
    for (; *hex; hex += 2, bytes++) {
        unsigned value;
        assert(sscanf(hex, "%2x", &value) == 1);
        *bytes = (uint8_t)value;
    }
}

int main(void)
{
    uint8_t key[VDR_XTS_KEY_BYTES], plain[4096], copy[4096], expected[32];
    from_hex("2718281828459045235360287471352662497757247093699959574966967627"
             "3141592653589793238462643383279502884197169399375105820974944592", key);
    for (int i = 0; i < 4096; i++)
        plain[i] = (uint8_t)i;
    from_hex("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b", expected);
    vdr_xts *xts = vdr_xts_open(key);
    assert(xts);
    vdr_xts_context *context = vdr_xts_take(xts), *other = vdr_xts_take(xts);
    assert(context != other);
    const uint8_t *encrypted = vdr_xts_encrypt(context, 0xff, 512, plain, 512);
    assert(encrypted && memcmp(encrypted, expected, sizeof expected) == 0);
    assert(!vdr_xts_encrypt(context, 0, 4096, plain, VDR_XTS_BATCH_BYTES + 4096));

    /* Blocks are apart, and each begins anew. */
    encrypted = vdr_xts_encrypt(context, 7, 1024, plain, 4096);
    memcpy(copy, encrypted, sizeof copy);
    assert(vdr_xts_decrypt(other, 9, 1024, copy + 2048, 1024) == VDR_OK);
    assert(memcmp(copy + 2048, plain + 2048, 1024) == 0);

    /* A block of which sectors did not get to the disk: those are holes, the others are whole. */
    memcpy(copy, vdr_xts_encrypt(context, 3, 4096, plain, 4096), sizeof copy);
    memset(copy + 512, 0, 1024);
    assert(vdr_xts_decrypt(other, 3, 4096, copy, 4096) == VDR_OK);
    for (int i = 0; i < 4096; i++)
        assert(copy[i] == (i >= 512 && i < 1536 ? 0 : plain[i]));
    memset(copy, 0, sizeof copy);
    assert(vdr_xts_decrypt(other, 3, 4096, copy, 4096) == VDR_OK && copy[0] == 0 && copy[4095] == 0);
    vdr_xts_give(context);
    vdr_xts_give(other);
    vdr_xts_close(xts);
    puts("xts: ok");
    return 0;
}

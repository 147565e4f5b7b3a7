/* SM4-GCM: the standards' vectors at every level, every level the same as the reference, and forgeries refused. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "pattern.h"
#include "sm4.h"

enum { LONGEST = 40000 };

static const char *const STANDARD_KEY = "0123456789abcdeffedcba9876543210";

/* GB/T 32907-2016 appendix A: one encryption, and a million of the same block on the fast levels. */
static void check_block_vectors(int level) {
    uint8_t key[16], block[16], want[16];
    from_hex(STANDARD_KEY, key);
    vdr_sm4 *sm4 = vdr_sm4_open(level, key);
    assert(sm4 != NULL);
    from_hex("681edf34d206965e86b3e94f536e4246", want);
    vdr_sm4_encrypt_block(sm4, key, block);
    assert(memcmp(block, want, 16) == 0);
#ifdef VDR_EMULATED_CPU
    enum { IS_FAST = 0 };
#else
    enum { IS_FAST = 1 };
#endif
    if (IS_FAST && level >= VDR_SM4_AESNI_AVX2) {
        for (int i = 1; i < 1000000; i++)
            vdr_sm4_encrypt_block(sm4, block, block);
        from_hex("595298c7c6fd271f0402f804c33d3f66", want);
        assert(memcmp(block, want, 16) == 0);
    }
    vdr_sm4_close(sm4);
}

/* RFC 8998, appendix A.1. */
static void check_gcm_vector(int level) {
    static const char *const PLAIN = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
                                     "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa";
    static const char *const SEALED = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
                                      "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
                                      "83de3541e4c2b58177e065a9bf7b62ec";
    uint8_t key[16], nonce[12], aad[20], plain[64], want[80], got[80];
    from_hex(STANDARD_KEY, key);
    from_hex("00001234567800000000abcd", nonce);
    from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", aad);
    from_hex(PLAIN, plain);
    from_hex(SEALED, want);
    vdr_sm4 *sm4 = vdr_sm4_open(level, key);
    assert(vdr_sm4_seal(sm4, nonce, aad, sizeof aad, plain, sizeof plain, got) == sizeof want);
    assert(memcmp(got, want, sizeof want) == 0);
    assert(vdr_sm4_unseal(sm4, nonce, aad, sizeof aad, got, sizeof got, got) == sizeof plain);
    assert(memcmp(got, plain, sizeof plain) == 0);
    vdr_sm4_close(sm4);
}

static void check_message(vdr_sm4 *reference, vdr_sm4 *sm4, const uint8_t *data, size_t bytes, size_t aad_bytes) {
    uint8_t *want = malloc(bytes + 16), *got = malloc(bytes + 16);
    assert(want != NULL && got != NULL);
    vdr_sm4_seal(reference, data, data + 12, aad_bytes, data + 1, bytes, want);
    assert(vdr_sm4_seal(sm4, data, data + 12, aad_bytes, data + 1, bytes, got) == (int64_t)bytes + 16);
    assert(memcmp(want, got, bytes + 16) == 0);
    if (bytes > 0)
        memcpy(got, data + 1, bytes);
    vdr_sm4_seal(sm4, data, data + 12, aad_bytes, got, bytes, got);
    assert(memcmp(want, got, bytes + 16) == 0);
    assert(vdr_sm4_unseal(sm4, data, data + 12, aad_bytes, got, bytes + 16, got) == (int64_t)bytes);
    assert(memcmp(got, data + 1, bytes) == 0);
    free(want);
    free(got);
}

static void check_level_agrees(int level, const uint8_t *data) {
    vdr_sm4 *reference = vdr_sm4_open(VDR_SM4_REFERENCE, data), *sm4 = vdr_sm4_open(level, data);
    for (size_t bytes = 0; bytes < 600; bytes += 7)
        check_message(reference, sm4, data, bytes, bytes % 40);
    for (size_t edge = 1024; edge <= 17 * 1024; edge *= 2)
        for (size_t bytes = edge - 33; bytes <= edge + 16; bytes += 16 - bytes % 3)
            check_message(reference, sm4, data, bytes, 5);
    check_message(reference, sm4, data, 10, 3000);
    check_message(reference, sm4, data, LONGEST - 100, 80);
    vdr_sm4_close(sm4);
    vdr_sm4_close(reference);
}

/* Any changed bit of nonce, associated data, text or tag is refused, and no plaintext comes out. */
static void check_forgery_is_refused(int level, const uint8_t *data) {
    enum { BYTES = 300 };
    uint8_t message[12 + 9 + BYTES + 16], out[BYTES], zeros[BYTES] = {0};
    vdr_sm4 *sm4 = vdr_sm4_open(level, data);
    memcpy(message, data, sizeof message);
    vdr_sm4_seal(sm4, message, message + 12, 9, message + 21, BYTES, message + 21);
    for (size_t bit = 0; bit < 8 * sizeof message; bit += 5) {
        memset(out, 0, sizeof out);
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert(vdr_sm4_unseal(sm4, message, message + 12, 9, message + 21, BYTES + 16, out) == VDR_E_AUTH);
        assert(memcmp(out, zeros, BYTES) == 0);
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert(vdr_sm4_unseal(sm4, message, message + 12, 9, message + 21, BYTES + 16, out) == BYTES);
    assert(vdr_sm4_unseal(sm4, message, message + 12, 9, message + 21, 15, out) == VDR_E_AUTH);
    vdr_sm4_close(sm4);
}

int main(void) {
    uint8_t *data = malloc(LONGEST);
    assert(data != NULL);
    fill_pattern(2, data, LONGEST);
    for (int level = VDR_SM4_REFERENCE; level <= VDR_SM4_GFNI_AVX512; level++) {
        if (!vdr_sm4_available(level))
            continue;
        printf("sm4 level %d\n", level);
        check_block_vectors(level);
        check_gcm_vector(level);
        check_level_agrees(level, data);
        check_forgery_is_refused(level, data);
    }
    assert(vdr_sm4_open(-1, data) == NULL && vdr_sm4_open(VDR_SM4_GFNI_AVX512 + 1, data) == NULL);
    assert(vdr_sm4_available(vdr_sm4_best()));
    vdr_sm4_close(NULL);
    free(data);
    return 0;
}

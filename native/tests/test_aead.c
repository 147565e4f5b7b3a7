/* The one interface over all algorithms. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aead.h"
#include "err.h"
#include "pattern.h"

/* McGrew and Viega, The Galois/Counter Mode of Operation, test case 16. */
static void check_aes_vector(void) {
    uint8_t key[32], nonce[12], aad[20], plain[60], want[76], got[76];
    from_hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", key);
    from_hex("cafebabefacedbaddecaf888", nonce);
    from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", aad);
    from_hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
             "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
             plain);
    from_hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
             "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
             "76fc6ece0f4e1768cddf8853bb2d551b",
             want);
    vdr_aead *aead = vdr_aead_open(VDR_AEAD_AES_256_GCM, key, sizeof key);
    assert(vdr_aead_seal(aead, nonce, aad, sizeof aad, plain, sizeof plain, got) == sizeof want);
    assert(memcmp(got, want, sizeof want) == 0);
    vdr_aead_close(aead);
}

static void check_round_trips(int algorithm, const uint8_t *data) {
    static const size_t LENGTHS[] = {0, 1, 16, 17, 4096, 65536, 70001};
    const size_t tag_bytes = (size_t)vdr_aead_tag_bytes(algorithm);
    vdr_aead *aead = vdr_aead_open(algorithm, data, (size_t)vdr_aead_key_bytes(algorithm));
    uint8_t *sealed = malloc(70100), *opened = malloc(70100);
    assert(aead != NULL && sealed != NULL && opened != NULL);
    for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
        size_t bytes = LENGTHS[i];
        int64_t sealed_bytes = vdr_aead_seal(aead, data, data, i, data, bytes, sealed);
        assert(sealed_bytes == (int64_t)(bytes + tag_bytes));
        memset(opened, 0xee, bytes + 1);
        assert(vdr_aead_unseal(aead, data, data, i, sealed, bytes + tag_bytes, opened) == (int64_t)bytes);
        assert(memcmp(opened, data, bytes) == 0 && opened[bytes] == 0xee);
        /* In place, both ways. */
        memcpy(opened, data, bytes);
        vdr_aead_seal(aead, data, data, i, opened, bytes, opened);
        assert(memcmp(opened, sealed, bytes + tag_bytes) == 0);
        assert(vdr_aead_unseal(aead, data, data, i, opened, bytes + tag_bytes, opened) == (int64_t)bytes);
        assert(memcmp(opened, data, bytes) == 0);
        if (tag_bytes == 0)
            continue;
        sealed[bytes / 2] ^= 1;
        memset(opened, 0, bytes);
        assert(vdr_aead_unseal(aead, data, data, i, sealed, bytes + tag_bytes, opened) == VDR_E_AUTH);
        for (size_t at = 0; at < bytes; at++)
            assert(opened[at] == 0);
        assert(vdr_aead_unseal(aead, data, data, i, sealed, tag_bytes - 1, opened) == VDR_E_AUTH);
    }
    assert(vdr_aead_seal(aead, data, data, 0, data, (size_t)VDR_AEAD_MAX_BYTES + 1, sealed) ==
           VDR_E_ARGUMENT);
    vdr_aead_close(aead);
    free(sealed);
    free(opened);
}

int main(void) {
    uint8_t *data = malloc(70001);
    assert(data != NULL);
    fill_pattern(3, data, 70001);
    check_aes_vector();
    for (int algorithm = VDR_AEAD_NONE; algorithm <= VDR_AEAD_SM4_GCM; algorithm++)
        check_round_trips(algorithm, data);
    assert(vdr_aead_open(VDR_AEAD_AES_256_GCM, data, 16) == NULL);
    assert(vdr_aead_open(3, data, 32) == NULL && vdr_aead_key_bytes(3) == VDR_E_ARGUMENT);
    vdr_aead_close(NULL);
    free(data);
    return 0;
}

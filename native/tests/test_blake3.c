/* BLAKE3: the published vectors, and every level the same as the scalar one. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blake3.h"
#include "err.h"
#include "pattern.h"

enum { LONGEST = 300 * 1024 };

/* Input byte i is i % 251, as in the test vectors of the specification's repository. */
static void check_published_vectors(void) {
    static const struct {
        size_t bytes;
        const char *digest, *keyed, *derived;
    } VECTORS[] = {
        {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
         "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
         "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"},
        {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
         "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
         "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb"},
    };
    uint8_t data[1025], want[32], got[32];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % 251);
    for (size_t i = 0; i < sizeof VECTORS / sizeof VECTORS[0]; i++) {
        from_hex(VECTORS[i].digest, want);
        assert(vdr_blake3_hash(data, VECTORS[i].bytes, got) == VDR_OK && memcmp(got, want, 32) == 0);
        from_hex(VECTORS[i].keyed, want);
        vdr_blake3_keyed((const uint8_t *)"whats the Elvish word for friend", data, VECTORS[i].bytes, got);
        assert(memcmp(got, want, 32) == 0);
        from_hex(VECTORS[i].derived, want);
        vdr_blake3_derive("BLAKE3 2019-12-27 16:29:52 test vectors context", data, VECTORS[i].bytes, got, 32);
        assert(memcmp(got, want, 32) == 0);
    }
}

static void check_level(int level, const uint8_t *data, size_t bytes) {
    uint8_t key[32], want[32], got[32];
    fill_pattern(bytes, key, sizeof key);
    assert(vdr_blake3_keyed_at(VDR_BLAKE3_SCALAR, key, data, bytes, want) == VDR_OK);
    assert(vdr_blake3_keyed_at(level, key, data, bytes, got) == VDR_OK);
    if (memcmp(got, want, 32) != 0) {
        fprintf(stderr, "level %d differs at %zu bytes\n", level, bytes);
        abort();
    }
}

static void check_levels_agree(const uint8_t *data) {
    for (int level = VDR_BLAKE3_AVX2; level <= vdr_blake3_best(); level++) {
        printf("blake3 level %d\n", level);
        for (size_t chunks = 0; chunks <= 140; chunks++)
            for (size_t extra = 0; extra < 3; extra++)
                check_level(level, data + chunks % 7, chunks * 1024 + extra * extra * 16);
        for (size_t bytes = 0; bytes < 2200; bytes += 13)
            check_level(level, data + 1, bytes);
        check_level(level, data, LONGEST);
    }
    uint8_t out[32];
    assert(vdr_blake3_keyed_at(vdr_blake3_best() + 1, data, data, 1, out) == VDR_E_ARGUMENT);
    assert(vdr_blake3_keyed_at(-1, data, data, 1, out) == VDR_E_ARGUMENT);
}

static void check_batch_is_each_alone(const uint8_t *data) {
    enum { COUNT = 50 };
    uint64_t offsets[COUNT];
    uint32_t lengths[COUNT];
    uint8_t out[COUNT * 32], alone[32];
    for (uint32_t i = 0; i < COUNT; i++) {
        offsets[i] = i * 1000;
        lengths[i] = i * i * 31;
    }
    assert(vdr_blake3_keyed_batch(data, data, offsets, lengths, COUNT, out) == COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        vdr_blake3_keyed(data, data + offsets[i], lengths[i], alone);
        assert(memcmp(out + 32 * i, alone, 32) == 0);
    }
    assert(vdr_blake3_keyed_batch(data, NULL, NULL, NULL, 0, NULL) == 0);
}

static void check_derived_key_is_a_prefix_of_a_longer_one(const uint8_t *data) {
    uint8_t longer[200], shorter[77];
    vdr_blake3_derive("vdr test", data, 5000, longer, sizeof longer);
    vdr_blake3_derive("vdr test", data, 5000, shorter, sizeof shorter);
    assert(memcmp(longer, shorter, sizeof shorter) == 0);
    vdr_blake3_derive("vdr other test", data, 5000, shorter, sizeof shorter);
    assert(memcmp(longer, shorter, sizeof shorter) != 0);
}

int main(void) {
    uint8_t *data = malloc(LONGEST);
    assert(data != NULL);
    fill_pattern(1, data, LONGEST);
    check_published_vectors();
    check_levels_agree(data);
    check_batch_is_each_alone(data);
    check_derived_key_is_a_prefix_of_a_longer_one(data);
    free(data);
    return 0;
}

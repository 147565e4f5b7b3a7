#include "blake3.h"

#include <string.h>

#include "blake3_kernel.h"
#include "err.h"

/* Chunks of a subtree that is hashed lane by lane before its value meets the rest of the tree. */
enum { UNIT_CHUNKS = 64, MAX_DEPTH = 54 };

typedef struct {
    uint32_t key[8];
    uint32_t flags;
    int level;
} mode;

/* A node whose compression is still to be done: only then is it known whether it is the root. */
typedef struct {
    uint32_t cv[8];
    uint8_t block[BLAKE3_BLOCK_BYTES];
    uint32_t block_bytes;
    uint32_t flags;
    int level;
    uint64_t counter;
} node;

static const uint32_t IV[8] = BLAKE3_IV;

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define G(a, b, c, d, x, y)                                                                                            \
    a += b + (x), d = ROTR(d ^ a, 16), c += d, b = ROTR(b ^ c, 12);                                                    \
    a += b + (y), d = ROTR(d ^ a, 8), c += d, b = ROTR(b ^ c, 7);

static void compress(int level, const uint32_t cv[8], const uint8_t *block, uint32_t block_bytes, uint64_t counter,
                     uint32_t flags, uint32_t out[16]) {
    uint32_t m[16], v[16];
#if defined(__x86_64__)
    if (level >= VDR_BLAKE3_AVX2) {
        vdr_blake3_compress_rows(cv, block, block_bytes, counter, flags, out);
        return;
    }
#else
    (void)level;
#endif
    memcpy(m, block, sizeof m);
    memcpy(v, cv, 32);
    memcpy(v + 8, IV, 16);
    v[12] = (uint32_t)counter;
    v[13] = (uint32_t)(counter >> 32);
    v[14] = block_bytes;
    v[15] = flags;
    BLAKE3_ROUNDS(BLAKE3_ROUND, G, v, m)
    for (int i = 0; i < 8; i++) {
        out[i] = v[i] ^ v[i + 8];
        out[i + 8] = v[i + 8] ^ cv[i];
    }
}

static void node_value(const node *n, uint8_t out[BLAKE3_CV_BYTES]) {
    uint32_t words[16];
    compress(n->level, n->cv, n->block, n->block_bytes, n->counter, n->flags, words);
    memcpy(out, words, BLAKE3_CV_BYTES);
}

static void node_root(const node *n, uint8_t *out, size_t out_bytes) {
    uint32_t words[16];
    for (uint64_t counter = 0; out_bytes > 0; counter++) {
        size_t part = out_bytes < sizeof words ? out_bytes : sizeof words;
        compress(n->level, n->cv, n->block, n->block_bytes, counter, n->flags | BLAKE3_ROOT, words);
        memcpy(out, words, part);
        out += part;
        out_bytes -= part;
    }
}

/* Chunk of 0 to 1024 bytes, all but its last block compressed. */
static void chunk_node(const mode *m, const uint8_t *data, size_t bytes, uint64_t counter, node *n) {
    uint32_t words[16];
    uint32_t start = BLAKE3_CHUNK_START;
    memcpy(n->cv, m->key, sizeof n->cv);
    for (; bytes > BLAKE3_BLOCK_BYTES; data += BLAKE3_BLOCK_BYTES, bytes -= BLAKE3_BLOCK_BYTES) {
        compress(m->level, n->cv, data, BLAKE3_BLOCK_BYTES, counter, m->flags | start, words);
        memcpy(n->cv, words, sizeof n->cv);
        start = 0;
    }
    memset(n->block, 0, sizeof n->block);
    if (bytes > 0)
        memcpy(n->block, data, bytes);
    n->block_bytes = (uint32_t)bytes;
    n->flags = m->flags | start | BLAKE3_CHUNK_END;
    n->level = m->level;
    n->counter = counter;
}

static void parent_node(const mode *m, const uint8_t *left, const uint8_t *right, node *n) {
    memcpy(n->cv, m->key, sizeof n->cv);
    memcpy(n->block, left, BLAKE3_CV_BYTES);
    memcpy(n->block + BLAKE3_CV_BYTES, right, BLAKE3_CV_BYTES);
    n->block_bytes = BLAKE3_BLOCK_BYTES;
    n->flags = m->flags | BLAKE3_PARENT;
    n->level = m->level;
    n->counter = 0;
}

/* Run the widest lanes that `count` inputs fill; returns how many inputs were done. */
static size_t many(const mode *m, const blake3_lanes *common, const uint8_t *in, size_t stride, size_t blocks,
                   uint64_t counter, size_t count, uint8_t *out) {
    size_t done = 0;
#if defined(__x86_64__)
    static const struct {
        size_t lanes;
        int level;
        blake3_many *run;
    } KERNELS[] = {
        {16, VDR_BLAKE3_AVX512, vdr_blake3_many16_avx512}, {8, VDR_BLAKE3_AVX512, vdr_blake3_many8_avx512},
        {4, VDR_BLAKE3_AVX512, vdr_blake3_many4_avx512},   {8, VDR_BLAKE3_AVX2, vdr_blake3_many8_avx2},
        {4, VDR_BLAKE3_AVX2, vdr_blake3_many4_avx2},
    };
    for (size_t k = 0; k < sizeof KERNELS / sizeof KERNELS[0]; k++) {
        size_t lanes = KERNELS[k].lanes;
        for (; m->level == KERNELS[k].level && count - done >= lanes; done += lanes)
            KERNELS[k].run(common, in + done * stride, stride, blocks, counter + done * common->counter_step,
                           out + done * BLAKE3_CV_BYTES);
    }
#else
    (void)m, (void)common, (void)in, (void)stride, (void)blocks, (void)counter, (void)count, (void)out;
#endif
    return done;
}

/* Chaining values of up to UNIT_CHUNKS chunks, the last of which may be short. */
static size_t chunk_values(const mode *m, const uint8_t *data, size_t bytes, uint64_t counter, uint8_t *values) {
    blake3_lanes common = {
        .flags = m->flags, .first = BLAKE3_CHUNK_START, .last = BLAKE3_CHUNK_END, .counter_step = 1};
    memcpy(common.key, m->key, sizeof common.key);
    size_t whole = bytes / BLAKE3_CHUNK_BYTES;
    size_t done = many(m, &common, data, BLAKE3_CHUNK_BYTES, BLAKE3_CHUNK_BLOCKS, counter, whole, values);
    /* Four lanes cost less than two single chunks, so two or three at the end take some before them along again. */
    if (m->level >= VDR_BLAKE3_AVX2 && whole >= 4 && whole - done >= 2)
        done = whole - 4 + many(m, &common, data + (whole - 4) * BLAKE3_CHUNK_BYTES, BLAKE3_CHUNK_BYTES,
                                BLAKE3_CHUNK_BLOCKS, counter + whole - 4, 4, values + (whole - 4) * BLAKE3_CV_BYTES);
    for (size_t at = done * BLAKE3_CHUNK_BYTES; at < bytes; at += BLAKE3_CHUNK_BYTES, done++) {
        node n;
        size_t part = bytes - at < BLAKE3_CHUNK_BYTES ? bytes - at : BLAKE3_CHUNK_BYTES;
        chunk_node(m, data + at, part, counter + done, &n);
        node_value(&n, values + done * BLAKE3_CV_BYTES);
    }
    return done;
}

/* One level up, in place: pairs become parents, an odd value at the end rises as it is. Returns how many are left. */
static size_t parent_values(const mode *m, uint8_t *values, size_t count) {
    blake3_lanes common = {.flags = m->flags | BLAKE3_PARENT};
    memcpy(common.key, m->key, sizeof common.key);
    size_t pairs = count / 2;
    size_t done = many(m, &common, values, 2 * BLAKE3_CV_BYTES, 1, 0, pairs, values);
    for (; done < pairs; done++) {
        node n;
        const uint8_t *pair = values + done * 2 * BLAKE3_CV_BYTES;
        parent_node(m, pair, pair + BLAKE3_CV_BYTES, &n);
        node_value(&n, values + done * BLAKE3_CV_BYTES);
    }
    if (count % 2 == 1)
        memmove(values + pairs * BLAKE3_CV_BYTES, values + (count - 1) * BLAKE3_CV_BYTES, BLAKE3_CV_BYTES);
    return pairs + count % 2;
}

/* The root of the whole input. Values of complete subtrees wait on a stack until their right sibling is known; as in
 * binary counting, unit number u completes one subtree for every trailing zero of u. */
static void root_node(const mode *m, const uint8_t *data, size_t bytes, node *root) {
    if (bytes <= BLAKE3_CHUNK_BYTES) {
        chunk_node(m, data, bytes, 0, root);
        return;
    }
    uint8_t values[UNIT_CHUNKS * BLAKE3_CV_BYTES];
    uint8_t stack[MAX_DEPTH][BLAKE3_CV_BYTES];
    size_t depth = 0;
    uint64_t units = 0;
    const size_t unit_bytes = (size_t)UNIT_CHUNKS * BLAKE3_CHUNK_BYTES;
    for (; bytes > unit_bytes; data += unit_bytes, bytes -= unit_bytes) {
        size_t count = chunk_values(m, data, unit_bytes, units * UNIT_CHUNKS, values);
        while (count > 1)
            count = parent_values(m, values, count);
        units++;
        for (uint64_t u = units; u % 2 == 0; u /= 2) {
            parent_node(m, stack[--depth], values, root);
            node_value(root, values);
        }
        memcpy(stack[depth++], values, BLAKE3_CV_BYTES);
    }
    size_t count = chunk_values(m, data, bytes, units * UNIT_CHUNKS, values);
    while (count > 2)
        count = parent_values(m, values, count);
    if (count == 2) {
        parent_node(m, values, values + BLAKE3_CV_BYTES, root);
        if (depth > 0)
            node_value(root, values);
    }
    while (depth > 0) {
        parent_node(m, stack[--depth], values, root);
        if (depth > 0)
            node_value(root, values);
    }
}

int vdr_blake3_best(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return VDR_BLAKE3_AVX512;
    if (__builtin_cpu_supports("avx2"))
        return VDR_BLAKE3_AVX2;
#endif
    return VDR_BLAKE3_SCALAR;
}

static mode keyed_mode(int level, const uint8_t key[32]) {
    mode m = {.flags = BLAKE3_KEYED_HASH, .level = level};
    memcpy(m.key, key, sizeof m.key);
    return m;
}

static void hash(const mode *m, const uint8_t *data, size_t bytes, uint8_t *out, size_t out_bytes) {
    node root;
    root_node(m, data, bytes, &root);
    node_root(&root, out, out_bytes);
}

int vdr_blake3_hash(const uint8_t *data, size_t bytes, uint8_t out[32]) {
    mode m = {.level = vdr_blake3_best()};
    memcpy(m.key, IV, sizeof m.key);
    hash(&m, data, bytes, out, 32);
    return VDR_OK;
}

int vdr_blake3_keyed(const uint8_t key[32], const uint8_t *data, size_t bytes, uint8_t out[32]) {
    mode m = keyed_mode(vdr_blake3_best(), key);
    hash(&m, data, bytes, out, 32);
    return VDR_OK;
}

int vdr_blake3_keyed_at(int level, const uint8_t key[32], const uint8_t *data, size_t bytes, uint8_t out[32]) {
    if (level < VDR_BLAKE3_SCALAR || level > vdr_blake3_best())
        return VDR_E_ARGUMENT;
    mode m = keyed_mode(level, key);
    hash(&m, data, bytes, out, 32);
    return VDR_OK;
}

int64_t vdr_blake3_keyed_batch(const uint8_t key[32], const uint8_t *data, const uint64_t *offsets,
                               const uint32_t *lengths, size_t count, uint8_t *out) {
    mode m = keyed_mode(vdr_blake3_best(), key);
    for (size_t i = 0; i < count; i++)
        hash(&m, data + offsets[i], lengths[i], out + i * 32, 32);
    return (int64_t)count;
}

int vdr_blake3_derive(const char *context, const uint8_t *ikm, size_t bytes, uint8_t *out, size_t out_bytes) {
    uint8_t context_key[32];
    mode m = {.flags = BLAKE3_DERIVE_KEY_CONTEXT, .level = vdr_blake3_best()};
    memcpy(m.key, IV, sizeof m.key);
    hash(&m, (const uint8_t *)context, strlen(context), context_key, sizeof context_key);
    m.flags = BLAKE3_DERIVE_KEY_MATERIAL;
    memcpy(m.key, context_key, sizeof m.key);
    hash(&m, ikm, bytes, out, out_bytes);
    return VDR_OK;
}

#include "sm4_gcrypt.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

/* From gcrypt.h, whose numbers are part of the library's stable ABI. */
enum {
    GCRY_CIPHER_SM4 = 318,
    GCRY_CIPHER_MODE_GCM = 9,
    GCRYCTL_DISABLE_SECMEM = 37,
    GCRYCTL_INITIALIZATION_FINISHED = 38,
    GCRYCTL_INITIALIZATION_FINISHED_P = 39,
    NONCE_BYTES = 12,
    TAG_BYTES = 16,
};

/* Every context finds the functions itself, so that no pointer is global. */
struct vdr_sm4_gcrypt {
    void *library, *handle;
    unsigned (*control)(int, ...);
    const char *(*check_version)(const char *);
    unsigned (*open)(void **, int, int, unsigned);
    void (*close)(void *);
    unsigned (*setkey)(void *, const void *, size_t);
    unsigned (*setiv)(void *, const void *, size_t);
    unsigned (*authenticate)(void *, const void *, size_t);
    unsigned (*encrypt)(void *, void *, size_t, const void *, size_t);
    unsigned (*decrypt)(void *, void *, size_t, const void *, size_t);
    unsigned (*gettag)(void *, void *, size_t);
    unsigned (*checktag)(void *, const void *, size_t);
};

/* Never unloaded: it keeps state of its own. */
static void *open_library(void) {
    return dlopen("libgcrypt.so.20", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

/* Look a function up; POSIX lets dlsym()'s pointer be stored through an object pointer only. */
static int find(vdr_sm4_gcrypt *gcrypt, const char *name, void *function) {
    void *address = dlsym(gcrypt->library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

/* The library sets itself up once per process, and not safely from two threads. Locked memory is a small fixed pool that
 * it would only warn about; keys elsewhere in the process are in plain memory too. */
static void set_up(void) {
    vdr_sm4_gcrypt gcrypt = {.library = open_library()};
    if (gcrypt.library == NULL || !find(&gcrypt, "gcry_control", &gcrypt.control) ||
        !find(&gcrypt, "gcry_check_version", &gcrypt.check_version))
        return;
    gcrypt.check_version(NULL);
    if (gcrypt.control(GCRYCTL_INITIALIZATION_FINISHED_P) == 0) {
        gcrypt.control(GCRYCTL_DISABLE_SECMEM, 0);
        gcrypt.control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    }
}

static int load(vdr_sm4_gcrypt *gcrypt) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
    gcrypt->library = open_library();
    if (gcrypt->library == NULL)
        return 0;
    if (!find(gcrypt, "gcry_check_version", &gcrypt->check_version) ||
        !find(gcrypt, "gcry_cipher_open", &gcrypt->open) || !find(gcrypt, "gcry_cipher_close", &gcrypt->close) ||
        !find(gcrypt, "gcry_cipher_setkey", &gcrypt->setkey) || !find(gcrypt, "gcry_cipher_setiv", &gcrypt->setiv) ||
        !find(gcrypt, "gcry_cipher_authenticate", &gcrypt->authenticate) ||
        !find(gcrypt, "gcry_cipher_encrypt", &gcrypt->encrypt) ||
        !find(gcrypt, "gcry_cipher_decrypt", &gcrypt->decrypt) ||
        !find(gcrypt, "gcry_cipher_gettag", &gcrypt->gettag) ||
        !find(gcrypt, "gcry_cipher_checktag", &gcrypt->checktag))
        return 0;
    return gcrypt->check_version("1.9.0") != NULL; /* the first with SM4 */
}

int vdr_sm4_gcrypt_available(void) {
    vdr_sm4_gcrypt gcrypt = {0};
    int loaded = load(&gcrypt);
    if (gcrypt.library != NULL)
        dlclose(gcrypt.library);
    return loaded;
}

vdr_sm4_gcrypt *vdr_sm4_gcrypt_open(const uint8_t key[16]) {
    vdr_sm4_gcrypt *gcrypt = calloc(1, sizeof *gcrypt);
    if (gcrypt == NULL)
        return NULL;
    if (!load(gcrypt) || gcrypt->open(&gcrypt->handle, GCRY_CIPHER_SM4, GCRY_CIPHER_MODE_GCM, 0) != 0 ||
        gcrypt->setkey(gcrypt->handle, key, 16) != 0) {
        vdr_sm4_gcrypt_close(gcrypt);
        return NULL;
    }
    return gcrypt;
}

void vdr_sm4_gcrypt_close(vdr_sm4_gcrypt *gcrypt) {
    if (gcrypt == NULL)
        return;
    if (gcrypt->handle != NULL)
        gcrypt->close(gcrypt->handle); /* wipes the expanded key */
    if (gcrypt->library != NULL)
        dlclose(gcrypt->library);
    free(gcrypt);
}

static int begin(vdr_sm4_gcrypt *gcrypt, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes) {
    return gcrypt->setiv(gcrypt->handle, nonce, NONCE_BYTES) == 0 &&
           (aad_bytes == 0 || gcrypt->authenticate(gcrypt->handle, aad, aad_bytes) == 0);
}

int64_t vdr_sm4_gcrypt_seal(vdr_sm4_gcrypt *gcrypt, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                            const uint8_t *in, size_t bytes, uint8_t *out) {
    if (!begin(gcrypt, nonce, aad, aad_bytes))
        return VDR_E_CRYPTO;
    if (bytes > 0 && gcrypt->encrypt(gcrypt->handle, out, bytes, in, bytes) != 0)
        return VDR_E_CRYPTO;
    if (gcrypt->gettag(gcrypt->handle, out + bytes, TAG_BYTES) != 0)
        return VDR_E_CRYPTO;
    return (int64_t)(bytes + TAG_BYTES);
}

int64_t vdr_sm4_gcrypt_unseal(vdr_sm4_gcrypt *gcrypt, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                              const uint8_t *in, size_t bytes, uint8_t *out) {
    uint8_t tag[TAG_BYTES];
    memcpy(tag, in + bytes, TAG_BYTES); /* `out` may be `in` */
    if (!begin(gcrypt, nonce, aad, aad_bytes))
        return VDR_E_CRYPTO;
    if (bytes > 0 && gcrypt->decrypt(gcrypt->handle, out, bytes, in, bytes) != 0) {
        explicit_bzero(out, bytes);
        return VDR_E_CRYPTO;
    }
    /* The library has written its output already: take it back. */
    if (gcrypt->checktag(gcrypt->handle, tag, TAG_BYTES) != 0) {
        explicit_bzero(out, bytes);
        return VDR_E_AUTH;
    }
    return (int64_t)bytes;
}

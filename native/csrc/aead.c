#include "aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "sm4.h"

struct vdr_aead {
    int algorithm;
    vdr_sm4 *sm4;
    EVP_CIPHER_CTX *encrypt, *decrypt; /* AES: the key is expanded once, each message only sets its nonce */
};

int vdr_aead_key_bytes(int algorithm) {
    switch (algorithm) {
    case VDR_AEAD_NONE: return 0;
    case VDR_AEAD_AES_256_GCM: return 32;
    case VDR_AEAD_SM4_GCM: return 16;
    default: return VDR_E_ARGUMENT;
    }
}

int vdr_aead_tag_bytes(int algorithm) {
    switch (algorithm) {
    case VDR_AEAD_NONE: return 0;
    case VDR_AEAD_AES_256_GCM:
    case VDR_AEAD_SM4_GCM: return VDR_AEAD_TAG_BYTES;
    default: return VDR_E_ARGUMENT;
    }
}

static int aes_open(vdr_aead *aead, const uint8_t *key) {
    aead->encrypt = EVP_CIPHER_CTX_new();
    aead->decrypt = EVP_CIPHER_CTX_new();
    if (aead->encrypt == NULL || aead->decrypt == NULL)
        return VDR_E_MEMORY;
    /* GCM's default nonce length is the 12 bytes used here. */
    if (EVP_EncryptInit_ex(aead->encrypt, EVP_aes_256_gcm(), NULL, key, NULL) != 1 ||
        EVP_DecryptInit_ex(aead->decrypt, EVP_aes_256_gcm(), NULL, key, NULL) != 1)
        return VDR_E_CRYPTO;
    return VDR_OK;
}

vdr_aead *vdr_aead_open(int algorithm, const uint8_t *key, size_t key_bytes) {
    int want = vdr_aead_key_bytes(algorithm);
    if (want < 0 || (size_t)want != key_bytes)
        return NULL;
    vdr_aead *aead = calloc(1, sizeof *aead);
    if (aead == NULL)
        return NULL;
    aead->algorithm = algorithm;
    int result = VDR_OK;
    if (algorithm == VDR_AEAD_AES_256_GCM)
        result = aes_open(aead, key);
    else if (algorithm == VDR_AEAD_SM4_GCM && (aead->sm4 = vdr_sm4_open(vdr_sm4_best(), key)) == NULL)
        result = VDR_E_MEMORY;
    if (result < 0) {
        vdr_aead_close(aead);
        return NULL;
    }
    return aead;
}

void vdr_aead_close(vdr_aead *aead) {
    if (aead == NULL)
        return;
    vdr_sm4_close(aead->sm4);
    EVP_CIPHER_CTX_free(aead->encrypt); /* wipes the expanded key */
    EVP_CIPHER_CTX_free(aead->decrypt);
    OPENSSL_cleanse(aead, sizeof *aead);
    free(aead);
}

static int64_t aes_seal(vdr_aead *aead, const uint8_t *nonce, const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                        size_t bytes, uint8_t *out) {
    int length = 0;
    if (EVP_EncryptInit_ex(aead->encrypt, NULL, NULL, NULL, nonce) != 1)
        return VDR_E_CRYPTO;
    if (aad_bytes > 0 && EVP_EncryptUpdate(aead->encrypt, NULL, &length, aad, (int)aad_bytes) != 1)
        return VDR_E_CRYPTO;
    if (bytes > 0 && EVP_EncryptUpdate(aead->encrypt, out, &length, in, (int)bytes) != 1)
        return VDR_E_CRYPTO;
    if (EVP_EncryptFinal_ex(aead->encrypt, out + bytes, &length) != 1 ||
        EVP_CIPHER_CTX_ctrl(aead->encrypt, EVP_CTRL_GCM_GET_TAG, VDR_AEAD_TAG_BYTES, out + bytes) != 1)
        return VDR_E_CRYPTO;
    return (int64_t)(bytes + VDR_AEAD_TAG_BYTES);
}

static int64_t aes_unseal(vdr_aead *aead, const uint8_t *nonce, const uint8_t *aad, size_t aad_bytes,
                          const uint8_t *in, size_t bytes, uint8_t *out) {
    int length = 0;
    uint8_t tag[VDR_AEAD_TAG_BYTES], nothing[VDR_AEAD_TAG_BYTES];
    memcpy(tag, in + bytes, sizeof tag);
    if (EVP_DecryptInit_ex(aead->decrypt, NULL, NULL, NULL, nonce) != 1 ||
        EVP_CIPHER_CTX_ctrl(aead->decrypt, EVP_CTRL_GCM_SET_TAG, VDR_AEAD_TAG_BYTES, tag) != 1)
        return VDR_E_CRYPTO;
    if (aad_bytes > 0 && EVP_DecryptUpdate(aead->decrypt, NULL, &length, aad, (int)aad_bytes) != 1)
        return VDR_E_CRYPTO;
    if (bytes > 0 && EVP_DecryptUpdate(aead->decrypt, out, &length, in, (int)bytes) != 1) {
        OPENSSL_cleanse(out, bytes);
        return VDR_E_CRYPTO;
    }
    /* OpenSSL compares tags in constant time, but has written its output already: take it back. */
    if (EVP_DecryptFinal_ex(aead->decrypt, nothing, &length) != 1) {
        OPENSSL_cleanse(out, bytes);
        return VDR_E_AUTH;
    }
    return (int64_t)bytes;
}

int64_t vdr_aead_seal(vdr_aead *aead, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes, const uint8_t *in,
                      size_t bytes, uint8_t *out) {
    if (bytes > VDR_AEAD_MAX_BYTES || aad_bytes > VDR_AEAD_MAX_BYTES)
        return VDR_E_ARGUMENT;
    if (aead->algorithm == VDR_AEAD_AES_256_GCM)
        return aes_seal(aead, nonce, aad, aad_bytes, in, bytes, out);
    if (aead->algorithm == VDR_AEAD_SM4_GCM)
        return vdr_sm4_seal(aead->sm4, nonce, aad, aad_bytes, in, bytes, out);
    if (out != in && bytes > 0)
        memcpy(out, in, bytes);
    return (int64_t)bytes;
}

int64_t vdr_aead_unseal(vdr_aead *aead, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                        const uint8_t *in, size_t bytes, uint8_t *out) {
    size_t tag_bytes = aead->algorithm == VDR_AEAD_NONE ? 0 : VDR_AEAD_TAG_BYTES;
    if (bytes < tag_bytes)
        return VDR_E_AUTH;
    if (bytes - tag_bytes > VDR_AEAD_MAX_BYTES || aad_bytes > VDR_AEAD_MAX_BYTES)
        return VDR_E_ARGUMENT;
    if (aead->algorithm == VDR_AEAD_AES_256_GCM)
        return aes_unseal(aead, nonce, aad, aad_bytes, in, bytes - tag_bytes, out);
    if (aead->algorithm == VDR_AEAD_SM4_GCM)
        return vdr_sm4_unseal(aead->sm4, nonce, aad, aad_bytes, in, bytes, out);
    if (out != in && bytes > 0)
        memcpy(out, in, bytes);
    return (int64_t)bytes;
}

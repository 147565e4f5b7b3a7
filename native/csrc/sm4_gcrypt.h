/* SM4-GCM by libgcrypt, loaded at run time: for CPUs without the instructions of the own kernels. Private to sm4.c.
 * A context holds one gcry_cipher handle: not for two threads at once. */
#ifndef VDR_SM4_GCRYPT_H
#define VDR_SM4_GCRYPT_H

#include <stddef.h>
#include <stdint.h>

typedef struct vdr_sm4_gcrypt vdr_sm4_gcrypt;

int vdr_sm4_gcrypt_available(void);
vdr_sm4_gcrypt *vdr_sm4_gcrypt_open(const uint8_t key[16]);
void vdr_sm4_gcrypt_close(vdr_sm4_gcrypt *gcrypt);

/* `bytes` is the length of the text, without the tag, in both directions. */
int64_t vdr_sm4_gcrypt_seal(vdr_sm4_gcrypt *gcrypt, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                            const uint8_t *in, size_t bytes, uint8_t *out);
int64_t vdr_sm4_gcrypt_unseal(vdr_sm4_gcrypt *gcrypt, const uint8_t nonce[12], const uint8_t *aad, size_t aad_bytes,
                              const uint8_t *in, size_t bytes, uint8_t *out);

#endif

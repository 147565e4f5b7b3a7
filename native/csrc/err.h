/* Error codes of the C core. Every function that can fail returns a count (>= 0) or one of these, negated by being
 * negative themselves; vdr_err_name() gives the stable name that Python maps to its error tree. */
#ifndef VDR_ERR_H
#define VDR_ERR_H

/* cffi: begin */
typedef enum {
    VDR_OK = 0,
    VDR_E_ARGUMENT = -1,  /* a length, offset or flag is outside its contract: a bug in the caller */
    VDR_E_MEMORY = -2,    /* an allocation outside the hot path failed */
    VDR_E_IO = -3,        /* a system call failed; errno says why */
    VDR_E_SPACE = -4,     /* the caller's buffer is too small; nothing was written to it */
    VDR_E_CORRUPT = -5,   /* bytes read back are not what was written: framing, CRC, size or hash is wrong */
    VDR_E_AUTH = -6,      /* an authentication tag does not match: wrong key or tampered data */
    VDR_E_MISSING = -7,   /* the chunk, entry or name asked for is not there */
    VDR_E_VERSION = -8,   /* the format is newer than this program */
    VDR_E_CRYPTO = -9,    /* a crypto library refused or is not available */
    VDR_E_CODEC = -10,    /* zstd refused the data */
    VDR_E_CLOSED = -11,   /* the object was closed or is being stopped */
} vdr_err;

/* Static, NUL-terminated name such as "corrupt"; "unknown" for a code outside the table. */
const char *vdr_err_name(int code);
/* cffi: end */

#endif

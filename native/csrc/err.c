#include "err.h"

const char *vdr_err_name(int code) {
    switch (code) {
    case VDR_OK: return "ok";
    case VDR_E_ARGUMENT: return "argument";
    case VDR_E_MEMORY: return "memory";
    case VDR_E_IO: return "io";
    case VDR_E_SPACE: return "space";
    case VDR_E_CORRUPT: return "corrupt";
    case VDR_E_AUTH: return "auth";
    case VDR_E_MISSING: return "missing";
    case VDR_E_VERSION: return "version";
    case VDR_E_CRYPTO: return "crypto";
    case VDR_E_CODEC: return "codec";
    case VDR_E_CLOSED: return "closed";
    default: return "unknown";
    }
}

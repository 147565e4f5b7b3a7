"""Why a connection could not be made, in a few words for people."""

import os
import socket


def reason_of(error: BaseException) -> str:
    """`connection refused`, `name or service not known`, ...: the first of the attempts' own errors."""
    while error.__cause__ is not None:
        error = error.__cause__
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno is not None:
        is_name = isinstance(error, socket.gaierror)
        text = error.strerror if is_name and error.strerror else os.strerror(error.errno)
        return text.lower()
    return str(error).lower()

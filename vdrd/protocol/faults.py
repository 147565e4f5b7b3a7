"""Errors of the tree as messages and back, so that a failure has the same code on both ends of a link."""

from schemas.link import Fault, Refused
from vdrd.model.errors import PeerFailed, VdrError

_TEXT_CHARACTERS_MAX = 2000


def _class_of(code: str) -> type[VdrError] | None:
    pending: list[type[VdrError]] = [VdrError]
    while pending:
        candidate = pending.pop()
        if candidate.code == code and candidate is not VdrError:
            return candidate
        pending.extend(candidate.__subclasses__())
    return None


def _text_of(error: VdrError) -> tuple[str, str]:
    message = str(error)[:_TEXT_CHARACTERS_MAX]
    hint = error.hint.format(**error.fields)[:_TEXT_CHARACTERS_MAX]
    return message, hint


def _fields_of(error: VdrError) -> dict[str, object]:
    return {
        name: value if isinstance(value, int | float | bool) else str(value)[:_TEXT_CHARACTERS_MAX]
        for name, value in error.fields.items()
    }


def fault_of(request_id: int, error: VdrError) -> Fault:
    """`error` as the answer to request `request_id`."""
    message, hint = _text_of(error)
    return Fault(request_id, error.code, message, hint, error.retryable, _fields_of(error))


def refusal_of(error: VdrError) -> Refused:
    """`error` as the answer to a greeting."""
    message, hint = _text_of(error)
    return Refused(error.code, message, hint, _fields_of(error))


def error_of(fault: Fault | Refused) -> VdrError:
    """The error a peer reported: of the same class if we know its code and fields, else PeerFailed."""
    known = _class_of(fault.code)
    if known is not None:
        try:
            error = known(**fault.fields)
            _ = error.message
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            pass
        else:
            return error
    return PeerFailed(message=fault.message, remedy=fault.hint)


def internal_fault_of(request_id: int) -> Fault:
    """The answer when a handler broke: nothing of the inside leaks, the log has it."""
    return Fault(request_id, VdrError.code, "the peer failed inside", "its log says more", False)

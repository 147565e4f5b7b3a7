"""Where `vdr` keeps its session with a console: a file only its owner can read. Knows no HTTP.

The file is `~/.config/vdr/session.json`, or what `VDR_SESSION_FILE` names.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vdrd.model.errors import BadInput, SessionEnded

FILE_VARIABLE = "VDR_SESSION_FILE"
DEFAULT_ADDRESS = "https://127.0.0.1:8443"


class SessionFileUnusable(BadInput):
    """The session file cannot be read or written."""

    code = "session-file-unusable"
    template = "cannot use {path}: {reason}"
    hint = "log in again, or name another file with VDR_SESSION_FILE"


@dataclass(frozen=True, slots=True)
class Session:
    """A console, how it proves itself, and who we are to it."""

    address: str
    authority_pem: str
    """What the console's certificate must be signed by; empty: any authority this machine trusts."""
    token: str
    user_name: str


def session_path() -> Path:
    """The file in use."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "vdr" / "session.json"


def load_session() -> Session:
    """The session of the last log-in. Raises SessionEnded if there is none, SessionFileUnusable."""
    path = session_path()
    try:
        return Session(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SessionEnded from error
    except OSError as error:
        raise SessionFileUnusable(path=path, reason=(error.strerror or "error").lower()) from error
    except (ValueError, TypeError) as error:
        raise SessionFileUnusable(path=path, reason="it is no session file") from error


def save_session(session: Session) -> None:
    """Keep a session, readable by its owner only. Atomic. Raises SessionFileUnusable."""
    path = session_path()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(session), file)
        partial.replace(path)
    except OSError as error:
        raise SessionFileUnusable(path=path, reason=(error.strerror or "error").lower()) from error


def forget_session() -> None:
    """Remove the file, if there is one."""
    session_path().unlink(missing_ok=True)

"""Messages every connection speaks: greeting, envelopes of control links, enrolment, data channels.

`docs/formats/wire.md` describes each field and a test holds it to this file. What travels inside a request or
a notification is a family of its own (`schemas/control.py`, `schemas/api.py`); this file does not know them.

Rules for change: a field is only ever added, at the end and with a default; a reader ignores fields it does
not know. A message or field that changes meaning gets a new tag. `PROTOCOL_VERSION` grows when an old peer
could not go on.
"""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

PROTOCOL_VERSION = 1
"""The newest version of the wire protocol this program speaks."""
PROTOCOL_VERSION_MIN = 1
"""The oldest one it still speaks."""

GREETING_BYTES_MAX = 16 << 10
"""Largest frame before the greeting is over: a stranger cannot make us hold more."""
CONTROL_BYTES_MAX = 1 << 20
"""Largest frame on a control link."""
DATA_BYTES_MAX = 8 << 20
"""Largest frame on a data channel: one batch and its table."""

Version = Annotated[int, Meta(ge=0, le=65535)]
Identifier = Annotated[int, Meta(ge=0, le=(1 << 62))]
ShortText = Annotated[str, Meta(max_length=200)]
LongText = Annotated[str, Meta(max_length=8000)]


class Message(Struct, frozen=True, tag_field="t", forbid_unknown_fields=False):
    """Anything that travels as one frame."""


# Greeting: the same on every connection.


class Hello(Message, frozen=True, tag="hello"):
    """First frame of the side that dialled."""

    version_min: Version
    version_max: Version
    purpose: ShortText
    """`control`, `data` or `enrol`."""
    software: ShortText = ""
    unix_seconds: int = 0
    """The dialler's clock, so that a wrong one can be named."""
    run: ShortText = ""
    """Run a data channel is for, when the node dials a passive agent."""


class Welcome(Message, frozen=True, tag="welcome"):
    """Answer to Hello: the version both will speak from now on."""

    version: Version
    software: ShortText = ""
    unix_seconds: int = 0
    heartbeat_seconds: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    authority_pem: LongText = ""
    """The CA's certificate, only for `purpose` enrol: compared with the token's fingerprint."""


class Refused(Message, frozen=True, tag="refused"):
    """Answer to Hello or Enrol: no. The connection closes after it."""

    code: ShortText
    message: LongText
    hint: LongText = ""
    fields: dict[str, Any] = {}


# Enrolment: one exchange after the greeting.


class Enrol(Message, frozen=True, tag="enrol"):
    """A host without certificate asks for one."""

    token: Annotated[bytes, Meta(max_length=64)]
    """Id (16 bytes) and secret (32 bytes) of the one-time token."""
    request_pem: LongText
    """PKCS#10 request; only its key is used, the CA writes subject and names itself."""
    host: ShortText = ""
    facts: dict[ShortText, ShortText] = {}
    """What the host says about itself: operating system, mode, port."""


class Enrolled(Message, frozen=True, tag="enrolled"):
    """The certificate, and who the host is from now on."""

    identity: ShortText
    """UUID under which the server knows it."""
    certificate_pem: LongText
    authority_pem: LongText
    servers: list[ShortText] = []
    """`host:port` of each server to dial."""


# Envelopes of control links.


class Request(Message, frozen=True, tag="req"):
    """Wants exactly one Reply or Fault with the same id."""

    id: Identifier
    body: Raw


class Reply(Message, frozen=True, tag="rep"):
    """Answer to a Request."""

    id: Identifier
    body: Raw


class Fault(Message, frozen=True, tag="fault"):
    """Failure of a Request, or on a data channel of the message before it.

    Carries the error tree's code and fields.
    """

    id: Identifier
    code: ShortText
    message: LongText
    hint: LongText = ""
    retryable: bool = False
    fields: dict[str, Any] = {}


class Withdraw(Message, frozen=True, tag="withdraw"):
    """The asker no longer wants the Reply; the answerer may stop the work."""

    id: Identifier


class Notify(Message, frozen=True, tag="note"):
    """Wants no answer."""

    body: Raw


class Ping(Message, frozen=True, tag="ping"):
    """Wants a Pong with the same number."""

    number: Identifier


class Pong(Message, frozen=True, tag="pong"):
    """Answer to a Ping."""

    number: Identifier


class Goodbye(Message, frozen=True, tag="bye"):
    """The sender closes in order; nothing but answers to what is under way follows."""

    reason: ShortText = ""


# Data channels: after the greeting, strictly question and answer in order, so no ids.


class Open(Message, frozen=True, tag="open"):
    """First frame of the agent: the one-time ticket."""

    ticket: Annotated[bytes, Meta(min_length=32, max_length=32)]
    seals: list[ShortText] = []
    """Ciphers the agent can seal with, best first: `aes-256-gcm`, `sm4-gcm`. TLS alone always works."""


class Opened(Message, frozen=True, tag="opened"):
    """The ticket was good. Keys only name chunks, they do not decrypt them."""

    run: ShortText
    seal: ShortText
    """How everything after this message travels: `tls` as before, or sealed with this AEAD from now on."""
    seal_secret: Annotated[bytes, Meta(max_length=32)] = b""
    """Random bytes from which both sides derive the keys of the seal."""
    id_keys: dict[int, Annotated[bytes, Meta(min_length=32, max_length=32)]] = {}
    """Chunk kind to hashing key."""
    cut_key: Annotated[bytes, Meta(max_length=32)] = b""
    compression_level: int | None = None
    writable: bool = False
    """True when Claim, Put and Commit are allowed (a backup), False for a restore."""


class Claim(Message, frozen=True, tag="claim"):
    """Which of these chunks shall I send?"""

    ids: bytes
    """32 bytes each."""


class Claimed(Message, frozen=True, tag="claimed"):
    """One byte per id: 1 = send it."""

    wanted: bytes


class Put(Message, frozen=True, tag="put"):
    """A batch of chunks. `payload` comes last so that it is sent from where it lies."""

    ids: bytes
    table: bytes
    """Per chunk `<IIBBH`: plain bytes, encoded bytes, codec, kind, zero."""
    payload: memoryview


class PutDone(Message, frozen=True, tag="putdone"):
    """The batch was checked and stored (durable only after Commit)."""

    count: Identifier


class Fetch(Message, frozen=True, tag="fetch"):
    """Wants these chunks, in this order."""

    ids: bytes


class Chunks(Message, frozen=True, tag="chunks"):
    """Part of the answer to Fetch. `table` as in Put."""

    more: bool
    """True when another Chunks follows for the same Fetch."""
    table: bytes
    payload: memoryview


class DiskRootRecord(Struct, frozen=True, tag="disk", tag_field="k"):
    """Root of a disk's block map."""

    root_id: Annotated[bytes, Meta(min_length=32, max_length=32)] | None
    levels: Annotated[int, Meta(ge=0, le=64)]
    size_bytes: Identifier
    block_bytes: Annotated[int, Meta(ge=1, le=1 << 30)]


class FilesRootRecord(Struct, frozen=True, tag="files", tag_field="k"):
    """Root of a file tree's manifest."""

    root_id: Annotated[bytes, Meta(min_length=32, max_length=32)] | None
    levels: Annotated[int, Meta(ge=0, le=64)]
    entry_count: Identifier


class Commit(Message, frozen=True, tag="commit"):
    """All chunks are put: make the point."""

    object_name: ShortText
    backup_type: ShortText
    root: DiskRootRecord | FilesRootRecord
    source: LongText
    host: ShortText
    logical_bytes: Identifier
    new_bytes: Identifier
    stored_bytes: Identifier
    started_at: datetime
    parent_id: ShortText | None = None
    warnings: Annotated[list[LongText], Meta(max_length=1000)] = []
    """The first warnings, at most 1,000."""
    warning_count: Identifier = 0
    labels: dict[ShortText, LongText] = {}


class Committed(Message, frozen=True, tag="committed"):
    """The point is durable."""

    point_id: ShortText
    time: datetime


class Working(Message, frozen=True, tag="working"):
    """The node is still at the last question; sent every few seconds so that silence means death."""


class Abort(Message, frozen=True, tag="abort"):
    """The agent gives up the run. Chunks already put stay usable by the next one."""

    reason: ShortText = ""


GREETINGS = Hello | Welcome | Refused
ENVELOPES = Request | Reply | Fault | Withdraw | Notify | Ping | Pong | Goodbye
ENROLMENT = Enrol | Enrolled | Refused
DATA = (
    Open | Opened | Claim | Claimed | Put | PutDone | Fetch | Chunks
    | Commit | Committed | Working | Abort | Fault | Goodbye
)  # fmt: skip

FAMILIES = {
    "greeting": (Hello, Welcome, Refused),
    "enrolment": (Enrol, Enrolled),
    "control envelopes": (Request, Reply, Fault, Withdraw, Notify, Ping, Pong, Goodbye),
    "data channels": (
        Open, Opened, Claim, Claimed, Put, PutDone, Fetch, Chunks,
        Commit, Committed, Working, Abort,
    ),
}  # fmt: skip
"""Every message of this file once, by chapter of `docs/formats/wire.md`."""

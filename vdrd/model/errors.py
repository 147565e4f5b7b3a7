"""The error tree: every failure a user can meet has one class here, with a stable code, a message and a
remedy.

Lower errors (OSError, NativeError, ssl errors) are translated once, at the package that owns the boundary,
always `from` the cause. `exit_code` is what `vdr` returns; the table is in `docs/cli.md`.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `vdr`, the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    WARNINGS = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNAUTHORISED = 6
    DAMAGED = 7
    NO_SPACE = 8
    UNREACHABLE = 9


class VdrError(Exception):
    """A failure that names the thing and the remedy.

    Subclasses set `code` (stable, kebab-case), `template` (lower case, no full stop, `{field}` placeholders),
    `hint` (what to do; may be empty) and `exit_code`. `retryable` tells a scheduler whether trying again can
    help.
    """

    code = "internal"
    template = "{what}"
    hint = ""
    exit_code = ExitCode.FAILED
    retryable = False

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        super().__init__(self.template.format(**fields))

    @property
    def hint_text(self) -> str:
        """The hint with its fields filled in; empty if there is none."""
        return self.hint.format(**self.fields)

    @property
    def message(self) -> str:
        """Message and hint as one or two sentences, ready to print."""
        return f"{self}. {self.hint_text}" if self.hint_text else str(self)


class BadInput(VdrError):
    """Something the user gave cannot be used."""

    code = "bad-input"
    exit_code = ExitCode.USAGE


class BadArgument(BadInput):
    """An argument of a call is outside what it may be."""

    code = "bad-argument"
    template = "{field}: {reason}"


class NotFound(VdrError):
    """A path, point, object or name does not exist."""

    code = "not-found"
    template = "{what} not found: {name}"
    exit_code = ExitCode.NOT_FOUND


class SourceUnreadable(VdrError):
    """The thing to protect cannot be read at all (single unreadable files are warnings, not this)."""

    code = "source-unreadable"
    template = "cannot read {path}: {reason}"
    hint = "check that it exists and that this account may read it"


class VolumeUnreadable(VdrError):
    """A volume within a disk, or a part of it, cannot be read as files. The disk itself is as it was backed
    up."""

    code = "volume-unreadable"
    template = "volume {name} cannot be read: {reason}"
    hint = "restore the whole disk, or export it, and look at it with the tools of its own system"


class TargetRefused(VdrError):
    """The restore target must not be written as it stands."""

    code = "target-refused"
    template = "will not write to {path}: {reason}"
    exit_code = ExitCode.REFUSED


class OverlayRefused(VdrError):
    """An overlay (the writes over a disk that is exported or mounted) cannot be used."""

    code = "overlay-refused"
    template = "will not use the overlay {path}: {reason}"
    hint = "give another cache directory, or take this one away if its writes are not needed"
    exit_code = ExitCode.REFUSED


class TargetOccupied(TargetRefused):
    """The restore target holds something already."""

    code = "target-occupied"
    hint = "name another target, or give --overwrite to write over what is there"


class StorageLocked(VdrError):
    """Another process has the storage open for writing."""

    code = "storage-locked"
    template = "storage {path} is in use by {holder}"
    hint = "wait for it to end or stop it, then try again"
    exit_code = ExitCode.REFUSED
    retryable = True


class StorageNotFound(NotFound):
    """The directory holds no storage."""

    code = "storage-not-found"
    template = "no storage at {path}"
    hint = "make one with: vdr store init {path}"


class StorageNewer(VdrError):
    """The storage was written by a newer format."""

    code = "storage-newer"
    template = "storage {path} has format {found}, this program reads up to {supported}"
    hint = "use a newer version of vdr"
    exit_code = ExitCode.REFUSED


class PointLocked(VdrError):
    """A point must not be removed yet."""

    code = "point-locked"
    template = "point {point} {reason}"
    hint = "leave it out, or wait; a lock ends by the storage's own time and is never shortened"
    exit_code = ExitCode.REFUSED


class LockShortened(VdrError):
    """A lock was to end earlier than it does."""

    code = "lock-shortened"
    template = "the point is locked until {until} already, and a lock is never shortened"
    hint = "give a later time"
    exit_code = ExitCode.REFUSED


class WrongKey(VdrError):
    """The key does not open the storage."""

    code = "wrong-key"
    template = "the key does not open storage {path}"
    hint = "give the right file with --key-file or VDR_KEY_FILE"
    exit_code = ExitCode.UNAUTHORISED


class KeyMissing(WrongKey):
    """The storage is encrypted and no key was given."""

    code = "key-missing"
    template = "storage {path} is encrypted and no key was given"


class Damaged(VdrError):
    """Bytes read back are not what was written. Never served as data."""

    code = "damaged"
    template = "{what} is damaged: {reason}"
    hint = "run: vdr store verify DIR --read-data"
    exit_code = ExitCode.DAMAGED


class GuardDamaged(Damaged):
    """What a storage knows of its locks and its time does not hold: nothing may be removed."""

    code = "guard-damaged"
    hint = "look at the locks that are left, then mend it with: vdr store lock DIR --accept-clock"


class StorageFull(VdrError):
    """The file system of the storage (or of a restore target) is full."""

    code = "no-space"
    template = "no space left on {path}"
    hint = "free or add space; everything committed so far is intact and the next run goes on from it"
    exit_code = ExitCode.NO_SPACE


class StorageUnwritable(VdrError):
    """The storage cannot be written."""

    code = "storage-unwritable"
    template = "cannot write {path}: {reason}"


class Unreachable(VdrError):
    """A peer cannot be reached or the link to it broke."""

    code = "unreachable"
    template = "cannot reach {peer}: {reason}"
    exit_code = ExitCode.UNREACHABLE
    retryable = True


class CannotListen(VdrError):
    """A port cannot be opened for clients."""

    code = "cannot-listen"
    template = "cannot listen on {host} port {port}: {reason}"
    hint = "{remedy}"
    exit_code = ExitCode.UNREACHABLE


class NotAuthorised(VdrError):
    """The peer or user may not do this."""

    code = "not-authorised"
    template = "not authorised: {reason}"
    exit_code = ExitCode.UNAUTHORISED


class ProtocolViolation(VdrError):
    """A peer sent something outside the protocol; the connection is closed."""

    code = "protocol-violation"
    template = "peer {peer} broke the protocol: {reason}"


class MessageTooLarge(BadInput):
    """A message does not fit into a frame. Nothing was sent."""

    code = "message-too-large"
    template = "a message of {found_bytes} bytes does not fit into a frame of {max_bytes} bytes"
    hint = "ask for less at once"


class VersionUnsupported(VdrError):
    """Two programs have no protocol version in common."""

    code = "version-unsupported"
    template = "the peer speaks protocol {peer_min} to {peer_max}, this program {own_min} to {own_max}"
    hint = "bring server, nodes and agents to the same release, the server first"


class PeerFailed(VdrError):
    """The peer reported an error that this program does not know, or one of its inside."""

    code = "peer-failed"
    template = "{message}"
    hint = "{remedy}"


class PeerBusy(VdrError):
    """The peer has as much to do as it takes on at once."""

    code = "peer-busy"
    template = "{peer} is busy"
    hint = "try again later"
    retryable = True


class CertificateRefused(NotAuthorised):
    """A certificate does not prove what it must."""

    code = "certificate-refused"
    template = "certificate of {peer} refused: {reason}"
    hint = "enrol that machine again, or correct the address if it is another machine"


class RequestRefused(BadInput):
    """A certificate request cannot be signed."""

    code = "certificate-request-refused"
    template = "certificate request refused: {reason}"
    hint = "use a key of type EC P-256 or RSA of at least 3072 bits"


class ClockWrong(CertificateRefused):
    """Two clocks are too far apart for certificates to be valid."""

    code = "clock-wrong"
    template = "the clock of this machine ({own}) does not fit {peer}: {reason}"
    hint = "set the clocks of both machines right (NTP), then try again"


class TokenUnreadable(BadInput):
    """What was given is no enrolment token."""

    code = "token-unreadable"
    template = "this is no enrolment token: {reason}"
    hint = "copy the whole token, it begins with vdr1."


class TokenRefused(NotAuthorised):
    """The enrolment token is unknown, used or expired."""

    code = "token-refused"
    template = "enrolment token refused: {reason}"
    hint = "make a new token on the server and use it within its lifetime"


class TicketRefused(NotAuthorised):
    """The one-time ticket of a data channel is unknown, used, expired or another peer's."""

    code = "ticket-refused"
    template = "ticket refused: {reason}"
    hint = "start the run again"
    retryable = True


class KeyFileUnusable(VdrError):
    """A file with a certificate or key cannot be used."""

    code = "key-file-unusable"
    template = "cannot use {path}: {reason}"
    hint = "restore it from a copy, or enrol again"


class Cancelled(VdrError):
    """The run was cancelled; what was stored stays usable by the next one."""

    code = "cancelled"
    template = "cancelled"


class Conflict(VdrError):
    """What was asked for does not fit the present state of things. Nothing was changed."""

    code = "conflict"
    template = "{what}"
    hint = "{remedy}"
    exit_code = ExitCode.REFUSED


class NotOnline(Unreachable):
    """A host or node is needed and has no link now."""

    code = "not-online"
    template = "{what} is not online"
    hint = "start its daemon and check the network, then try again"


class LoginFailed(NotAuthorised):
    """Wrong user name or password. Does not say which."""

    code = "login-failed"
    template = "wrong user name or password"


class LockedOut(NotAuthorised):
    """Too many wrong passwords."""

    code = "locked-out"
    template = "too many failed log-ins"
    hint = "wait {minutes} minutes, or let an administrator set a new password"


class SessionEnded(NotAuthorised):
    """The session is unknown, has expired or was ended."""

    code = "session-ended"
    template = "the session has ended"
    hint = "log in again"


class Interrupted(VdrError):
    """A daemon that worked on the run went away."""

    code = "interrupted"
    template = "interrupted: {reason}"
    hint = "what was stored so far is used by the next run"
    retryable = True

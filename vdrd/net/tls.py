"""The seam for TLS: what links and data channels need of it, and nothing about how it is done.

`TlsEngine` is one TLS connection without I/O; shells for Trio, asyncio and threads move its bytes. A second
profile (other certificates, other ciphers) is another `TlsProfile`; there is no fallback from one to another.
"""

from typing import Protocol

from vdrd.net.identity import PeerIdentity

RECORD_BATCH_BYTES = 256 << 10
"""How much is encrypted or read from a socket at once:

large enough that calls do not show, small enough for caches.
"""


class TlsEngine(Protocol):
    """One TLS connection as bytes in and bytes out.

    Not thread-safe. After an error only `take_outgoing` is of use.
    """

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done, False when more bytes from the peer are needed.

        Call `take_outgoing` and send after each call. Raises CertificateRefused, ClockWrong,
        ProtocolViolation.
        """
        ...

    def feed(self, data: bytes | memoryview) -> None:
        """Bytes that arrived; empty at the end of the stream."""
        ...

    def take_outgoing(self) -> bytes:
        """Bytes to send, empty when there are none."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt; `take_outgoing` gives the result."""
        ...

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Decrypted bytes into `buffer`; 0 when more bytes are needed first, -1 when the peer closed in
        order.

        Raises ProtocolViolation, Unreachable (cut), and what the handshake raises: a listener's refusal of
        our certificate comes with the first read.
        """
        ...

    def close(self) -> None:
        """Say that nothing follows; `take_outgoing` gives the bytes."""
        ...

    @property
    def peer(self) -> PeerIdentity | None:
        """Who the peer proved to be; None for a stranger without certificate (only where strangers are
        let in)."""
        ...

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER), not verified where the engine was told not to."""
        ...


class TlsProfile(Protocol):
    """One way to do TLS, with our credentials. Thread-safe."""

    @property
    def name(self) -> str:
        """`tls13`, ..."""
        ...

    def listener(self, peer: str, *, admit_strangers: bool = False) -> TlsEngine:
        """The accepting side.

        With `admit_strangers` a peer without certificate gets through, with `peer` None.
        """
        ...

    def dialer(self, peer: str) -> TlsEngine:
        """The dialling side; the peer's certificate is verified, the caller checks that it is the
        expected one."""
        ...

    def is_revoked(self, peer: PeerIdentity) -> bool:
        """True when the revocation list names the peer's certificate."""
        ...

    def reload(self) -> None:
        """Use renewed credentials and the newest revocation list for connections from now on.

        Raises KeyFileUnusable.
        """
        ...

"""Where a program listens: host and port. Knows no sockets."""

from dataclasses import dataclass

from vdrd.model.errors import BadInput

SERVER_PORT = 4510
NODE_PORT = 4511
AGENT_PORT = 4512


class AddressUnreadable(BadInput):
    """An address is not of the form host:port."""

    code = "address-unreadable"
    template = "{text!r} is no address: {reason}"
    hint = "write host:port, an IPv6 address in brackets: [2001:db8::1]:4510"


@dataclass(frozen=True, slots=True)
class Address:
    """Host name or IP address, and TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> "Address":
        """Read `host:port`, `[ipv6]:port`, or a bare host if there is a default port.

        Raises AddressUnreadable.
        """
        host, separator, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host or not separator or (text.startswith("[") and text.endswith("]")):
            host, port = text.strip("[] "), ""
        if not port and default_port is not None:
            port = str(default_port)
        if not host or any(character.isspace() for character in host):
            raise AddressUnreadable(text=text, reason="the host is missing")
        if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise AddressUnreadable(text=text, reason="the port must be a number up to 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

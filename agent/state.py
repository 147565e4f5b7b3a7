"""What the agent keeps besides its certificate: who its server is and who dials. One small file, replaced
whole."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from vdrd.model.errors import BadInput, KeyFileUnusable
from vdrd.net.credentials import Credentials
from vdrd.net.keyfile import read_secret, write_secret


class NotEnrolled(BadInput):
    """The agent has no certificate yet."""

    code = "not-enrolled"
    template = "this host is not enrolled: no certificate in {path}"
    hint = "make a token on the server (vdr host token) and run: vdr-agent enrol TOKEN"


class Enrolment(msgspec.Struct, frozen=True):
    """What enrolment told."""

    servers: list[str] = []
    """`host:port` to dial; empty when the host was admitted to be dialled only."""
    mode: str = "active"


@dataclass(frozen=True, slots=True)
class AgentState:
    """The state directory of an agent."""

    directory: Path

    @property
    def credentials(self) -> Credentials:
        """The certificate, in `identity/`."""
        return Credentials(self.directory / "identity")

    @property
    def _path(self) -> Path:
        return self.directory / "enrolment.json"

    def store(self, enrolment: Enrolment) -> None:
        """Keep what enrolment told; durable on return."""
        write_secret(self._path, msgspec.json.encode(enrolment))

    def load(self) -> Enrolment:
        """What enrolment told. Raises NotEnrolled, KeyFileUnusable."""
        if not self.credentials.exists:
            raise NotEnrolled(path=self.credentials.directory)
        try:
            return msgspec.json.decode(read_secret(self._path), type=Enrolment)
        except msgspec.DecodeError as error:
            raise KeyFileUnusable(path=self._path, reason=str(error)) from error

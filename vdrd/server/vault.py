"""Secrets the server must be able to use again, such as a mail password: sealed before they go into the
catalog.

The key is a file beside the catalog, so a copy of the catalog alone (a metadata backup, a page read by SQL
injection) opens nothing. AES-256-GCM with a fresh nonce; what a secret is for is bound to it, so that one
cannot be put in another's place.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vdrd.model.errors import ExitCode, VdrError
from vdrd.net.keyfile import write_secret

_KEY_BYTES = 32
_NONCE_BYTES = 12


class SecretLost(VdrError):
    """A sealed secret does not open."""

    code = "secret-lost"
    template = "the secret of {purpose} cannot be opened: {reason}"
    hint = "bring back the vault's key from a backup, or enter the secret again"
    exit_code = ExitCode.UNAUTHORISED


class Vault:
    """Seals and opens secrets."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def at(cls, path: Path) -> "Vault":
        """The vault whose key is the file `path`; makes it, mode 0600 and durable, the first time. Blocking.

        Raises SecretLost if the file is no key.
        """
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = os.urandom(_KEY_BYTES)
            write_secret(path, key)
        if len(key) != _KEY_BYTES:
            raise SecretLost(purpose="every channel", reason=f"{path} is not a key")
        return cls(key)

    def seal(self, purpose: str, secret: bytes) -> bytes:
        """The secret, readable only with the key and for the same purpose."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, purpose.encode())

    def open(self, purpose: str, sealed: bytes) -> bytes:
        """The secret again. Raises SecretLost."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SecretLost(purpose=purpose, reason="it was sealed with another key or altered") from error

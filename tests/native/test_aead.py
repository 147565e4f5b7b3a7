"""Both ciphers and 'none' through the interface that formats use."""

import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from native.aead import Aead, Algorithm
from native.err import NativeError

CIPHERS = [Algorithm.AES_256_GCM, Algorithm.SM4_GCM]


@settings(max_examples=80, deadline=None)
@given(
    key=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    data=st.binary(max_size=5000),
    aad=st.binary(max_size=100),
)
def test_aes_any_message_equals_the_oracle(key: bytes, nonce: bytes, data: bytes, aad: bytes) -> None:
    with Aead(Algorithm.AES_256_GCM, key) as aead:
        sealed = aead.seal(nonce, data, aad)
        assert sealed == AESGCM(key).encrypt(nonce, data, aad)
        assert aead.unseal(nonce, sealed, aad) == data


@pytest.mark.parametrize("algorithm", CIPHERS)
@pytest.mark.parametrize("damage", ["nonce", "aad", "text", "tag", "truncated", "nothing left"])
def test_unseal_damaged_message_is_refused(algorithm: Algorithm, damage: str) -> None:
    with Aead(algorithm, bytes(algorithm.key_bytes)) as aead:
        nonce, aad = bytearray(12), bytearray(b"header")
        sealed = bytearray(aead.seal(nonce, bytes(1000), aad))
        match damage:
            case "nonce":
                nonce[0] ^= 1
            case "aad":
                aad[0] ^= 1
            case "text":
                sealed[500] ^= 1
            case "tag":
                sealed[-1] ^= 1
            case "truncated":
                del sealed[-1]
            case _:
                sealed.clear()
        with pytest.raises(NativeError, match="auth"):
            aead.unseal(nonce, sealed, aad)


def test_none_returns_the_data_unchanged() -> None:
    with Aead(Algorithm.NONE, b"") as aead:
        assert aead.seal(bytes(12), b"plain") == b"plain"
        assert aead.unseal(bytes(12), b"plain") == b"plain"


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_key_of_a_wrong_length_is_refused(algorithm: Algorithm) -> None:
    with pytest.raises(ValueError, match="key of"):
        Aead(algorithm, bytes(algorithm.key_bytes + 1))


def test_nonce_of_a_wrong_length_is_refused() -> None:
    with Aead(Algorithm.AES_256_GCM, bytes(32)) as aead, pytest.raises(ValueError, match="12 bytes"):
        aead.seal(bytes(11), b"")


def test_closed_context_is_refused() -> None:
    aead = Aead(Algorithm.SM4_GCM, bytes(16))
    aead.close()
    aead.close()
    with pytest.raises(NativeError, match="closed"):
        aead.seal(bytes(12), b"")


@pytest.mark.parametrize("algorithm", CIPHERS)
def test_threads_sharing_a_context_each_get_their_own_message(algorithm: Algorithm) -> None:
    key = bytes(range(algorithm.key_bytes))
    messages = [np.random.default_rng(i).bytes(200_000) for i in range(4)]
    nonces = [i.to_bytes(12, "little") for i in range(4)]
    with Aead(algorithm, key) as alone:
        expected = [alone.seal(nonce, message) for nonce, message in zip(nonces, messages, strict=True)]
    wrong: list[int] = []
    with Aead(algorithm, key) as shared:

        def run(i: int) -> None:
            for _ in range(20):
                if shared.seal(nonces[i], messages[i]) != expected[i]:
                    wrong.append(i)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []

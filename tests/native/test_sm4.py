"""SM4-GCM at every level against OpenSSL (through `cryptography`), and the bare cipher against gmssl."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmssl import sm4 as gmssl_sm4
from hypothesis import given, settings
from hypothesis import strategies as st

from native import sm4
from native.err import NativeError

AVAILABLE = [level for level in sm4.LEVELS if sm4.is_available(level)]
KEYS = st.binary(min_size=16, max_size=16)
NONCES = st.binary(min_size=12, max_size=12)
# Around blocks, kernel units (256, 1024), the 16 KiB pieces, and their sum with the first unit.
LENGTHS = st.one_of(
    st.integers(0, 300),
    st.builds(
        lambda unit, count, extra: max(unit * count + extra, 0),
        st.sampled_from([256, 1024, 16384]),
        st.integers(0, 4),
        st.integers(-40, 40),
    ),
)


def openssl_seal(key: bytes, nonce: bytes, data: bytes, aad: bytes) -> bytes:
    encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(aad)
    return encryptor.update(data) + encryptor.finalize() + encryptor.tag


@pytest.mark.parametrize("level", AVAILABLE)
@settings(max_examples=60, deadline=None)
@given(key=KEYS, nonce=NONCES, aad=st.binary(max_size=100), length=LENGTHS, seed=st.integers(0, 2**32))
def test_sealed_message_any_length_equals_openssl(
    *, level: int, key: bytes, nonce: bytes, aad: bytes, length: int, seed: int
) -> None:
    data = np.random.default_rng(seed).bytes(length)
    with sm4.Sm4(level, key) as context:
        sealed = context.seal(nonce, data, aad)
        assert sealed == openssl_seal(key, nonce, data, aad)
        assert context.unseal(nonce, sealed, aad) == data


@pytest.mark.parametrize("level", AVAILABLE)
@settings(max_examples=40, deadline=None)
@given(key=KEYS, length=st.integers(0, 3000), bit=st.integers(0, 2**30))
def test_unseal_any_flipped_bit_is_refused(level: int, key: bytes, length: int, bit: int) -> None:
    with sm4.Sm4(level, key) as context:
        sealed = bytearray(context.seal(bytes(12), bytes(length)))
        bit %= 8 * len(sealed)
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NativeError, match="auth"):
            context.unseal(bytes(12), sealed)


@pytest.mark.parametrize("level", AVAILABLE)
@settings(max_examples=30, deadline=None)
@given(key=KEYS, block=KEYS)
def test_block_any_key_equals_gmssl(level: int, key: bytes, block: bytes) -> None:
    oracle = gmssl_sm4.CryptSM4()
    oracle.set_key(key, gmssl_sm4.SM4_ENCRYPT)
    expected = bytes(oracle.one_round(oracle.sk, block))
    with sm4.Sm4(level, key) as context:
        assert context.encrypt_block(block) == expected


def test_level_that_the_machine_lacks_is_refused() -> None:
    with pytest.raises(NativeError, match="not available"):
        sm4.Sm4(99, bytes(16))


def test_portable_levels_are_available_everywhere() -> None:
    assert sm4.is_available(0)
    assert sm4.best_level() in AVAILABLE

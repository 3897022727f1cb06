import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from nacl.secret import SecretBox

from images import sign
from images.errors import TrustError, UsageError
from images.sign import PrivateKey, PublicKey

DIGEST = f"sha256:{'a' * 64}"
STATEMENT = b'{"predicateType":"x"}'
WORD = "correct horse"
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def other() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def plain(key: PrivateKey) -> bytes:
    return key.key.private_bytes(*PEM, serialization.NoEncryption())


def encrypted(key: PrivateKey) -> bytes:
    return key.key.private_bytes(*PEM, serialization.BestAvailableEncryption(WORD.encode()))


def of_cosign(key: PrivateKey, kind: str = "SIGSTORE", **changes: Any) -> bytes:
    """As `cosign generate-key-pair` writes it; with a smaller cost, so that tests are quick."""
    secret = hashlib.scrypt(WORD.encode(), salt=b"salt", n=1024, r=8, p=1, dklen=32)
    der = key.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    box = SecretBox(secret).encrypt(der, b"n" * 24)
    document = {
        "kdf": {"name": "scrypt", "params": {"N": 1024, "r": 8, "p": 1}, "salt": encoded(b"salt")},
        "cipher": {"name": "nacl/secretbox", "nonce": encoded(b"n" * 24)},
        "ciphertext": encoded(box.ciphertext),
        **changes,
    }
    body = base64.encodebytes(json.dumps(document).encode()).decode()
    return f"-----BEGIN ENCRYPTED {kind} PRIVATE KEY-----\n{body}-----END ENCRYPTED {kind} PRIVATE KEY-----\n".encode()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def written(content: bytes, folder: Path) -> Path:
    (folder / "a.key").write_bytes(content)
    return folder / "a.key"


def public(key: Any) -> bytes:
    pem: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


# Keys


@pytest.mark.parametrize("form", [plain, encrypted, of_cosign, lambda key: of_cosign(key, "COSIGN")])
def test_a_key_is_read_in_every_form(form: Any, key: PrivateKey, tmp_path: Path) -> None:
    assert sign.private_key(written(form(key), tmp_path), lambda: WORD).public.id == key.public.id


@pytest.mark.parametrize("form", [encrypted, of_cosign])
def test_a_wrong_password_is_a_usage_error_without_it(form: Any, key: PrivateKey, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a wrong password in COSIGN_PASSWORD") as caught:
        sign.private_key(written(form(key), tmp_path), lambda: "staple")
    assert "staple" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": {}},
        {"cipher": {"name": "rot13"}},
        {"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": "c2FsdA=="}},
        {"ciphertext": "%"},
    ],
)
def test_a_damaged_key_of_cosign_is_a_usage_error(changes: Any, key: PrivateKey, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sign.private_key(written(of_cosign(key, **changes), tmp_path), lambda: WORD)


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_a_usage_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        sign.private_key(written(content, tmp_path), lambda: "")
    with pytest.raises(UsageError):
        sign.public_key(written(content, tmp_path))


def test_a_key_of_another_kind_is_a_usage_error(tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(UsageError, match="is not an ECDSA P-256 key"):
        sign.private_key(written(other.private_bytes(*PEM, serialization.NoEncryption()), tmp_path), lambda: "")
    with pytest.raises(UsageError, match="is not an ECDSA P-256 key"):
        sign.public_key(written(public(other.public_key()), tmp_path))


def test_a_key_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        sign.private_key(tmp_path / "none", lambda: "")


def test_a_private_key_in_the_place_of_a_public_one_is_named(key: PrivateKey, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a private one"):
        sign.public_key(written(plain(key), tmp_path))


def test_a_public_key_is_read(key: PrivateKey, tmp_path: Path) -> None:
    assert sign.public_key(written(public(key.public.key), tmp_path)).id == key.public.id


# Signatures


def test_a_signature_holds_for_its_content_alone(key: PrivateKey, other: PrivateKey) -> None:
    signature = key.sign(b"content")
    assert key.public.verifies(signature, b"content")
    assert not key.public.verifies(signature, b"Content")
    assert not other.public.verifies(signature, b"content")
    assert not key.public.verifies(b"", b"content")


def test_signing_again_gives_the_same_signature(key: PrivateKey) -> None:
    assert key.sign(b"content") == key.sign(b"content")


def test_a_payload_is_about_a_digest() -> None:
    assert sign.payload_digest(sign.payload("reg.example/m", DIGEST)) == DIGEST


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"critical": 1}'])
def test_a_payload_about_nothing_is_refused(content: bytes) -> None:
    with pytest.raises(TrustError):
        sign.payload_digest(content)


def test_an_annotation_that_is_no_signature_holds_for_nothing() -> None:
    assert sign.decoded("%%%") == b""


# Envelopes


def test_an_envelope_holds_what_was_put_in(key: PrivateKey) -> None:
    opened = sign.opened(sign.envelope(STATEMENT, key), key.public)
    assert (opened.statement, opened.signed, opened.claims) == ({"predicateType": "x"}, True, True)


def test_an_envelope_of_another_key_is_not_signed_and_claims_nothing(key: PrivateKey, other: PrivateKey) -> None:
    opened = sign.opened(sign.envelope(STATEMENT, other), key.public)
    assert (opened.signed, opened.claims) == (False, False)


@pytest.mark.parametrize("change", [{"payload": encoded(b'{"predicateType":"y"}')}, {"payloadType": "text/plain"}])
def test_an_envelope_that_was_changed_claims_and_is_not_signed(change: dict[str, str], key: PrivateKey) -> None:
    content = json.dumps(json.loads(sign.envelope(STATEMENT, key)) | change).encode()
    opened = sign.opened(content, key.public)
    assert (opened.signed, opened.claims) == (False, True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload": "%", "payloadType": "x", "signatures": []}',
        b'{"payload": "WzFd", "payloadType": "x", "signatures": []}',
    ],
)
def test_what_is_no_envelope_is_refused(content: bytes, key: PrivateKey) -> None:
    for read in (lambda: sign.opened(content, key.public), lambda: sign.unopened(content)):
        with pytest.raises(TrustError):
            read()


def test_an_id_is_of_the_public_key(key: PrivateKey, other: PrivateKey) -> None:
    assert PublicKey(key.key.public_key()).id == key.public.id != other.public.id

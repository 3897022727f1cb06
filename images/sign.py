"""Keys and signatures as cosign makes and reads them: ECDSA P-256, simple signing payloads, DSSE envelopes.

No network: what is here makes and checks bytes.
"""

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from images.errors import TrustError, UsageError

SIGNATURE = "dev.cosignproject.cosign/signature"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
STATEMENT = "application/vnd.in-toto+json"
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - the name of a variable
OF_COSIGN = (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----")
MAKE_ONE = (
    "make one with `cosign generate-key-pair`, or `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
)
LARGEST_SCRYPT = 1 << 20
"""Of scrypt's cost: a damaged key file shall not ask for gigabytes. Keys of cosign have 65536."""

Password = Callable[[], str]


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures."""

    key: ec.EllipticCurvePublicKey

    @property
    def id(self) -> str:
        """`SHA256:...` of the key, as people compare it."""
        der = self.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"SHA256:{hashlib.sha256(der).hexdigest()}"

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether the signature is this key's over the content."""
        try:
            self.key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    key: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return PublicKey(self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """A signature in DER; where OpenSSL can, always the same for the same content: a push is repeatable."""
        try:
            return self.key.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        except UnsupportedAlgorithm:
            return self.key.sign(content, ec.ECDSA(hashes.SHA256()))


def private_key(file: Path, password: Password = lambda: os.environ.get(PASSWORD, "")) -> PrivateKey:
    """The signing key in a PEM file: cosign's own, or a plain or encrypted EC key.

    Raises `UsageError` for a file that is missing or no such key, or a wrong password.
    """
    content = _read(file)
    try:
        key = (
            serialization.load_der_private_key(_opened(content, password().encode()), None)
            if content.startswith(OF_COSIGN)
            else serialization.load_pem_private_key(content, _needed(content, password))
        )
    except (ValueError, TypeError, LookupError, binascii.Error, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{file} is no private key that can be opened: a wrong password in {PASSWORD}, or another kind of file",
            MAKE_ONE,
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError(f"{file} is not an ECDSA P-256 key", MAKE_ONE)
    return PrivateKey(key)


def public_key(file: Path) -> PublicKey:
    """The key in a PEM file that checks signatures. Raises `UsageError`."""
    content = _read(file)
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        private = b"PRIVATE KEY" in content
        raise UsageError(
            f"{file} is no public key in PEM" + (": it is a private one" if private else ""),
            "name the public one: cosign.pub, or what `openssl pkey -in KEY -pubout` prints",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError(f"{file} is not an ECDSA P-256 key", MAKE_ONE)
    return PublicKey(key)


def payload(repository: str, digest: str) -> bytes:
    """What a signature of an image is over: its repository and its digest, in the "simple signing" form."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return _json({"critical": critical, "optional": None})


def payload_digest(content: bytes) -> str:
    """The image's digest that a payload is about. Raises `TrustError`."""
    try:
        return str(json.loads(content)["critical"]["image"]["docker-manifest-digest"])
    except (ValueError, LookupError, TypeError) as error:
        raise TrustError("the signature is over something that is no image", "sign the image again") from error


def envelope(statement: bytes, key: PrivateKey) -> bytes:
    """A signed in-toto statement: a DSSE envelope."""
    signature = key.sign(_authenticated(STATEMENT, statement))
    return _json(
        {
            "payloadType": STATEMENT,
            "payload": _base64(statement),
            "signatures": [{"keyid": key.public.id, "sig": _base64(signature)}],
        }
    )


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What an envelope holds.

    Attributes:
        statement: the in-toto statement, as JSON.
        signed: whether a signature is the given key's.
        claims: whether a signature says that it is.

    """

    statement: dict[str, Any]
    signed: bool
    claims: bool


def opened(content: bytes, key: PublicKey) -> Opened:
    """An envelope's statement, and whether the key signed it. Raises `TrustError` for bytes that are no envelope."""
    try:
        outer = json.loads(content)
        body = base64.b64decode(outer["payload"], validate=True)
        statement = json.loads(body)
        signatures = [(entry.get("keyid", ""), base64.b64decode(entry["sig"])) for entry in outer["signatures"]]
        what = _authenticated(outer["payloadType"], body)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TrustError(
            "an attestation is no signed envelope", "attach it again with `invoke push --sign-key`"
        ) from error
    if not isinstance(statement, dict):
        raise TrustError("an attestation holds no statement", "attach it again with `invoke push --sign-key`")
    signed = any(key.verifies(signature, what) for _, signature in signatures)
    return Opened(statement=statement, signed=signed, claims=any(keyid == key.id for keyid, _ in signatures))


def unopened(content: bytes) -> dict[str, Any]:
    """An envelope's statement, whoever signed it. Raises `TrustError`."""
    try:
        statement = json.loads(base64.b64decode(json.loads(content)["payload"]))
    except (ValueError, LookupError, TypeError) as error:
        raise TrustError("an attestation is no signed envelope", "attach it again with `invoke push`") from error
    if not isinstance(statement, dict):
        raise TrustError("an attestation holds no statement", "attach it again with `invoke push`")
    return statement


def encoded(signature: bytes) -> str:
    """A signature as an annotation holds it."""
    return _base64(signature)


def decoded(annotation: str) -> bytes:
    """The signature in an annotation; no bytes for one that is damaged."""
    try:
        return base64.b64decode(annotation, validate=True)
    except ValueError:
        return b""


def _authenticated(kind: str, body: bytes) -> bytes:
    """What a DSSE signature is over: type and body with their lengths."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(body), body)


def _opened(pem: bytes, password: bytes) -> bytes:
    """The DER in cosign's private key file. Raises `ValueError` and the like for a wrong password or a damaged file."""
    from nacl.exceptions import CryptoError  # noqa: PLC0415 - start-up time
    from nacl.secret import SecretBox  # noqa: PLC0415

    document: Mapping[str, Any] = json.loads(base64.b64decode(b"".join(pem.strip().splitlines()[1:-1])))
    cost = document["kdf"]["params"]
    if (
        document["kdf"]["name"] != "scrypt"
        or document["cipher"]["name"] != "nacl/secretbox"
        or cost["N"] > LARGEST_SCRYPT
    ):
        raise ValueError(document["kdf"]["name"])
    secret = hashlib.scrypt(
        password,
        salt=base64.b64decode(document["kdf"]["salt"]),
        n=cost["N"],
        r=cost["r"],
        p=cost["p"],
        maxmem=2 * 128 * cost["N"] * cost["r"],
        dklen=SecretBox.KEY_SIZE,
    )
    nonce = base64.b64decode(document["cipher"]["nonce"])
    try:
        return SecretBox(secret).decrypt(base64.b64decode(document["ciphertext"]), nonce)
    except CryptoError as error:
        raise ValueError from error


def _needed(pem: bytes, password: Password) -> bytes | None:
    """The password, for a key that is encrypted: giving one for a key that is not would be an error."""
    return password().encode() if b"ENCRYPTED" in pem else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"the key {file} cannot be read: {error.strerror}", MAKE_ONE) from error


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

"""The commands that send an image to a registry, with all that is known of it, and fetch it back."""

from pathlib import Path

from invoke.context import Context

from images import config
from images.commands import common
from images.commands.common import as_json, command, image_of, readable, remote_of
from images.errors import UsageError


@command(
    help={
        "target": "the newest image of this target",
        "image": "an image by name",
        "registry": "HOST/PATH of the repository; the one in the image's name when left out",
        "tag": "the tag there; the image's own when left out",
        "sign-key": "sign with this private key: cosign's, or an ECDSA P-256 one in PEM; COSIGN_PASSWORD opens it",
        "unverified": "push an image whose gate did not pass; what is attached will say so",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def push(
    _context: Context,
    target: str = "",
    image: str = "",
    registry: str = "",
    tag: str = "",
    sign_key: str = "",
    unverified: bool = False,
    plain_http: bool = False,
    json: bool = False,
) -> None:
    """Push a verified image to a registry; attach SBOM, verdict and provenance to its digest, and sign it."""
    from images import engines, present, progress, remote, sign
    from images import push as pushing

    reference, settings = image_of(target, image), config.load()
    order = pushing.Order(
        image=reference,
        to=remote.destination(registry, tag, reference),
        key=sign.private_key(Path(sign_key)) if sign_key else None,
        unverified=unverified,
        plain_http=plain_http,
    )
    with progress.shown(quiet=json) as shown:
        done = pushing.run(order, engines.require(settings), settings, shown, common.DIST)
    print(as_json(done.pushed) if json else present.pushed(done))


@command(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "key": "a public key: nothing is pulled unless all holds against it",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def pull(_context: Context, image: str = "", key: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Bring an image from a registry by its digest, after a check against a key where one is named."""
    from images import engines, present, progress, sign, trust

    where, public = remote_of(image), sign.public_key(Path(key)) if key else None
    with progress.shown(quiet=json) as shown:
        known = trust.pull(where, public, engines.require(config.load()), shown, plain_http=plain_http)
    print(as_json(known) if json else present.known(known))


@command(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON, the attached statements included",
    }
)
@readable
def inspect(_context: Context, image: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Show what a registry knows of an image: labels, verdict, provenance, SBOM, signatures; no layer is read."""
    from images import present, trust

    known = trust.inspect(remote_of(image), plain_http=plain_http)
    print(as_json(known) if json else present.known(known))


@command(
    help={
        "image": "HOST/PATH@sha256:... or HOST/PATH:TAG",
        "key": "the public key that must have signed it",
        "plain-http": "talk to the registry without TLS; a loopback one needs no flag",
        "json": "print JSON",
    }
)
@readable
def verify(_context: Context, image: str, key: str = "", plain_http: bool = False, json: bool = False) -> None:
    """Check an image in a registry against a public key: signature, SBOM, provenance, and that its gate passed."""
    from images import present, sign, trust

    if not key:
        raise UsageError("no key was named", "add --key FILE: the public key that must have signed the image")
    where = remote_of(image)
    verified = trust.verify(where, sign.public_key(Path(key)), plain_http=plain_http)
    print(as_json(verified) if json else present.verified(verified))
    if error := trust.failure(verified):
        raise error

"""Signatures of bundles in the format of minisign, made with a secret key that no server has.

Checksums find a changed byte, but a user who can write to the registry can write new ones. A signature covers
bundle.json, which has the version and the checksum of every other file, and lies beside the folder of the version. A
server with the public key loads nothing else. It can still be made to load an earlier bundle that was signed, as the
choice of the champion is not.

https://jedisct1.github.io/minisign/
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import BundleError, ConfigError, first_line
from cxr_platform.registry.checksums import read_bytes
from cxr_platform.storage.files import write_atomically

if TYPE_CHECKING:
    from minisign import SecretKey

SUFFIX = ".minisig"
SECRET, PUBLIC = ".key", ".pub"
KEY_ADVICE = "Make a pair of keys with: cxr registry generate-key NAME, or with: minisign -G."


def signature_path(root: Path, version: str) -> Path:
    """Return the file of the signature of a version in the registry `root`."""
    return root / f"{version}{SUFFIX}"


def generate_keys(name: Path) -> tuple[Path, Path]:
    """Write a new secret and public key to NAME.key and NAME.pub, and return the two paths.

    The secret key has no password. Raises `ConfigError` if one of the files exists.
    """
    from minisign import KeyPair

    pair = KeyPair.generate()
    paths = name.with_name(f"{name.name}{SECRET}"), name.with_name(f"{name.name}{PUBLIC}")
    for path, content, mode in ((paths[0], bytes(pair.secret_key), 0o600), (paths[1], bytes(pair.public_key), 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
                file.write(content + b"\n")
        except FileExistsError as error:
            raise ConfigError(f"Expected no file at {path}.", received="one, which is kept") from error
    return paths


def read_secret_key(path: Path, password: str | None) -> "SecretKey":
    """Return the secret key in a file; raise `ConfigError` if it is none, or if `password` does not open it."""
    from minisign import Error, ParseError, SecretKey

    try:
        key = SecretKey.from_bytes(path.read_bytes())
        if key.is_encrypted():
            key.decrypt(password or "")
    except (OSError, Error, ParseError, ValueError) as error:
        raise ConfigError(
            f"Expected a secret key of minisign in {path}, and its password.",
            received=first_line(error),
            advice=KEY_ADVICE,
        ) from error
    return key


def read_public_key(text: str) -> str:
    """Return the public key (RW…) that `text` is, or that the file which it names holds; raise `ConfigError`."""
    from minisign import ParseError, PublicKey

    try:
        is_key = text.startswith("RW")
        key = PublicKey.from_base64(text) if is_key else PublicKey.from_bytes(Path(text).read_bytes())
        return str(key.to_base64().decode())
    except (OSError, ParseError, ValueError) as error:
        raise ConfigError(
            f"Expected a public key of minisign: RW… or a file, not {text}.",
            received=first_line(error),
            advice=KEY_ADVICE,
        ) from error


def write_signature(root: Path, version: str, description: bytes, key: "SecretKey") -> Path:
    """Sign the bundle.json `description` of a version, and return the file of the signature."""
    path = signature_path(root, version)
    write_atomically(path, bytes(key.sign(description, trusted_comment=f"cxr bundle {version}")) + b"\n")
    return path


def check_signature(root: Path, version: str, description: bytes, public_key: str) -> None:
    """Raise `BundleError` unless the bundle.json `description` of a version is signed by the owner of `public_key`."""
    from minisign import ParseError, PublicKey, Signature, VerifyError

    path = signature_path(root, version)
    try:
        signature = Signature.from_bytes(read_bytes(path, BundleError))
        PublicKey.from_base64(public_key).verify(description, signature)
    except (BundleError, ParseError, VerifyError, ValueError) as error:
        raise BundleError(
            f"Expected in {path} a signature of {version} by the owner of the public key {public_key}.",
            received=error.received if isinstance(error, BundleError) else first_line(error),
            advice="Sign the version with: cxr registry sign VERSION --secret-key FILE.",
        ) from error

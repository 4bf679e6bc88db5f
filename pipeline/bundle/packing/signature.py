"""Sign a bundle's folder with a private key, and verify it with the public one; offline, by model-signing."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.issues import InputError

SIGNATURE = "model.sig"


def require_signing() -> Any:
    """Return the package model-signing.

    Raises:
        InputError: it is not installed.
    """
    try:
        import model_signing.signing
        import model_signing.verifying

        return model_signing
    except ImportError as error:
        hint = 'type python -m pip install "model-signing>=1.1,<2" "pyopenssl>=24"'
        raise InputError(f"signatures need model-signing, which is not installed ({error}); {hint}") from None


def sign_folder(folder: Path, key: Path) -> bytes:
    """Return the signature of all files in a folder.

    Args:
        folder: of a bundle.
        key: private elliptic-curve key without password, in PEM.

    Raises:
        InputError: the key cannot be used.
    """
    signing = require_signing().signing
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / SIGNATURE
        try:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, target)
        except Exception as error:  # OSError, ValueError, TypeError, UnsupportedAlgorithm, by the fault of the key
            hint = "make a pair: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
            raise InputError(f"--sign: {key} is not a private key that can sign: {error}; {hint}") from error
        return target.read_bytes()


def verify_folder(folder: Path, key: Path, ignored: Iterable[str] = ()) -> None:
    """Verify that a folder's files are those that the owner of a key signed.

    Args:
        folder: of a bundle, with the signature in it.
        key: the sender's public key, in PEM.
        ignored: paths of files that were not signed.

    Raises:
        InputError: there is no signature, it is of another key, or files differ.
    """
    package = require_signing()
    folder = folder.resolve()  # model-signing compares paths to ignore with absolute ones
    signature = folder / SIGNATURE
    if not signature.is_file():
        raise InputError(f"--key: {folder.name} is not signed: there is no {SIGNATURE}; ask the sender to sign it")
    if not key.is_file():
        raise InputError(f"--key: there is no file {key}; expected the sender's public key, in PEM")
    unsigned = [folder / path for path in (SIGNATURE, *ignored)]
    hashing = package.hashing.Config().set_ignored_paths(paths=unsigned, ignore_git_paths=False)
    try:
        verifier = package.verifying.Config().use_elliptic_key_verifier(public_key=key)
        verifier.set_hashing_config(hashing).verify(folder, signature)
    except Exception as error:  # ValueError, InvalidSignature, OSError ... by what is wrong
        why = str(error) or type(error).__name__
        raise InputError(f"--key: the signature is not that of {key} for these files: {why}; ask the sender") from error

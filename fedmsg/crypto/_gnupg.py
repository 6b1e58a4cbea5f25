# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports python-gnupg: the GnuPG program, run without a shell and without temporary files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import gnupg

__all__ = ["Failure", "ready", "sign", "verify"]

# A message must not make GnuPG fetch or import keys, whatever its configuration says.
_OPTIONS = ["--no-auto-key-retrieve", "--no-auto-key-locate", "--no-auto-check-trustdb"]
_DIGEST = "SHA256"


class Failure(Exception):
    """GnuPG says no; the text is what it printed."""


@lru_cache(maxsize=16)
def _program(homedir: str, keyrings: tuple[str, ...]) -> gnupg.GPG:
    """Set up GnuPG for a home and keyrings; it is run once for that, to see that it is there."""
    try:
        return gnupg.GPG(gnupghome=homedir, keyring=list(keyrings) or None, options=_OPTIONS)
    except (OSError, ValueError) as error:
        raise Failure(f"GnuPG can't be used with {homedir}: {error}") from error


def ready(homedir: str) -> None:
    """See that GnuPG can be used with a home.

    Raises:
        Failure: It can't.
    """
    _program(homedir, ())


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give a path from which another program can read, without a file that could be left behind."""
    descriptor = os.memfd_create("fedmsg")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)


def verify(
    data: bytes | str, signature: bytes | str | None, homedir: str, keyrings: Sequence[str] = ()
) -> tuple[str, ...]:
    """Check a signature.

    Args:
        data: What was signed: bytes, or the path of a file as text.
        signature: The detached signature: bytes or a path; None where data is a signed document.
        homedir: GnuPG's home.
        keyrings: Files with public keys, instead of those in the home.

    Returns:
        The fingerprints of the key that signed: its own, and that of the key it belongs to.

    Raises:
        Failure: It is not right.
    """
    program = _program(homedir, tuple(keyrings))
    if isinstance(data, str):
        with open(data, "rb") as file:
            data = file.read()
    if signature is None:
        found = program.verify_file(io.BytesIO(data))
    elif isinstance(signature, str):
        found = program.verify_data(os.path.abspath(signature), data)
    else:
        with _in_memory(signature) as path:
            found = program.verify_data(path, data)
    # With several signatures one of them may be good; GnuPG's own status is 0 only if all are.
    if not found.valid or found.returncode != 0:
        raise Failure(found.stderr.strip() or "gpg: no valid signature")
    return tuple(filter(None, (found.fingerprint, found.pubkey_fingerprint)))


def sign(data: bytes, fingerprint: str, homedir: str, keyrings: Sequence[str] = (), *, clear: bool = False) -> bytes:
    """Sign data.

    Args:
        data: What to sign.
        fingerprint: Which key to use.
        homedir: GnuPG's home, which has the key.
        keyrings: Files with public keys, instead of those in the home.
        clear: Whether text with the signature around it is wanted, instead of a detached one.

    Returns:
        The binary detached signature, or the signed text.

    Raises:
        Failure: It can't be made.
    """
    program = _program(homedir, tuple(keyrings))
    # Not as its keyid: that becomes --default-key, instead of which GnuPG may take another key.
    which = ["--local-user", fingerprint, "--digest-algo", _DIGEST]
    made = program.sign(data, detach=not clear, clearsign=clear, binary=not clear, extra_args=which)
    if not made.data or made.returncode != 0:
        raise Failure(made.stderr.strip() or "gpg: nothing was signed")
    return bytes(made.data)

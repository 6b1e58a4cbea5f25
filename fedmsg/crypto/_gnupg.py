# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports python-gnupg: the GnuPG program, run without a shell and without temporary files.

Each run has a deadline and a limit of CPU time, is killed with all that it started when it exceeds one,
and ends when this process does.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import gnupg

__all__ = ["Failure", "ready", "sign", "verify"]

# The library logs each signature that is wrong; what is to be logged is in our errors.
logging.getLogger(gnupg.__name__).setLevel(logging.CRITICAL)

# A message must not make GnuPG fetch or import keys, whatever its configuration is.
_OPTIONS = ["--no-auto-key-retrieve", "--no-auto-key-locate", "--no-auto-check-trustdb"]
_DIGEST = "SHA256"
# A signature is checked in milliseconds; to sign may take a password prompt or a smart card.
VERIFY_TIMEOUT_S = 5.0
SIGN_TIMEOUT_S = 30.0
_CPU_LIMIT_S = 4


class Failure(Exception):
    """GnuPG reports an error; the text is what it printed."""


@functools.cache
def _launcher() -> list[str]:
    """Return the command that lets GnuPG end with this process, where util-linux is installed."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL", "--"] if found else []


class _Run(threading.local):
    """The process that a thread waits for."""

    process: subprocess.Popen[bytes] | None = None
    started = 0


_run = _Run()


class _Program(gnupg.GPG):  # type: ignore[misc] # the library has no types
    """GnuPG with limits: the library offers no way to set them, so this starts the process in its place."""

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        command = [*_launcher(), *self.make_args(args, passphrase)]
        # A session of its own, so that what GnuPG starts is killed with it.
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=self.env, start_new_session=True)
        _run.process = process
        _run.started += 1
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S + 1))
        return process


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Kill and reap the process that this thread starts, when it has not ended in time or by an exception.

    Raises:
        Failure: It has not ended in time.
    """
    before = _run.started
    late = False
    _run.process = None
    # The timer runs in a thread of its own, which can't see this thread's variables.
    holder = _run.__dict__

    def expire() -> None:
        nonlocal late
        process = holder.get("process")
        if process is not None and process.poll() is None:
            late = True
            _kill(process)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late:
            raise Failure(f"gpg: no answer in {seconds:g} s, killed") from error
        raise
    finally:
        timer.cancel()
        process = holder.pop("process", None)
        if process is not None and process.poll() is None:
            _kill(process)
            process.wait()
    if late:
        raise Failure(f"gpg: no answer in {seconds:g} s, killed")
    if _run.started == before:
        raise Failure("python-gnupg starts GnuPG without the limits that are needed: use another version of it")


def _kill(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@lru_cache(maxsize=16)
def _program(homedir: str, keyrings: tuple[str, ...]) -> gnupg.GPG:
    """Set up GnuPG for a home and keyrings; it is run once for that, to check that it is there."""
    try:
        with _deadline(VERIFY_TIMEOUT_S):
            return _Program(gnupghome=homedir, keyring=list(keyrings) or None, options=_OPTIONS)
    except (OSError, ValueError) as error:
        raise Failure(f"GnuPG can't be used with {homedir}: {error}") from error


def ready(homedir: str) -> None:
    """Check that GnuPG can be used with a home.

    Raises:
        Failure: It can't.
    """
    _program(homedir, ())


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Return a path from which another program can read, without a file that could be left behind."""
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
        Failure: It is not right, or was not checked in time.
    """
    program = _program(homedir, tuple(keyrings))
    if isinstance(data, str):
        with open(data, "rb") as file:
            data = file.read()
    with _deadline(VERIFY_TIMEOUT_S):
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

    Raises:
        Failure: It can't be made, or not in time.
    """
    program = _program(homedir, tuple(keyrings))
    # Not as its keyid: that becomes --default-key, instead of which GnuPG may take another key.
    which = ["--local-user", fingerprint, "--digest-algo", _DIGEST]
    with _deadline(SIGN_TIMEOUT_S):
        made = program.sign(data, detach=not clear, clearsign=clear, binary=not clear, extra_args=which)
    if not made.data or made.returncode != 0:
        raise Failure(made.stderr.strip() or "gpg: nothing was signed")
    return bytes(made.data)

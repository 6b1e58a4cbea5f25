# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key and certificate that a program signs with: read once, and again when the files are replaced."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fedmsg._util import files, plugins
from fedmsg.crypto._credentials import Rejected, wrapped
from fedmsg.exceptions import RefusedAtStart

if TYPE_CHECKING:
    from fedmsg.crypto._cryptography import Key

__all__ = ["KeyPair", "key_pair"]

log = logging.getLogger("fedmsg.crypto")

_CHECK_EVERY_S = 1.0
_OTHERS = 0o007


class KeyPair(NamedTuple):
    """A private key, and its certificate in the form on the wire."""

    key: Key
    certificate: str


class _Watched:
    """A private key with its certificate, from ``<ssldir>/<certname>.key`` and ``.crt``.

    Raises:
        RefusedAtStart: They can't be used.
    """

    def __init__(self, ssldir: str, certname: str) -> None:
        self._paths = [Path(ssldir, certname + suffix) for suffix in (".key", ".crt")]
        self._next_check = 0.0
        self._reported = ""
        self._stamps = [_stamp(path) for path in self._paths]
        self._pair = self._read()

    def current(self) -> KeyPair:
        """Return the pair; the files are checked once a second, and read when they have been replaced.

        While the new ones can't be used, such as between the replacing of one and of the
        other, the last good ones are.
        """
        now = time.monotonic()
        if now < self._next_check:
            return self._pair
        self._next_check = now + _CHECK_EVERY_S
        try:
            stamps = [_stamp(path) for path in self._paths]
            if stamps != self._stamps:
                # The whole pair at once, for threads share it.
                self._pair, self._stamps = self._read(), stamps
                log.info("signing with the new key and certificate in %s", self._paths[1])
        except RefusedAtStart as error:
            if self._reported != str(error):
                self._reported = str(error)
                log.warning("still signing with the previous key: %s", error)
        return self._pair

    def _read(self) -> KeyPair:
        library = plugins.lazy("x509")
        key_path, certificate_path = self._paths
        where = key_path
        try:
            key: Key = library.Key.load(key_path.read_bytes())
            where = certificate_path
            pem, expires = library.find_own(certificate_path.read_text("utf-8"), key)
        except Rejected as error:
            raise RefusedAtStart(f"can't sign with {where}: {error}") from error
        except UnicodeDecodeError as error:
            raise RefusedAtStart(f"can't sign with {where}: it is not text") from error
        except OSError as error:
            raise RefusedAtStart(f"can't sign with {where}: {error.strerror}") from error
        if os.stat(key_path).st_mode & _OTHERS:
            log.warning("other users can read the key %s: chmod 0600 it, and consider a new key", key_path)
        if expires < time.time():
            log.warning("the certificate %s has expired: no receiver accepts what is signed with it", certificate_path)
        return KeyPair(key, wrapped(pem.encode()))


def _stamp(path: Path) -> files.Stamp:
    try:
        return files.stamp(path)
    except OSError as error:
        raise RefusedAtStart(f"can't sign with {path}: {error.strerror}") from error


_pairs: dict[tuple[str, str], _Watched] = {}


def key_pair(ssldir: str, certname: str) -> KeyPair:
    """Return a key with its certificate, as the files are now.

    Raises:
        RefusedAtStart: They can't be used.
    """
    found = _pairs.get((ssldir, certname))
    if found is None:
        found = _pairs[ssldir, certname] = _Watched(ssldir, certname)
    return found.current()

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the ways of signing have in common: certificates of authorities, the routing policy."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedmsg._util import files, plugins
from fedmsg.config import settings
from fedmsg.crypto._credentials import Rejected
from fedmsg.exceptions import ConfigError

__all__ = ["check_policy", "fix_datagrepper_message", "load_certificates", "remember_copies", "validate_policy"]

_log = logging.getLogger(__name__)

#: The texts in use, by the locations of CA and CRL put together.
_cached_certificates: dict[str, tuple[str, str | None]] = {}

# Files are checked once a second, and read when they have changed. After a failed check all is read
# afresh, but not for every forged message.
_CHECK_EVERY_S = 1.0
_AFRESH_EVERY_S = 60.0
# For the whole of a request, from the connection to the last byte.
_FETCH_TIMEOUT_S = 20.0
# A bus with thousands of certificates has a CRL of a few hundred kilobytes.
_MAX_BYTES = 64 * 1024 * 1024


# ---------------------------------------------------------------- CA and CRL


class _Copy(NamedTuple):
    """How long a fetched text is used, and the file with its last good copy."""

    expiry: float = 60.0
    path: str | None = None

    def read(self, *, young: bool) -> str | None:
        """Return the copy, if there is one; with ``young`` only one that has not expired."""
        try:
            if self.path and (not young or time.time() - os.stat(self.path).st_mtime < self.expiry):
                return Path(self.path).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None  # there is none yet, or the file is damaged
        return None

    def write(self, text: str) -> None:
        """Write the copy, where a path is configured; an error is logged."""
        if self.path:
            try:
                files.replace(self.path, text.encode("ascii"), mode=0o644)
            except OSError as error:
                _log.warning("can't keep a copy in %s: %s", self.path, error.strerror)


class _File:
    """A file, and what was last read from it."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._text: str | None = None
        self._stamp: files.Stamp | None = None

    def read(self, *, afresh: bool) -> str:
        """Return the text, read again when it may have changed."""
        # Taken before the reading, so that a change in between is seen the next time.
        now = files.stamp(self._location)
        if self._text is None or afresh or now != self._stamp:
            self._text, self._stamp = _load_certificate(self._location), now
        return self._text


class _Site:
    """An https address, and what was last fetched from it.

    Only the first text is waited for. From then on a thread fetches the next one, while the last good
    one is in use: a web server that does not answer holds up no message.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._text: str | None = None
        self._failure: OSError | None = None
        self._due = 0.0
        self._thread: threading.Thread | None = None

    @property
    def _copy(self) -> _Copy:
        return _copies.get(self._location, _Copy())

    def read(self, *, afresh: bool) -> str:
        """Return the last good text, and fetch the next one in the background when it is due.

        Raises:
            OSError: There is none yet.
        """
        if self._text is None and self._failure is None:
            self._text = self._copy.read(young=True)
            self._due = time.monotonic() + self._copy.expiry
            if self._text is None:
                self._fetch()
        elif afresh or time.monotonic() >= self._due:
            self._start()
        if self._text is None:
            raise self._failure or OSError(f"{self._location} was not fetched yet")
        return self._text

    def _start(self) -> None:
        # After a fork there is no such thread in the child, which this is aware of.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._fetch, name="fedmsg-certificates", daemon=True)
            self._thread.start()

    def _fetch(self) -> None:
        """Fetch the text, or fall back on the last good one."""
        copy = self._copy
        # After a failure too: a server that is down is not asked for every message.
        self._due = time.monotonic() + copy.expiry
        try:
            text = _load_certificate(self._location)
        except (OSError, ValueError) as error:
            last = self._text or copy.read(young=False)
            self._text = last
            self._failure = error if isinstance(error, OSError) else OSError(f"{self._location}: {error}")
            if last is not None:
                _log.warning("using the last good copy of %s: %s", self._location, error)
        else:
            copy.write(text)
            self._text = text


class _Pair:
    """The locations that are used together, and when to check them again."""

    def __init__(self, ca: str, crl: str | None) -> None:
        self._sources = [_Site(one) if one.startswith("https:") else _File(one) for one in (ca, crl) if one]
        self.next_check = 0.0
        self.afresh_from = 0.0
        self.failure: OSError | None = None

    def read(self, *, afresh: bool) -> tuple[str, str | None]:
        """Return both texts."""
        ca, *crl = [source.read(afresh=afresh) for source in self._sources]
        return ca, crl[0] if crl else None


_pairs: dict[str, _Pair] = {}
_copies: dict[str, _Copy] = {}


def remember_copies(config: Mapping[str, Any]) -> None:
    """Register where copies of https locations are kept, and try again those that could not be read before.

    That is configured by ``ca_cert_cache``, ``crl_cache`` and their expiry.
    """
    for what, key in (("ca_cert", "ca_cert_location"), ("crl", "crl_location")):
        location = config.get(key)
        if location and location.startswith("https:"):
            expiry = float(settings.get(config, f"{what}_cache_expiry") or _Copy().expiry)
            _copies[location] = _Copy(expiry, settings.get(config, f"{what}_cache"))
    for key in [key for key in _pairs if key not in _cached_certificates]:
        _pairs.pop(key, None)


def load_certificates(
    ca_location: str, crl_location: str | None = None, invalidate_cache: bool = False
) -> tuple[str, str | None]:
    """Return the certificates of the authorities and the lists of revoked ones, as they are now.

    While there is nothing new that can be read, the last good texts stay in use.

    Args:
        ca_location: An absolute path, or an https address.
        crl_location: The same, or None.
        invalidate_cache: Whether to read files afresh now, and https addresses in the background; after
            the first time this is done once a minute at most.

    Raises:
        IOError: They can't be read, and never could.
    """
    key = ca_location + (crl_location or "")
    cached, pair, now = _cached_certificates.get(key), _pairs.get(key), time.monotonic()
    if pair is not None and now < (pair.afresh_from if invalidate_cache else pair.next_check):
        if cached is not None:
            return cached
        if pair.failure is not None:
            raise pair.failure
    if pair is None or (cached is None and pair.failure is None):
        pair = _pairs[key] = _Pair(ca_location, crl_location)
        invalidate_cache = False  # nothing is fresher than a first reading
    pair.next_check = now + _CHECK_EVERY_S
    if invalidate_cache:
        pair.afresh_from = now + _AFRESH_EVERY_S
    try:
        texts = pair.read(afresh=invalidate_cache)
    except OSError as error:
        is_known, pair.failure = str(error) == str(pair.failure), error
        if cached is None:
            raise
        if not is_known:
            _log.warning("using the last good certificates and CRL: %s", error)
        return cached
    pair.failure = None
    # The very same object while it is the same: what was made of it is found by it.
    if texts != cached:
        cached = _cached_certificates[key] = texts
    return cached


def _load_certificate(location: str) -> str:
    """Read one location.

    Raises:
        IOError: It can't be read, is not ASCII, or is neither an absolute path nor an https address.
    """
    if location.startswith("https:"):
        text: str = plugins.lazy("fetch").get_text(location, timeout=_FETCH_TIMEOUT_S, largest=_MAX_BYTES)
    elif os.path.isabs(location):
        text = Path(location).read_bytes().decode("latin-1")
    else:
        raise OSError(f"{location!r} is neither an absolute path nor an https address")
    if not text.isascii():
        raise OSError(f"{location} is not ASCII text: write certificates in PEM form")
    return text


# ---------------------------------------------------------------- the routing policy


def validate_policy(
    topic: str | None, signer: str | None, routing_policy: Mapping[str, Collection[str]], nitpicky: bool = False
) -> bool:
    """Return whether a signer may send under a topic.

    Args:
        topic: The topic of the message.
        signer: The common name of the certificate.
        routing_policy: Topics, and the signers that may send under each.
        nitpicky: Whether a topic that is not in the policy is rejected.

    Raises:
        ConfigError: The policy has text instead of a list for the topic. A ValueError.
    """
    if topic is None or topic not in routing_policy:
        return not nitpicky
    allowed = routing_policy[topic]
    if isinstance(allowed, str | bytes):
        # A part of a name would be found in it.
        raise ConfigError(f"routing_policy has {allowed!r} for {topic!r}: write a list of names, [{allowed!r}]")
    return signer in allowed


def check_policy(topic: Any, signers: Sequence[str | None], config: Mapping[str, Any]) -> None:
    """Check by ``routing_policy`` and ``routing_nitpicky`` that one of the names of a signer may send under a topic.

    Raises:
        Rejected: It may not.
        ConfigError: The policy can't be read. A ValueError.
    """
    if topic is not None and not isinstance(topic, str):
        raise Rejected("policy", "its topic is not text")
    policy, nitpicky = config.get("routing_policy") or {}, bool(config.get("routing_nitpicky"))
    for signer in signers:
        if validate_policy(topic, signer, policy, nitpicky):
            return
    raise Rejected("policy", f"{signers[0]!r} may not send under the topic {topic!r}")


# ---------------------------------------------------------------- messages from history


# Columns of a history that are null where the message did not have the key.
_NULL_WHEN_MISSING = ("certificate", "crypto", "i", "signature", "username")


def fix_datagrepper_message(message: dict[str, Any]) -> dict[str, Any]:
    """Remove what datagrepper adds to a message, so that its signature can be checked.

    Only what came from a datagrepper is to be passed through this: on the bus a message is checked as it is.

    Args:
        message: A message, perhaps from datagrepper.

    Returns:
        The very message, or a copy without the additions when it came from there.
    """
    if "source_name" not in message or "source_version" not in message:
        return message
    fixed = {key: value for key, value in message.items() if key not in {"source_name", "source_version"}}
    if not fixed.get("headers", True):
        del fixed["headers"]
    for key in _NULL_WHEN_MISSING:
        if key in fixed and fixed[key] is None:
            del fixed[key]
    timestamp = fixed.get("timestamp")
    # One that was published with a fraction was signed with it.
    if "timestamp" in fixed and not (isinstance(timestamp, float) and timestamp % 1 > 0):
        fixed["timestamp"] = int(fixed["timestamp"])
    return fixed

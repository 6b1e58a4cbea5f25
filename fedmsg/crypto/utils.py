# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the ways of signing have in common: certificates of authorities, the routing policy."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedmsg._util import files, plugins
from fedmsg.config import settings

__all__ = ["fix_datagrepper_message", "load_certificates", "remember_copies", "validate_policy"]

_log = logging.getLogger(__name__)

#: The texts in use, by the locations of CA and CRL put together.
_cached_certificates: dict[str, tuple[str, str | None]] = {}

# Files are looked at once a second, and read when they have changed. After a failed check
# all is read afresh, but not for every forged message that somebody cares to send.
_LOOK_EVERY = 1.0
_AFRESH_EVERY = 60.0


class _Copy(NamedTuple):
    """How long what was fetched is used, and in which file the last good copy is kept."""

    expiry: float = 60.0
    path: str | None = None

    def read(self, *, young: bool) -> str | None:
        """Give the kept copy, if there is one; with ``young`` only one that has not expired."""
        try:
            if self.path and (not young or time.time() - os.stat(self.path).st_mtime < self.expiry):
                return Path(self.path).read_text(encoding="ascii")
        except OSError:
            return None  # nothing was kept yet
        return None

    def keep(self, text: str) -> None:
        """Keep a copy for the time when it can't be fetched."""
        if self.path:
            try:
                files.replace(self.path, text.encode("ascii"), mode=0o644)
            except OSError as error:
                _log.warning("can't keep a copy in %s: %s", self.path, error.strerror)


class _Source:
    """A file or an https address, and what was last read from it."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._text: str | None = None
        self._stamp: files.Stamp | None = None
        self._due = 0.0

    def read(self, *, afresh: bool) -> str:
        """Give the text, read again when it may have changed."""
        if self.location.startswith("https:"):
            return self._fetch(afresh=afresh)
        # Taken before the reading, so that a change in between is seen the next time.
        now = files.stamp(self.location)
        if self._text is None or afresh or now != self._stamp:
            self._text, self._stamp = _load_certificate(self.location), now
        return self._text

    def _fetch(self, *, afresh: bool) -> str:
        copy, now = _copies.get(self.location, _Copy()), time.monotonic()
        if self._text is not None and not afresh and now < self._due:
            return self._text
        # After a failure too: a server that is down is not asked for every message.
        self._due = now + copy.expiry
        if self._text is None and not afresh:
            self._text = copy.read(young=True)
            if self._text is not None:
                return self._text
        try:
            text = _load_certificate(self.location)
        except (OSError, ValueError) as error:
            kept = self._text or copy.read(young=False)
            if kept is None:
                raise
            _log.warning("using the last good copy of %s: %s", self.location, error)
            self._text = kept
        else:
            copy.keep(text)
            self._text = text
        return self._text


class _Pair:
    """The locations that are used together, and when to look at them again."""

    def __init__(self, ca: str, crl: str | None) -> None:
        self.ca = _Source(ca)
        self.crl = _Source(crl) if crl else None
        self.next_look = 0.0
        self.afresh_from = 0.0

    def read(self, *, afresh: bool) -> tuple[str, str | None]:
        """Give both texts."""
        return self.ca.read(afresh=afresh), self.crl.read(afresh=afresh) if self.crl else None


_pairs: dict[str, _Pair] = {}
_copies: dict[str, _Copy] = {}


def remember_copies(config: Mapping[str, Any]) -> None:
    """Note how copies of https locations are to be kept.

    Args:
        config: The configuration, for ``ca_cert_cache``, ``crl_cache`` and their expiry.
    """
    for what, key in (("ca_cert", "ca_cert_location"), ("crl", "crl_location")):
        location = config.get(key)
        if location and location.startswith("https:"):
            expiry = float(settings.get(config, f"{what}_cache_expiry") or _Copy().expiry)
            _copies[location] = _Copy(expiry, settings.get(config, f"{what}_cache"))


def load_certificates(
    ca_location: str, crl_location: str | None = None, invalidate_cache: bool = False
) -> tuple[str, str | None]:
    """Give the certificates of the authorities and the lists of revoked ones, as they are now.

    While there is nothing new that can be read, the last good texts stay in use.

    Args:
        ca_location: An absolute path, or an https address.
        crl_location: The same for the lists of revoked certificates; None for none.
        invalidate_cache: Whether to read all of it afresh; done once a minute at most.

    Returns:
        Two PEM texts, the second one None without a location.

    Raises:
        IOError: There is nothing to be read. The errors of the library ``requests`` are IOErrors too.
    """
    key = ca_location + (crl_location or "")
    cached, pair, now = _cached_certificates.get(key), _pairs.get(key), time.monotonic()
    if cached is None or pair is None:
        pair = _pairs[key] = _Pair(ca_location, crl_location)
        invalidate_cache = False  # nothing is fresher than a first reading
    elif now < (pair.afresh_from if invalidate_cache else pair.next_look):
        return cached
    pair.next_look = now + _LOOK_EVERY
    if invalidate_cache:
        pair.afresh_from = now + _AFRESH_EVERY
    try:
        texts = pair.read(afresh=invalidate_cache)
    except OSError as error:
        if cached is None:
            raise
        _log.warning("using the last good certificates and CRL: %s", error)
        return cached
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
        content = plugins.lazy("fetch").fetch(location)
    elif os.path.isabs(location):
        content = Path(location).read_bytes()
    else:
        raise OSError(f"{location!r} is neither an absolute path nor an https address")
    try:
        text: str = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise OSError(f"{location} is not ASCII text: write certificates in PEM form") from error
    return text


def validate_policy(
    topic: str, signer: str | None, routing_policy: Mapping[str, Container[str]], nitpicky: bool = False
) -> bool:
    """Answer whether a signer may send under a topic.

    Args:
        topic: The topic of the message.
        signer: The common name of the certificate.
        routing_policy: Topics, and who may send under each.
        nitpicky: Whether a topic that is not in the policy is refused.
    """
    if topic in routing_policy:
        return signer in routing_policy[topic]
    return not nitpicky


def fix_datagrepper_message(message: dict[str, Any]) -> dict[str, Any]:
    """Take off what datagrepper adds to a message, so that its signature can be checked.

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
    if "timestamp" in fixed:
        fixed["timestamp"] = int(fixed["timestamp"])
    return fixed

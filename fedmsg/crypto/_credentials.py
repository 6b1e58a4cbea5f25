# SPDX-License-Identifier: LGPL-2.1-or-later
"""The signature and certificate of a message: what is signed, how they are written, why they are rejected."""

from __future__ import annotations

import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fedmsg import encoding
from fedmsg._util.ratelimit import RateLimitedLog

__all__ = ["CREDENTIALS", "Rejected", "canonical", "covered", "rejections", "report", "signed", "strip", "text_of",
           "unwrapped", "wrapped"]  # fmt: skip

log = logging.getLogger("fedmsg.crypto")

CREDENTIALS = ("signature", "certificate")
# The forms of fedmsg 1.1.7.
_BARE = frozenset({"x509", "gpg"})
# Real certificates have 2,000 characters and signatures 700; what is longer is not decoded at all.
_MAX_CHARACTERS = {"certificate": 64 * 1024, "signature": 8 * 1024}
# A thousand rejected messages, whatever is wrong with each, write less than 2 KB.
_LOG_LINES = 5
#: Counts rejected messages by reason, and logs some of them.
rejections = RateLimitedLog(log, burst=_LOG_LINES)


class Rejected(Exception):
    """A message, certificate or key that is not accepted."""

    def __init__(self, kind: str, reason: str, *, curable: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.curable = curable


def report(error: Rejected) -> None:
    """Count a rejected message by its reason, and log it unless there were too many like it."""
    rejections.report(error.kind, f"message is not valid: {error}")


# ---------------------------------------------------------------- what is signed


def strip(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message without ``signature`` and ``certificate``."""
    stripped = dict(message)
    for key in CREDENTIALS:
        stripped.pop(key, None)
    return stripped


def signed(
    message: Mapping[str, Any],
    form: str,
    config: Mapping[str, Any],
    credentials: Callable[[str, Mapping[str, Any], bytes], dict[str, str]],
) -> dict[str, Any]:
    """Return a copy of a message with ``crypto`` and new credentials."""
    unsigned = {**strip(message), "crypto": form}
    data = encoding.canonical(unsigned["msg"] if form == "gpg" else unsigned).encode()
    return {**unsigned, **credentials(form, config, data)}


def covered(form: str, data: bytes) -> bytes:
    """Return what a signature is made over.

    The forms of fedmsg 1.1.7 sign JSON alone. The newer ones put their name in front of it, which no
    JSON begins with: so a signature of one form can't be passed off as one of another.
    """
    return data if form in _BARE else f"fedmsg {form}\n".encode() + data


def canonical(what: Any) -> bytes:
    """Return the canonical JSON of what was signed.

    Raises:
        Rejected: It can't be written as JSON.
    """
    try:
        return encoding.dumps(what).encode()
    except (TypeError, ValueError) as error:
        raise Rejected("encoding", f"it can't be written as JSON: {error}") from error


# ---------------------------------------------------------------- how they are written


def text_of(message: Mapping[str, Any], key: str, complaints: logging.Logger) -> str:
    """Return the signature or certificate of a message as text.

    Raises:
        Rejected: There is none, or it is far too long.
    """
    value = message.get(key)
    if isinstance(value, bytes):
        complaints.error("msg[%r] is not a unicode string", key)
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise Rejected(key, f"its {key} is not UTF-8") from error
    if not isinstance(value, str):
        raise Rejected(key, f"it has no {key}")
    if len(value) > _MAX_CHARACTERS[key]:
        raise Rejected(key, f"its {key} has more than {_MAX_CHARACTERS[key]} characters")
    return value


def wrapped(raw: bytes) -> str:
    """Return bytes as base64 with a newline after every 76 characters and at the end."""
    # 57 bytes become 76 characters.
    return "".join(binascii.b2a_base64(raw[start : start + 57]).decode() for start in range(0, len(raw), 57))


def unwrapped(text: str, what: str) -> bytes:
    """Return the bytes of base64 text.

    There is one way to write them, apart from newlines: what decoders of base64 tolerate (other
    characters, superfluous bits) would let a signature be altered without being broken.

    Raises:
        Rejected: It is not base64.
    """
    try:
        raw = binascii.a2b_base64(text)
    except ValueError as error:
        raise Rejected(what, f"its {what} is not base64") from error
    if binascii.b2a_base64(raw, newline=False).decode() != text.replace("\n", ""):
        raise Rejected(what, f"its {what} is not proper base64")
    return raw

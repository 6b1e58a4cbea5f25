# SPDX-License-Identifier: LGPL-2.1-or-later
"""Base64 as it stands in messages."""

from __future__ import annotations

import binascii

from fedmsg.crypto._refused import Refused

__all__ = ["unwrapped", "wrapped"]


def wrapped(raw: bytes) -> str:
    """Give bytes as base64 with a newline after every 76 characters and at the end."""
    # 57 bytes become 76 characters.
    return "".join(binascii.b2a_base64(raw[start : start + 57]).decode() for start in range(0, len(raw), 57))


def unwrapped(text: str, what: str) -> bytes:
    """Give the bytes of base64 text.

    There is one way to write them, apart from newlines: what decoders of base64 forgive (other
    characters, superfluous bits) would let a signature be altered without being broken.

    Args:
        text: The text.
        what: What it is, for an error.

    Raises:
        Refused: It is not base64.
    """
    try:
        raw = binascii.a2b_base64(text)
    except ValueError as error:
        raise Refused(what, f"its {what} is not base64") from error
    if binascii.b2a_base64(raw, newline=False).decode() != text.replace("\n", ""):
        raise Refused(what, f"its {what} is not proper base64")
    return raw

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts that a column of a database can hold, of texts that may hold anything."""

from __future__ import annotations

import hashlib
import re
from typing import Any

__all__ = ["INDEXED_BYTES", "REPLACEMENT", "UNSTORABLE", "column_text", "indexed_text"]

#: How long a text in an index may be: the indexes of PostgreSQL have a limit.
INDEXED_BYTES = 500
_DIGEST_CHARACTERS = 65

#: What no database takes: NUL, and half a character.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
#: What stands in its place.
REPLACEMENT = "\ufffd"


def column_text(text: Any) -> str | None:
    """Return a text for a column; what is no text is None."""
    if type(text) is not str:
        return None
    return text if text.isascii() and "\x00" not in text else UNSTORABLE.sub(REPLACEMENT, text)


def indexed_text(text: Any) -> str | None:
    """Return a text for a column with an index: the end of one that is too long is a digest."""
    found = column_text(text)
    if found is None or (len(found) <= INDEXED_BYTES // 4 or len(found.encode()) <= INDEXED_BYTES):
        return found
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{found.encode()[: INDEXED_BYTES - _DIGEST_CHARACTERS].decode(errors='ignore')}-{digest}"

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decoding with orjson where its result is known to be json's (the ``speed`` extra)."""

from __future__ import annotations

from typing import Any

import orjson

from fedmsg.encoding import _plain

__all__ = ["decode"]

# Before that it knew no limit for nesting: 200 kB of "[" in a message ended the process.
_SAFE = (3, 9, 15)
if tuple(int(number) for number in orjson.__version__.split(".")[:3]) < _SAFE:
    raise ImportError(
        f"orjson {orjson.__version__} can be crashed by a message; upgrade it to {'.'.join(map(str, _SAFE))}"
    )

# orjson makes floats of integers beyond 64 bits. 19 digits in a row may be one. Every
# digit mapped to "0", a plain search finds them: 0.5 µs, where a regular expression takes 3.
# Of 19 in a row every sixth byte alone shows three, which is found in half that time. By
# `find`: with `in`, bytes try what they are given as a number before they search.
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
_MAYBE_LONG_NUMBER = b"0" * 3


def decode(body: bytes) -> Any:
    """Decode UTF-8 JSON without byte order mark, to what ``json.loads`` makes of the same text.

    Raises:
        ValueError: It is not UTF-8, or not JSON.
        RecursionError: It is nested too deeply.
    """
    sample = body[::6].translate(_DIGITS_TO_ZERO)
    if (at := sample.find(_MAYBE_LONG_NUMBER)) >= 0 and _has_long_number(body, sample, at):
        return _plain.decode(body)
    try:
        return orjson.loads(body)
    except ValueError:
        # What json takes and orjson does not: NaN, 1E400, lone surrogates, deeper nesting.
        return _plain.decode(body)


def _has_long_number(body: bytes, sample: bytes, at: int) -> bool:
    # The base64 of a certificate often has three digits in the sample; between them there are others.
    while at >= 0:
        if body[6 * at : 6 * at + 13].isdigit():
            return body.translate(_DIGITS_TO_ZERO).find(_LONG_NUMBER) >= 0
        at = sample.find(_MAYBE_LONG_NUMBER, at + 1)
    return False

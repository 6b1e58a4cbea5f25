# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is logged is safe to read, whatever an exception quotes."""

from __future__ import annotations

import io
import logging

from fedmsg._util.text import SafeFormatter


def logged(message: str, formatter: logging.Formatter) -> str:
    """Return what a handler writes for an exception with a message."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.Logger("test")  # noqa: LOG001 - one that no other test has
    log.addHandler(handler)
    try:
        raise ValueError(message)
    except ValueError:
        log.exception("failed on %s", message)
    return stream.getvalue()


HOSTILE = "\x1b[2Jgone\n2026-11-30 [ERROR] forged\r\x9b\u202e"
PLAIN = logging.Formatter("%(levelname)s: %(message)s")


def test_safe_formatter_lets_no_control_character_through() -> None:
    assert "\x1b" in logged(HOSTILE, PLAIN)  # the control
    text = logged(HOSTILE, SafeFormatter(PLAIN))
    assert text.replace("\n", "").isprintable()
    assert r"\x1b[2Jgone" in text


def test_safe_formatter_lets_no_message_forge_a_line() -> None:
    assert "\n2026-11-30 [ERROR] forged" in logged(HOSTILE, PLAIN)  # the control
    first, *rest = logged(HOSTILE, SafeFormatter(PLAIN)).removesuffix("\n").split("\n")
    assert first.startswith("ERROR: failed on")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_safe_formatter_bounds_a_record() -> None:
    text = logged("x" * 10_000_000, SafeFormatter(PLAIN))
    assert len(text) < 40_000
    assert "characters left out" in text
    assert text.startswith("ERROR: failed on xxx")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is logged is safe to read, whatever an exception quotes."""

from __future__ import annotations

import io
import logging

import pytest

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


@pytest.mark.parametrize("text", ["x", "\x1b", "\n", "\u202e", "x\n"], ids=["letters", "ESC", "lines", "turns", "both"])
def test_safe_formatter_bounds_a_record(text: str) -> None:
    written = logged(text * 200_000, SafeFormatter(PLAIN))
    assert len(logged(text * 200_000, PLAIN)) > 400_000  # the control: the message, and the exception
    assert len(written) < 33_000
    assert "characters left out" in written
    first, *rest = written.removesuffix("\n").split("\n")
    assert first.startswith("ERROR: failed on")
    assert all(line.startswith("    ") for line in rest)


def test_safe_formatter_leaves_a_short_record_whole() -> None:
    assert "x" * 10_000 in logged("x" * 10_000, SafeFormatter(PLAIN))

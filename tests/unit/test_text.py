# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text, bytes, lists of text; and text that is harmless on a terminal."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg._util import text as safe_text
from tests.unit.fresh import python

# With lone surrogates, which hypothesis leaves out unless told otherwise; much of it control characters.
TEXTS = st.text(st.characters(exclude_categories=()) | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))


class Shown:
    """An object that people are shown."""

    def __str__(self) -> str:
        return "shöwn"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é\ud800", "é\ud800"),
        ("é".encode(), "é"),
        (b"a\xff\xc3", "a\ufffd\ufffd"),
        (bytearray(b"abc"), "abc"),
        (Shown(), "shöwn"),
        (5, "5"),
        (None, "None"),
        (["a"], "['a']"),
    ],
)
def test_to_text(value: Any, text: str) -> None:
    assert safe_text.to_text(value) == text


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("é", b"\xc3\xa9"),
        ("a\ud800b", b"a\\ud800b"),
        (b"\xff", b"\xff"),
        (Shown(), "shöwn".encode()),
        (5, b"5"),
        (None, b"None"),
    ],
)
def test_to_bytes(value: Any, data: bytes) -> None:
    assert safe_text.to_bytes(value) == data


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, []),
        ("", [""]),
        ("tcp://127.0.0.1:1", ["tcp://127.0.0.1:1"]),
        (b"bytes", ["bytes"]),
        (["a", "b"], ["a", "b"]),
        (("a", b"b", 3), ["a", "b", "3"]),
        ([], []),
        ({"a"}, ["a"]),
        ({"a": 1, "b": 2}, ["a", "b"]),
        (iter("ab"), ["a", "b"]),
        (5, ["5"]),
    ],
)
def test_as_list(value: Any, texts: list[str]) -> None:
    assert safe_text.as_list(value) == texts


def test_as_list_makes_a_list_of_its_own() -> None:
    given_list = ["a"]
    safe_text.as_list(given_list).append("b")
    assert given_list == ["a"]


@pytest.mark.parametrize(
    ("text", "line", "block"),
    [
        ("plain é 中 \U0001f600 \\n", None, None),
        ("", None, None),
        ("no-break\xa0space", None, None),
        # Joiners are needed by Persian and by families of emoji.
        ("\u0645\u200c\u06cc \U0001f468\u200d\U0001f469", None, None),
        ("two\nlines\tand a tab", r"two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("back\rover\x08\x08", r"back\rover\x08\x08", r"back\rover\x08\x08"),
        ("\x00\x7f\x80\x85\x9b31m\x9f", r"\x00\x7f\x80\x85\x9b31m\x9f", r"\x00\x7f\x80\x85\x9b31m\x9f"),
        ("a\u2028b\u2029", r"a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\u202egpj.exe\u202c", r"\u202egpj.exe\u202c", r"\u202egpj.exe\u202c"),
        ("\u061c\u200e\u200f\u2066\u2069", r"\u061c\u200e\u200f\u2066\u2069", r"\u061c\u200e\u200f\u2066\u2069"),
        ("\ud800\udfff", r"\ud800\udfff", r"\ud800\udfff"),
        ("a\n\x1b\n", r"a\n\x1b\n", "a\n\\x1b\n"),
        ("'\"\x07", "'\"\\x07", "'\"\\x07"),
    ],
)
def test_safe(text: str, line: str | None, block: str | None) -> None:
    assert safe_text.safe_line(text) == (text if line is None else line)
    assert safe_text.safe_block(text) == (text if block is None else block)


@given(TEXTS)
def test_a_safe_line_is_one_harmless_line(text: str) -> None:
    safe = safe_text.safe_line(text)
    assert {unicodedata.category(character) for character in safe} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert {unicodedata.bidirectional(character) for character in safe} & {"LRE", "LRO", "RLE", "RLO", "PDF"} == set()
    assert {unicodedata.bidirectional(character) for character in safe} & {"LRI", "RLI", "FSI", "PDI"} == set()
    assert len(safe.splitlines()) <= 1
    safe.encode()
    assert safe_text.safe_line(safe) == safe


@given(TEXTS)
def test_a_safe_block_is_safe_lines_and_tabs(text: str) -> None:
    lines = [[safe_text.safe_line(cell) for cell in line.split("\t")] for line in text.split("\n")]
    assert safe_text.safe_block(text) == "\n".join("\t".join(line) for line in lines)


def test_what_is_loaded() -> None:
    code = """
import sys
from fedmsg._util import text as safe_text
safe_text.to_text("a"), safe_text.to_bytes(b"a"), safe_text.as_list(["a"]), safe_text.safe_line("\\x1b")
print("kitchen" in sys.modules)
safe_text.to_text(5)
print("kitchen" in sys.modules)
"""
    assert python(code) == ["False", "True"]


def test_no_warning_where_kitchen_is_not_compiled(tmp_path: Path) -> None:
    # An empty cache of byte code: Python has to compile kitchen, and has remarks on it.
    code = "from fedmsg._util import text as safe_text; print(safe_text.to_text(5), safe_text.as_list({6}))"
    assert python(code, "-X", f"pycache_prefix={tmp_path}") == ["5 ['6']"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("", ""),
        ("two\nlines", "two; lines"),
        ("  heading:\n\n\tkey: bad\r\n", "heading:; key: bad"),
        ("\x1b[31mred\x7f\x9b", "\\x1b[31mred\\x7f\\x9b"),
        ("turned \u202e around", "turned \\u202e around"),
        ("café ☃", "café ☃"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert safe_text.one_line(text) == line


@given(st.text(st.characters(exclude_categories=())))
def test_one_line_is_one_harmless_line(text: str) -> None:
    line = safe_text.one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"), ("can't", "can't"), ('say "it"', 'say "it"'), ("can't \"do\" it", "can't \"do\" it"),
        ("back\\'slash\"", "back\\\\'slash\""), ("a\n\x1b[0m\x7f", "a\\n\\x1b[0m\\x7f"),
        ("é\u2028\ud800", "\\xe9\\u2028\\ud800"),
        ("x" * 400, "x" * 300),
    ],
)  # fmt: skip
def test_quoted(text: str, expected: str) -> None:
    assert safe_text.quoted(text) == expected


@given(TEXTS)
def test_quoted_is_one_line_of_ascii(text: str) -> None:
    assert (shown := safe_text.quoted(text)).isascii()
    assert shown.isprintable()
    assert len(shown) <= 300

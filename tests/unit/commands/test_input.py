# SPDX-License-Identifier: LGPL-2.1-or-later
"""Standard input: lines of text, whatever bytes they are made of."""

from __future__ import annotations

import io
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg._util.text import as_utf8
from fedmsg.commands import _process
from fedmsg.exceptions import UsageError
from fedmsg.testing import command_path, run

log = logging.getLogger("test_commands_stdin")

REPLACED = re.compile("[\ud800-\udfff\ufffd]")


def read(data: bytes, monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> list[str]:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding))
    return list(_process.input_lines(log))


@pytest.mark.parametrize(
    ("data", "encoding", "lines"),
    [
        (b"", "utf-8", []),
        (b"one\ntwo", "utf-8", ["one\n", "two"]),
        (b"\n \n", "utf-8", ["\n", " \n"]),
        ("é ☃\n".encode(), "utf-8", ["é ☃\n"]),
        ("é\n".encode("latin-1"), "latin-1", ["é\n"]),
        ("\ufffd\n".encode(), "utf-8", ["\ufffd\n"]),
        ("café ☃\n".encode(), "ascii", ["café ☃\n"]),
    ],
)
def test_lines(
    data: bytes, encoding: str, lines: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(data, monkeypatch, encoding) == lines
    assert caplog.messages == []


def test_bad_bytes_are_told_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert read(b"\xc3\xa9\nx\xff\n\xfe\n", monkeypatch) == ["é\n", "x\ufffd\n", "\ufffd\n"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("line 2 is not UTF-8")


def test_a_stream_in_place_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo \ud800\n"))
    assert list(_process.input_lines(log)) == ["one\n", "two \ufffd\n"]


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        next(_process.input_lines(log))


def test_standard_input_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first page of a process's memory is never there.
    with open("/proc/self/mem", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(UsageError, match="standard input can't be read: Input/output error"):
            list(_process.input_lines(log))


@pytest.mark.parametrize("name", ["fedmsg-logger", "fedmsg-announce"])
def test_commands_whose_standard_input_is_closed(name: str) -> None:
    ended = run(["bash", "-c", f"exec {command_path(name)} <&-"])
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"{name}: standard input is closed: there is nothing to read\n"


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("é", "é"),
        ("\udcff", "\ufffd"),
        ("a\udce2\udc98b", "a\ufffdb"),
        ("a\udce2\udc98\udc83\udcff", "a☃\ufffd"),
        ("\ud800x", "\ufffdx"),
        ("😀", "😀"),
    ],
)
def test_as_utf8(text: str, fixed: str) -> None:
    assert as_utf8(text) == fixed


@given(st.text(st.characters(exclude_categories=()).filter(lambda one: not "\udc80" <= one <= "\udcff")))
def test_as_utf8_can_be_encoded_and_changes_nothing_else(text: str) -> None:
    fixed = as_utf8(text)
    fixed.encode()
    assert REPLACED.sub("", fixed) == REPLACED.sub("", text)

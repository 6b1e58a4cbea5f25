# SPDX-License-Identifier: LGPL-2.1-or-later
"""Text for IRC: nothing in it is obeyed, colours stand where they should, and pieces fit."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedmsg.irc import text

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=600)


@given(ANY_TEXT)
def test_harmless_text_has_no_control_characters(said: str) -> None:
    line = text.harmless(said)
    assert all(unicodedata.category(one) not in {"Cc", "Cs"} for one in line)
    line.encode()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("a plain line, with ünïcödé ☃ 😀", "a plain line, with ünïcödé ☃ 😀"),
        ("two\r\nlines\n\nand\ttabs\u2028", "two lines and tabs "),
        ("\x01ACTION\x01\x00\x03\x0f", r"\x01ACTION\x01\x00\x03\x0f"),
        ("\x1b[31m\u202e\ud800", r"\x1b[31m\u202e\ud800"),
        (None, "None"),
        ("", ""),
    ],
)
def test_harmless(said: str, line: str) -> None:
    assert text.harmless(said) == line


def test_what_is_too_long_is_cut_visibly() -> None:
    line = text.harmless("x" * 10**6)
    assert len(line) == text.LONGEST
    assert line.endswith("x…")


@pytest.mark.parametrize(
    ("said", "colour", "line"),
    [
        ("git", "red", "\x034git\x03"),
        ("git", "light grey", "\x0315git\x03"),
        ("389-ds", "red", "\x0304389-ds\x03"),
        ("389-ds", "teal", "\x0310389-ds\x03"),
        (",5", "teal", "\x0310\x02\x02,5\x03"),
        ("", "white", "\x030\x03"),
    ],
)
def test_painted(said: str, colour: str, line: str) -> None:
    assert text.painted(said, colour) == line
    assert text.plain(line) == said


@given(ANY_TEXT, st.sampled_from(sorted(text.COLOURS)))
def test_taking_the_colour_away_gives_the_text_back(said: str, colour: str) -> None:
    line = text.harmless(said)
    assert text.plain(text.painted(line, colour)) == line


@pytest.mark.parametrize(
    ("title", "colour"),
    [
        ("git.receive", "red"),
        ("git", "red"),
        ("git receive", "red"),
        ("gitlab.receive", "pink"),
        ("bad.one", "pink"),
        ("", "pink"),
    ],
)
def test_the_first_word_decides_on_the_colour(title: str, colour: str) -> None:
    config = {"irc_color_lookup": {"git": "red", "bad": "no colour"}, "irc_default_color": "pink"}
    assert text.colour_of(title, config) == colour


@pytest.mark.parametrize("config", [{}, {"irc_color_lookup": None, "irc_default_color": "no colour"}])
def test_without_a_colour_that_there_is_it_is_light_grey(config: dict[str, object]) -> None:
    assert text.colour_of("git", config) == "light grey"


def all_pieces(said: str, size: int) -> list[str]:
    found = []
    while said:
        piece, said = text.cut(said, size)
        assert piece
        found.append(piece)
    return found


@example("0000\xa0\xa0\x85", 8)
@given(ANY_TEXT, st.integers(8, 200))
def test_pieces_fit_and_lose_nothing_but_a_blank_each(said: str, size: int) -> None:
    line = text.harmless(said)
    pieces = all_pieces(line, size)
    assert all(len(piece.encode()) <= size for piece in pieces)
    assert "".join(pieces).replace(" ", "") == line.replace(" ", "")
    assert len("".join(pieces)) + len(pieces) >= len(line)  # a blank at the end of each, the last included


@given(st.lists(st.tuples(st.text(st.characters(categories=["L", "N"])), st.sampled_from(sorted(text.COLOURS)))))
def test_no_piece_begins_inside_a_colour(parts: list[tuple[str, str]]) -> None:
    line = " ".join(text.painted(said, colour) for said, colour in parts)
    pieces = all_pieces(line, 16)
    assert "".join(map(text.plain, pieces)).replace(" ", "") == text.plain(line).replace(" ", "")


@pytest.mark.parametrize(
    ("said", "size", "pieces"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 8, ["one two", "three"]),
        ("a bcdefghijkl", 8, ["a bcdefg", "hijkl"]),
        ("éé éé", 5, ["éé", "éé"]),
        ("ééé", 5, ["éé", "é"]),
        ("😀", 1, ["😀"]),
    ],
)
def test_where_pieces_end(said: str, size: int, pieces: list[str]) -> None:
    assert all_pieces(said, size) == pieces


@given(ANY_TEXT)
def test_the_last_guard_lets_nothing_through_that_is_not_text(said: str) -> None:
    line = text.wire_safe(said).encode()
    assert not re.search(rb"[\x00\x01\r\n]", line)


def test_the_room_in_a_line() -> None:
    line = f":nick!user@host NOTICE #channel :{'x' * text.room(len('nick!user@host'), 'NOTICE', '#channel')}\r\n"
    assert len(line) == 512

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Texts use plain words: reports and logs, not persons who tell each other things."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import source

# One worker parses the files, once.
pytestmark = pytest.mark.xdist_group("source")

# Each of these has a better word: log, report, send, return, notify; the program, the reader, no one.
ODD = re.compile(
    r"\b(?:told|tells?|telling|whom|whoever|nobody|somebody|anybody|gives?|gave|take leave)\b", re.IGNORECASE
)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")

# How many in 10,000 words are accepted: a good use of a word stays.
MOST_IN_DOCS = 5
MOST_IN_CODE = 5

# Texts that are not ours to choose.
QUOTED = re.compile(r'Exec "nobody"')


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of prose of a file: a whole page, or the comments and texts of a program."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            for offset, line in enumerate(token.string.splitlines()):
                if " " in line.strip():
                    yield token.start[0] + offset, line


def odd_words(paths: list[Path]) -> tuple[float, list[str]]:
    """Return how many of 10,000 words are odd, and where they are."""
    words, found = 0, []
    for path in paths:
        for number, line in sentences(path):
            words += len(WORD.findall(line))
            found += [f"{source.relative(path)}:{number}: {match[0]}" for match in ODD.finditer(QUOTED.sub("", line))]
    return 10_000 * len(found) / max(1, words), found


def test_the_checker_finds_odd_words(tmp_path: Path) -> None:
    assert ODD.findall("It tells nobody; a function gives what it was told.") == ["tells", "nobody", "gives", "told"]
    assert not ODD.findall("It logs the error and returns the given value.")


def test_the_documentation_uses_plain_words() -> None:
    rate, found = odd_words([path for path in source.files() if path.suffix == ".rst"])
    assert rate <= MOST_IN_DOCS, "\n".join(found)


def test_the_code_uses_plain_words() -> None:
    rate, found = odd_words(source.python_files("fedmsg/"))
    assert rate <= MOST_IN_CODE, "\n".join(found)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plugins from PyPI say the same of the same messages on both sides, and pass their own tests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.interop.sides import Side, write_config

# The empty value that ours gives where a plugin fails, or returns nonsense; fedmsg 1.1.7 lets the
# exception out but for a KeyError, and hands the nonsense on.
_TEXTS = ("msg2repr", "msg2title", "msg2subtitle", "msg2long_form", "msg2link", "msg2subjective")
EMPTY: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_TEXTS, ("",)),
    **dict.fromkeys(("msg2icon", "msg2secondary_icon"), ("", None)),
    **{name: ([],) for name in ("msg2usernames", "msg2packages", "msg2objects")},
    **{name: ({},) for name in ("msg2emails", "msg2avatars")},
    **dict.fromkeys(("msg2lexer", "msg2agent"), (None,)),
}

# What the only subtitle that is None makes of the line, at fedmsg 1.1.7.
NOBODY_SAYS_NONE = ("kerneltest.upload.new -- None ", "kerneltest.upload.new --  ")


@pytest.fixture(scope="module")
def plugins(peer: Path) -> Path:
    """Give the folder into which set-up put the plugins."""
    folder = peer.parent / "plugins"
    if not (folder / "fedmsg_meta_debian").is_dir():
        pytest.fail(f"no plugins in {folder}: run the tests by `make test`, which puts them there", pytrace=False)
    return folder


def answers(sides: dict[str, Side], tmp_path: Path, plugins: Path, what: str) -> tuple[list[Any], list[Any]]:
    """Ask both sides."""
    # A plugin reads the configuration when it is imported.
    write_config(tmp_path, {"endpoints": {"relay_outbound": ["tcp://127.0.0.1:1"]}})
    ours, peers = (
        [json.loads(line) for line in sides[name].ask(tmp_path, "words.py", str(plugins), what)]
        for name in ("ours", "peer")
    )
    assert len(ours) == len(peers)
    return ours, peers


def test_messages_read_the_same(sides: dict[str, Side], tmp_path: Path, plugins: Path) -> None:
    (our_processors, *ours), (peer_processors, *peers) = answers(sides, tmp_path, plugins, "messages")
    assert sorted(our_processors) == sorted(peer_processors)
    assert len(our_processors) == 53 + 3 + 3
    differences: Counter[str] = Counter()
    for (number, topic, our), (_, _, its) in zip(ours, peers, strict=True):
        names = {*its["msg2usernames"]}
        for function, answer in its.items():
            if our[function] == answer:
                continue
            differences[function] += 1
            if isinstance(answer, str) and answer.startswith("raised "):
                assert our[function] in EMPTY[function], (number, topic, function)
            elif function == "msg2agent":
                # Of several usernames it is any.
                assert {answer, our[function]} <= names
            elif function == "msg2repr":
                assert our[function] == answer.replace(*NOBODY_SAYS_NONE)
            else:
                assert answer is None
                assert our[function] in EMPTY[function], (number, topic, function)
    assert len(ours) > 2_500
    # Most is the same, or this test has compared failures.
    assert sum(differences.values()) < 0.02 * len(ours) * len(EMPTY), differences


def test_groups_are_the_same(sides: dict[str, Side], tmp_path: Path, plugins: Path) -> None:
    ours, peers = answers(sides, tmp_path, plugins, "groups")
    different = {name: its for (name, our), (_, its) in zip(ours, peers, strict=True) if our != its}
    assert len(ours) == 16
    # Its long form is on a page that can't be fetched.
    assert different == {"TestMeetbotConglomerateByURL": "raised ConnectionError"}


def test_their_own_tests_have_the_same_outcome(sides: dict[str, Side], tmp_path: Path, plugins: Path) -> None:
    ours, peers = (dict(outcomes) for outcomes in answers(sides, tmp_path, plugins, "tests"))
    assert ours.keys() == peers.keys()
    worse = {name: outcome for name, outcome in ours.items() if outcome != peers[name] and peers[name] == "good"}
    assert worse == {}
    assert Counter(ours.values())["good"] > 3_500

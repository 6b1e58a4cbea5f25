# SPDX-License-Identifier: LGPL-2.1-or-later
"""The IRC bots of both sides say the same of the same messages, and leave out the same."""

from __future__ import annotations

from pathlib import Path

from tests.interop.sides import Side, write_config


def test_what_the_bots_say(sides: dict[str, Side], tmp_path: Path) -> None:
    write_config(tmp_path, {"endpoints": {"relay_outbound": ["tcp://127.0.0.1:1"]}})
    ours, its = (sides[name].ask(tmp_path, "bot.py") for name in ("ours", "peer"))
    assert ours == its
    assert any("hey (threebean)" in line for line in ours)
    assert len(ours) == 45

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The type checker of an application knows what fedmsg takes and returns."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

# What an application may write, and what it is told about that: None where it is in order.
LINES: dict[str, str | None] = {
    "fedmsg.publish(topic='t', msg={'a': 1})": None,
    "for name, endpoint, topic, msg in fedmsg.tail_messages(): msg['msg']": None,
    "fedmsg.init(active=True).publish(topic='t')": None,
    "fedmsg.config.conf.load_config()": None,
    "fedmsg.pubish(topic='t')": 'has no attribute "pubish"',
    "fedmsg.publish(topic=5)": 'incompatible type "int"',
    "await fedmsg.aio.publish(topic='t', msg={'a': 1})": None,
    "async for name, endpoint, topic, msg in fedmsg.aio.tail_messages(): msg['msg']": None,
    "(await fedmsg.aio.init(active=True)).gaps.total()": None,
    "await asyncio.create_task(fedmsg.aio.publish())": None,
    "await fedmsg.aio.publish(topic=5)": 'incompatible type "int"',
    "fedmsg.aio.publish(topic='t')": "Value of type",
}
# The function with a line begins here and ends there.
FIRST, LENGTH = 4, 3


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Check all lines in one run; return what is said about each."""
    functions = "".join(f"\nasync def f{number}() -> None:\n    {line}\n" for number, line in enumerate(LINES))
    path = Path(tmp_path_factory.mktemp("application") / "application.py")
    path.write_text(f"import asyncio\nimport fedmsg\nimport fedmsg.aio\n{functions}")
    options = ["--strict", "--enable-error-code=unused-coroutine", "--cache-dir=/dev/null"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)], capture_output=True, text=True, check=False
    )
    found: dict[str, list[str]] = defaultdict(list)
    for number, text in re.findall(r"^.*application\.py:(\d+): error: (.*)$", checked.stdout, re.MULTILINE):
        found[list(LINES)[(int(number) - FIRST) // LENGTH]].append(text)
    assert found, checked
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_type_checker_knows_the_api(line: str, complaints: dict[str, list[str]]) -> None:
    wanted = LINES[line]
    if wanted is None:
        assert line not in complaints
    else:
        assert any(wanted in text for text in complaints[line]), complaints

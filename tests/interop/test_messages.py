# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both sides make the same of the same: envelopes and canonical JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from fedmsg.testing import free_address
from tests.interop.sides import Side, write_config
from tests.unit.json_values import VALUES

EXPRESSIONS = [
    "{'b': 1, 'a': [1, (2, [3])], 'é': None, '': {}}",
    "{2: 'b', 10: 'c', 1: 'a'}",
    "{True: 1, False: 2}",
    "{1.5: 1, inf: 2, nan: 3}",
    "{None: 1, 'a': 2}",
    "{1: 1, '1': 2}",
    "{(1, 2): 3}",
    "{b'k': 1}",
    "[0.1, -0.0, 1.0, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, nan, inf, -inf]",
    "[0, -1, 2**63, -2**63 - 1, 2**64, 10**40, 10**4299, True, False, None]",
    "'\\x00\\x1b\\x1f\\x7f\\x80\\x85\\u2028\\u2029\\ufeff\\uffff\"\\\\/\\b\\f\\n\\r\\t'",
    "['\\ud800', '\\udc00\\ud800', '\\ud83d\\ude00', '\\U0001f600', 'e\\u0301']",
    "'text'",
    "None",
    "[[[[[]]]]]",
    "set()",
    "[{4}, {'x': {5}}]",
    "dt.datetime(2020, 2, 29, 12, 30, 15, 999999)",
    "dt.datetime(2020, 7, 1, 12, 0, tzinfo=dt.timezone.utc)",
    "[dt.date(1970, 1, 2), dt.datetime(2037, 12, 31, 23, 59, 59)]",
    "time.gmtime(0)",
    "Json({'b': Json([Json(1)]), 'a': {1}})",
    "Json(None)",
    "Json(b'x')",
    "b'bytes'",
    "bytearray(b'x')",
    "frozenset([1])",
    "object()",
    "1j",
    "range(2)",
    "dt.time(1)",
    "dt.timedelta(1)",
    "{dt.date(2020, 1, 1): 1}",
    "10**4300",
]

# A module of an application, which does not say who it is.
VIEWS = """
import __main__
import fedmsg

def publish():
    fedmsg.publish(topic="made", pre_fire_hook=__main__.show)
"""

Writer = Callable[[str], Any]


@pytest.fixture(scope="module")
def writers(sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Writer, Writer]]:
    """Give a function for each side that says what becomes of an expression."""
    folder = tmp_path_factory.mktemp("writers")
    with (
        sides["ours"].start(folder, "dumps.py", stdin=True) as ours,
        sides["peer"].start(folder, "dumps.py", stdin=True) as peer,
    ):

        def writer(process: Any) -> Writer:
            def write(expression: str) -> Any:
                process.out.clear()
                process.popen.stdin.write(f"{expression}\n".encode())
                process.popen.stdin.flush()
                return json.loads(process.wait_for(lambda line: True))

            return write

        yield writer(ours), writer(peer)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_canonical_json(writers: tuple[Writer, Writer], expression: str) -> None:
    ours, peer = writers
    assert ours(expression) == peer(expression)


# Two processes answer, on a machine that may be busy.
@settings(deadline=None)
@given(VALUES)
def test_canonical_json_of_anything(writers: tuple[Writer, Writer], value: Any) -> None:
    ours, peer = writers
    assert ours(repr(value)) == peer(repr(value))


def test_envelopes(sides: dict[str, Side], tmp_path: Path) -> None:
    write_config(tmp_path, {"endpoints": {}, "zmq_enabled": True})
    (tmp_path / "application").mkdir()
    (tmp_path / "application" / "__init__.py").touch()
    (tmp_path / "application" / "views.py").write_text(VIEWS)
    settings = {
        "name": "app.host", "endpoints": {"app.host": [free_address()]}, "post_init_sleep": 0.0,
        "topic_prefix": "org.example", "environment": "stg",
    }  # fmt: skip
    ours, peer = (side.ask(tmp_path, "envelopes.py", json.dumps(settings)) for side in sides.values())
    assert ours == peer
    assert '"topic":"org.example.stg.application.made"' in ours[-5]
    assert ours[-4:] == ["TypeError"] * 4

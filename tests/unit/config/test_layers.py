# SPDX-License-Identifier: LGPL-2.1-or-later
"""Laying values over each other, and the memory of where each came from."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg.config import _layers, settings
from fedmsg.config._layers import DEFAULT, Origin, Origins, lay_over, lines
from tests.unit.configs import write

A, B, C = Origin("a"), Origin("b"), Origin("c", "/c.py")


def stack(*layers: tuple[dict[str, Any], Origin]) -> tuple[dict[str, Any], Origins]:
    values: dict[str, Any] = {}
    origins: Origins = {}
    for above, origin in layers:
        lay_over(values, origins, above, origin)
    return values, origins


CASES = [
    ([({"x": 1}, A), ({"x": 2}, B)], {"x": 2}, {"x": B}),
    ([({"x": 1}, A), ({"y": 2}, B)], {"x": 1, "y": 2}, {"x": A, "y": B}),
    ([({"d": {"x": 1}}, A), ({"d": {"y": 2}}, B)], {"d": {"x": 1, "y": 2}}, {"d.x": A, "d.y": B}),
    ([({"d": {"x": 1}}, A), ({"d": {"x": 2}}, B)], {"d": {"x": 2}}, {"d": B}),
    ([({"d": {"x": 1}}, A), ({"d": {"x": 1}}, A)], {"d": {"x": 1}}, {"d": A}),
    ([({"d": {}}, A), ({"d": {}}, B)], {"d": {}}, {"d": B}),
    ([({"d": {"x": 1}}, A), ({"d": {}}, B)], {"d": {"x": 1}}, {"d": A}),
    ([({"d": {"x": 1}}, A), ({"d": 3}, B)], {"d": 3}, {"d": B}),
    ([({"d": 3}, A), ({"d": {"x": 1}}, B)], {"d": {"x": 1}}, {"d": B}),
    ([({"d": [1]}, A), ({"d": [2]}, B)], {"d": [2]}, {"d": B}),
    (
        [({"d": {"e": {"x": 1}, "f": 0}}, A), ({"d": {"e": {"y": 2}}}, B), ({"d": {"e": {"z": 3}}}, C)],
        {"d": {"e": {"x": 1, "y": 2, "z": 3}, "f": 0}},
        {"d.e.x": A, "d.e.y": B, "d.e.z": C, "d.f": A},
    ),
]


@pytest.mark.parametrize(("layers", "values", "origins"), CASES)
def test_layers(layers: Any, values: Any, origins: Any) -> None:
    found, found_origins = stack(*layers)
    assert found == values
    assert dict(lines(found_origins)) == origins


def test_what_is_laid_over_stays_as_it_was() -> None:
    first, second = {"d": {"x": 1}}, {"d": {"y": 2}}
    before = copy.deepcopy((first, second))
    values, _ = stack((first, A), (second, B))
    values["d"]["z"] = 3
    assert (first, second) == before


nested = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
layer = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


def merged(below: Any, above: Any) -> Any:
    """Merge in the plainest way, for comparison."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    return above


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict):
        return {inner: leaf for key, one in value.items() for inner, leaf in leaves(one, (*path, key)).items()}
    return {path: value}


@given(st.lists(layer, max_size=4))
def test_merging_any_layers(layers: list[dict[str, Any]]) -> None:
    expected: Any = {}
    for one in layers:
        expected = merged(expected, one)
    values, origins = stack(*((one, Origin(str(number))) for number, one in enumerate(layers)))
    assert values == expected
    assert set(origins) == set(values)
    # Each leaf is said to come from a layer that has it.
    rows = dict(lines(origins))
    for path, leaf in leaves(values).items():
        origin = next(rows[key] for length in range(len(path), 0, -1) if (key := ".".join(path[:length])) in rows)
        assert leaves(layers[int(origin.layer)])[path] == leaf


# ---------------------------------------------------------------- through all layers


def test_the_origin_of_every_key_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    one = os.path.abspath(write("fedmsg.d/a.py", {"endpoints": {"a": "tcp://h:1"}, "x": 1, "timeout": 3}))
    two = os.path.abspath(write("fedmsg.d/b.yaml", "endpoints: {b: tcp://h:2}\nlogging: {root: {level: INFO}}\n"))
    three = os.path.abspath(write("fedmsg-config.py", {"timeout": 4}))
    loaded = _layers.gather(_layers.Request(flags={"zmq_linger": 5}))
    assert loaded.problems == []
    assert loaded.files == [one, two, three]
    # A default that is None has an origin, and is no key.
    assert {key for key in loaded.origins if key not in loaded.config} == {
        name for name, row in settings.TABLE.items() if name not in settings.defaults() and not row.derived
    }
    assert set(loaded.config) <= set(loaded.origins)
    rows = dict(lines(loaded.origins))
    expected = {
        "endpoints.a": Origin("./fedmsg.d", one),
        "endpoints.b": Origin("./fedmsg.d", two),
        "x": Origin("./fedmsg.d", one),
        "timeout": Origin("./fedmsg-config", three),
        "zmq_linger": Origin("command line"),
        "logging.version": DEFAULT,
        "logging.root": Origin("./fedmsg.d", two),
        "topic_prefix": DEFAULT,
        "topic_prefix_re": Origin("made from topic_prefix"),
    }
    assert {key: rows[key] for key in expected} == expected


def test_named_files_are_a_layer_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.abspath(write("my.py", {"x": 1}))
    by_flag = _layers.gather(_layers.Request(filenames=("my.py",)))
    assert by_flag.origins["x"] == Origin("--config-filename", path)
    monkeypatch.setenv("FEDMSG_CONFIG", "my.py")
    by_environment = _layers.gather(_layers.Request())
    assert by_environment.origins["x"] == Origin("FEDMSG_CONFIG", path)

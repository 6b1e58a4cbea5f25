# SPDX-License-Identifier: LGPL-2.1-or-later
"""YAML in and out, by the module that wraps pyyaml."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg._util import plugins, yaml


def test_it_is_reached_by_its_name() -> None:
    assert plugins.lazy("yaml") is yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("a: 1", {"a": 1}),
        ("base: &b {x: 1, y: 1}\nmore: {<<: *b, y: 2}", {"base": {"x": 1, "y": 1}, "more": {"x": 1, "y": 2}}),
        ("a: &x {y: 1}\nb: *x", {"a": {"y": 1}, "b": {"y": 1}}),
        ("'<<': 1\n'a': 2", {"<<": 1, "a": 2}),
    ],
)
def test_load(text: str, expected: Any) -> None:
    assert yaml.load(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: [", 1, "expected the node content"),
        ("a: 1\n\tb: 2", 2, "found character '\\t' that cannot start any token"),
        ("a:\n  x: 1\n  x: 2", 3, "the key 'x' is there twice"),
        ("a: !!python/name:os.system", 1, "could not determine a constructor"),
        ("a: 1\n--- \nb: 2", 2, "but found another document"),
        ("a: *nowhere", 1, "found undefined alias"),
    ],
)
def test_what_is_wrong_and_where(text: str, line: int, what: str) -> None:
    with pytest.raises(yaml.NotYaml) as caught:
        yaml.load(text)
    assert what in str(caught.value)
    assert caught.value.line == line


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize("text", [BOMB, MERGED], ids=["lists", "merged"])
def test_aliases_that_multiply_are_rejected(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(yaml.NotYaml, match="its aliases expand to more than 100000 values"):
            yaml.load(text)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_long_document_without_aliases_is_read() -> None:
    text = "".join(f"- [{n}]\n" for n in range(20_000))
    assert len(yaml.load(text)) == 20_000


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(data)
def test_what_is_written_can_be_read(value: Any) -> None:
    assert yaml.load(yaml.dump(value)) == value


def test_keys_keep_their_order_and_letters_are_escaped() -> None:
    assert yaml.dump({"b": 1, "a": ["\xe9"]}) == 'b: 1\na:\n- "\\xE9"\n'


def line_of_fault(text: str) -> int | None:
    try:
        yaml.load(text)
    except yaml.NotYaml as error:
        return error.line
    return None


@given(st.text(alphabet=st.characters() | st.sampled_from("-:{}[]&*!<\n\t\r\x85\u2028'\"#"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    line = line_of_fault(text)
    # The end may be missed in the line after the last.
    last = 2 + sum(map(text.count, "\n\r\x85\u2028\u2029"))
    assert line is None or 1 <= line <= last

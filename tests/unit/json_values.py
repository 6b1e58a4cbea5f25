# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nasty values for the tests of writing and reading JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

# hypothesis leaves lone surrogates out of text unless told otherwise.
TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    [
        "",
        "\ud800",
        "\udc00\ud800",
        "\ud83d\ude00",
        "\U0001f600",
        "\u2028\u2029",
        "\x00\x1f\x7f\x85",
        '"\\/\b\f\n\r\t',
        "é",
    ]
)
EDGES = [
    0, -1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**4299, -(10**4299),
    0.0, -0.0, 0.1, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
NUMBERS = st.integers() | st.integers(-(10**40), 10**40) | st.floats() | st.sampled_from(EDGES)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
# Keys of one kind can be sorted, of several they can't: then both must refuse.
KEYS = [TEXTS, st.integers(), st.floats(), st.booleans(), st.none(), TEXTS | st.integers() | st.none()]
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.one_of([st.dictionaries(keys, inner, max_size=5) for keys in KEYS])
    ),
    max_leaves=20,
)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, str]:
    """What a call comes to: the repr of its result (-0.0 is not 0, NaN is NaN, keys in order), or its error."""
    try:
        return "", repr(function(*args, **kwargs))
    except (ValueError, TypeError) as error:
        return type(error).__name__, str(error)


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value

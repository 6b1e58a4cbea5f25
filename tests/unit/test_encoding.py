# SPDX-License-Identifier: LGPL-2.1-or-later
"""Canonical JSON: the bytes of Python's json, whatever does the work."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given

from fedmsg import encoding
from tests.unit.fresh import python
from tests.unit.json_values import VALUES, nested, outcome

# ------------------------------------------------------------------ writing


@given(VALUES)
def test_dumps_gives_the_bytes_of_json(value: Any) -> None:
    expected = outcome(json.dumps, value, sort_keys=True, separators=(",", ":"))
    assert outcome(encoding.dumps, value) == expected
    assert outcome(encoding.encoder.encode, value) == expected


@given(VALUES)
def test_pretty_dumps_gives_the_bytes_of_json(value: Any) -> None:
    assert outcome(encoding.pretty_dumps, value) == outcome(json.dumps, value, indent=2)


class Pair(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Number(enum.IntEnum):
    """An int with a repr of its own."""

    ONE = 1


class Loud(str):
    """A str with a repr of its own."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "LOUD"


class Odd(float):
    """A float with a repr of its own."""

    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [1, (2,)], "é": None}, r'{"a":[1,[2]],"b":1,"\u00e9":null}'),
        ({2: "b", 10: "c", 1: "a"}, '{"1":"a","2":"b","10":"c"}'),
        ({True: 1, False: 2}, '{"false":2,"true":1}'),
        ({1.5: 1, float("inf"): 2}, '{"1.5":1,"Infinity":2}'),
        ({Number.ONE: Number.ONE}, '{"1":1}'),
        ({Loud("k"): Loud("v")}, '{"k":"v"}'),
        ([Odd(1.5), -0.0, float("nan"), float("-inf")], "[1.5,-0.0,NaN,-Infinity]"),
        ([1e22, 1e16, 1e-7, 5e-324], "[1e+22,1e+16,1e-07,5e-324]"),
        ("\ud800\U0001f600\u2028\x7f\x00/", r'"\ud800\ud83d\ude00\u2028\u007f\u0000/"'),
        (collections.OrderedDict([("b", 1), ("a", 2)]), '{"a":2,"b":1}'),
        (Pair(1, 2), "[1,2]"),
        (time.gmtime(0), "[1970,1,1,0,0,0,3,1,0]"),
        ("text", '"text"'),
        (10**4299, "1" + "0" * 4299),
    ],
)
def test_dumps(value: Any, text: str) -> None:
    assert encoding.dumps(value) == text


@pytest.mark.parametrize(
    "value",
    [
        object(), b"bytes", bytearray(b"x"), frozenset([1]), decimal.Decimal(1), 1j, range(2), iter([]), json,
        dt.time(1), dt.timedelta(1), enum.Enum("E", "A"), collections.deque([1]),
        {(1, 2): 3}, {b"k": 1}, {1: 1, "1": 2}, {None: 1, "a": 2}, {dt.date(2020, 1, 1): 1},
    ],
)  # fmt: skip
def test_what_can_not_be_written(value: Any) -> None:
    with pytest.raises(TypeError):
        encoding.dumps([value])


def test_pretty_dumps_keeps_the_order_and_indents_by_two() -> None:
    assert encoding.pretty_dumps({"b": [1, {}], "a": set()}) == '{\n  "b": [\n    1,\n    {}\n  ],\n  "a": []\n}'


# ------------------------------------------------------------------ turning


class Turns:
    """An object that says what to write for it."""

    def __init__(self, into: Any) -> None:
        self.into = into

    def __json__(self) -> Any:
        return self.into


class Birthday(dt.datetime):
    """A datetime that says what to write for it."""

    def __json__(self) -> str:
        return "birthday"


class Bag(set[int]):
    """A set that says what to write for it."""

    def __json__(self) -> str:
        return "bag"


class Table(dict[str, int]):
    """A dict that would like to, but json knows what to do with a dict."""

    def __json__(self) -> str:
        return "table"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Turns({"b": Turns([Turns(1)]), "a": 2}), '{"a":2,"b":[1]}'),
        (Birthday(2020, 1, 1), '"birthday"'),
        (Bag(), '"bag"'),
        (Table(x=1), '{"x":1}'),
        ({4}, "[4]"),
        ([set()], "[[]]"),
        ({Turns(1)}, "[1]"),
    ],
)
def test_turning(value: Any, text: str) -> None:
    assert encoding.dumps(value) == text
    assert json.dumps(value, cls=encoding.FedMsgEncoder, sort_keys=True, separators=(",", ":")) == text


def test_a_set_is_written_as_a_list_of_the_same() -> None:
    assert sorted(encoding.loads(encoding.dumps({1, 8, 3}))) == [1, 3, 8]


def test_an_attribute_of_the_object_counts_as_its_method() -> None:
    class Plain:
        pass

    plain = Plain()
    plain.__json__ = lambda: "its own"  # type: ignore[attr-defined]
    assert encoding.dumps(plain) == '"its own"'


def test_an_error_in_a_conversion_is_the_callers() -> None:
    class Fails:
        def __json__(self) -> Any:
            raise KeyError("within")

    with pytest.raises(KeyError, match="within"):
        encoding.dumps([Fails()])


@pytest.mark.parametrize(("zone", "offset"), [("UTC", 0), ("Etc/GMT+7", 7 * 3600), ("Etc/GMT-3", -3 * 3600)])
def test_times_are_local(monkeypatch: pytest.MonkeyPatch, zone: str, offset: int) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        noon = dt.datetime(2020, 5, 17, 12, 30, 15, 123456)  # noqa: DTZ001 - a naive one is what is tested
        aware = dt.datetime(2020, 5, 17, 12, 30, 15, tzinfo=dt.timezone.utc)
        assert encoding.dumps([noon, aware]) == f"[{1589718615.0 + offset},{1589718615.0 + offset}]"
        assert encoding.dumps(dt.date(2020, 5, 17)) == str(1589673600.0 + offset)
        # A struct_time is a tuple, so it only gets here by hand.
        assert encoding.FedMsgEncoder().default(time.gmtime(0)) == float(offset)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


# ------------------------------------------------------------------ circles and depths


def circles() -> dict[str, Any]:
    """Structures that contain themselves."""
    array: list[Any] = []
    array.append({"again": array})
    table: dict[str, Any] = {}
    table["again"] = [table]
    itself = Turns(None)
    itself.into = itself
    inside = Turns(None)
    inside.into = {"again": [inside]}
    return {"list": array, "dict": table, "object": itself, "object inside": inside}


class Endless:
    """Always one more."""

    def __json__(self) -> Any:
        return [Endless()]


@pytest.mark.parametrize("write", [encoding.dumps, encoding.pretty_dumps])
@pytest.mark.parametrize("value", circles().values(), ids=circles())
def test_a_circle_is_a_value_error(write: Callable[[Any], str], value: Any) -> None:
    with pytest.raises(ValueError, match="Circular reference detected"):
        write(value)


@pytest.mark.parametrize("write", [encoding.dumps, encoding.pretty_dumps])
@pytest.mark.parametrize("value", [nested(100_000), Endless()], ids=["deep", "endless"])
def test_a_deep_structure_is_a_value_error(write: Callable[[Any], str], value: Any) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        write(value)


@pytest.mark.parametrize("write", [encoding.dumps, encoding.pretty_dumps])
def test_an_integer_of_more_than_4300_digits_is_a_value_error(write: Callable[[Any], str]) -> None:
    with pytest.raises(ValueError, match="4300"):
        write({"n": 10**4300})


def test_an_object_twice_is_no_circle() -> None:
    both = {"x": 1}
    assert encoding.dumps([both, both, {"y": both}]) == '[{"x":1},{"x":1},{"y":{"x":1}}]'


def test_dumps_may_be_called_while_it_works() -> None:
    class Quotes:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __json__(self) -> str:
            return encoding.dumps(self.inner)

    inner = {"b": 1, "a": [2]}
    assert encoding.dumps([inner, Quotes(inner)]) == r'[{"a":[2],"b":1},"{\"a\":[2],\"b\":1}"]'


def test_threads_may_write_the_same_object() -> None:
    value = {"list": [{"n": Turns([number])} for number in range(200)]}
    expected = encoding.dumps(value)
    results: list[str] = []

    def work() -> None:
        results.extend(encoding.dumps(value) for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert set(results) == {expected}


# ------------------------------------------------------------------ what is loaded, and when


def test_writing_loads_no_library_and_reading_loads_the_decoder() -> None:
    code = """
import sys
from fedmsg import encoding
def there(): print([name for name in ("orjson", "sqlalchemy", "six", "kitchen", "datetime") if name in sys.modules])
encoding.dumps({"a": [1, 2.5, None]}); there()
try: encoding.dumps(object())
except TypeError: there()
encoding.loads("1"); there()
"""
    assert python(code) == ["[]", "['datetime']", "['orjson', 'datetime']"]


def test_without_the_c_encoder() -> None:
    code = """
import json.encoder
json.encoder.c_make_encoder = None  # as on PyPy
from fedmsg import encoding
print(encoding.dumps({"b": {1}, "a": [1.5, "\\u00e9"]}), encoding.dumps("x"))
circle = []; circle.append(circle)
try: encoding.dumps(circle)
except ValueError as error: print(error)
"""
    assert python(code) == [r'{"a":[1.5,"\u00e9"],"b":[1]} "x"', "Circular reference detected"]


def test_sqla_is_there_without_being_imported_by_name() -> None:
    code = "import fedmsg.encoding; print(fedmsg.encoding.sqla.to_json.__module__)"
    assert python(code) == ["fedmsg.encoding.sqla"]
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        encoding.no_such_name  # noqa: B018 - looking is the test

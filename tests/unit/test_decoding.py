# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading JSON: the results of Python's json, whichever decoder does the work."""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmsg import encoding
from fedmsg.encoding import _plain, _speed
from tests.unit.fresh import python
from tests.unit.json_values import VALUES, nested, outcome

DECODERS = pytest.mark.parametrize(
    "decode", [_plain.decode, _speed.decode, encoding.decode], ids=["json", "fast", "best"]
)


def by_json(body: bytes) -> Any:
    """The measure: what json makes of strict UTF-8."""
    return json.loads(body.decode())


ODDITIES = [
    b"", b" ", b"-", b"+1", b".5", b"1.", b"01", b"-01", b"1e", b"0x10", b"1_0", b"-0", b"[-0]", b"-0.0", b"-0e1",
    b"1E400", b"-1E400", b"1e-400", b"-1e-400", b"1e5", b"1E+5", b"1.0e05", b"4e-324", b"2.4703282292062327e-324",
    b"1.7976931348623158e308", b"1.7976931348623159e308", b"17976931348623158e292", b"100000000000000000e-17",
    b"999999999999999999", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"-9223372036854775808", b"-9223372036854775809", b"1" * 400, b"0." + b"1" * 400,
    b"123456789012345678.123456789012345678", b"123456789012345678e12", b"1" * 4300, b"1" * 4301, b"0" * 30,
    b"NaN", b"-NaN", b"nan", b"Infinity", b"-Infinity", b"[NaN,Infinity]", b"null", b"nul", b"nulll", b"True", b"true",
    b"{}", b"{} ", b" {}", b"\t\r\n{}\n", b"{}\x00", b"{}\x0b", b"{}\xc2\xa0", b"\xc2\xa0{}",
    b"\x00{}", b"{}{}", b"1 2",
    b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{\x00}\x00", b"1\x00", b"\xff", b"[1]\xff",
    b'"\xff"', b'"\xed\xa0\x80"',
    b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\uD83D\\uDE00"',
    b'"\\ud83d\xf0\x9f\x98\x80"', b'"\\u00"', b'"\\u+123"', b'"\\u 123"', b'"\\x41"',
    b'"\\/\\b\\f\\n\\r\\t\\"\\\\"', b'"\\u0000"',
    b'"\x00"', b'"\x1f"', b'"\t"', b'"\n"', b'"\x7f"', b'"\xc2\x85\xe2\x80\xa8"', b'"', b'"\\', b"'a'", b'"a',
    b'{"a":1,"b":2,"a":3}', b'{"":{"":""}}', b'{"a"}', b'{"a":}', b'{"a":1,}', b"{,}", b"{1:2}",
    b"[1,]", b"[,]", b"[", b"]",
    b'{"a":1 "b":2}', b"[1 2]", b"// c\n1", b"[1]//", b'{"' + b"k" * 100 + b'":1}', b'"1234567890123456789"',
]  # fmt: skip


@DECODERS
@pytest.mark.parametrize("body", ODDITIES)
def test_decode_oddities(decode: Callable[[bytes], Any], body: bytes) -> None:
    assert outcome(decode, body) == outcome(by_json, body)


@DECODERS
@given(value=VALUES, escaped=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_decode_what_was_written(decode: Callable[[bytes], Any], value: Any, escaped: bool, indent: int | None) -> None:
    try:
        body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode(errors="surrogatepass")
    except TypeError:  # keys of several kinds are fine unsorted, so it is not that
        body = b""
    assert outcome(decode, body) == outcome(by_json, body)


FLOATS = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@DECODERS
@given(text=FLOATS)
def test_decode_numbers(decode: Callable[[bytes], Any], text: str) -> None:
    assert outcome(decode, text.encode()) == outcome(by_json, text.encode())


@DECODERS
@given(
    value=VALUES, at=st.integers(0, 300), drop=st.integers(0, 3), put=st.sampled_from(ODDITIES) | st.binary(max_size=3)
)
def test_decode_what_was_tampered_with(
    decode: Callable[[bytes], Any], value: Any, at: int, drop: int, put: bytes
) -> None:
    body = json.dumps(value).encode()
    at %= len(body) + 1
    body = body[:at] + put + body[at + drop :]
    assert outcome(decode, body) == outcome(by_json, body)


@DECODERS
@given(
    body=st.text('{}[]:,"\\ue0123456789.+-truefalsn \n\ud83dé', max_size=40).map(lambda s: s.encode(errors="ignore"))
)
def test_decode_noise(decode: Callable[[bytes], Any], body: bytes) -> None:
    assert outcome(decode, body) == outcome(by_json, body)


@DECODERS
@given(VALUES)
def test_there_and_back_gives_the_same_bytes(decode: Callable[[bytes], Any], value: Any) -> None:
    try:
        body = encoding.dumps(value)
    except TypeError:
        body = encoding.dumps(repr(value))
    # Keys become text on the way, and text sorts otherwise than numbers do: so once more.
    body = encoding.dumps(decode(body.encode()))
    assert encoding.dumps(decode(body.encode())) == body
    assert encoding.dumps(encoding.loads(body)) == body


LOADABLE = [
    *ODDITIES, *(body.decode("latin-1") for body in ODDITIES), "\ud800", '"\ud800"', "\ufeff{}", '"\U0001f600"', "[1٣]",
    '{"a":"é"}'.encode("utf-16"), '{"a":"é"}'.encode("utf-16-be"), '{"a":"é"}'.encode("utf-32"), b"\xef\xbb\xbf[1]",
    bytearray(b'{"a":1}'), bytearray(b"\xff"),
]  # fmt: skip


@pytest.mark.parametrize("text", LOADABLE)
def test_loads_is_json_loads(text: Any) -> None:
    assert outcome(encoding.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", [None, 1, memoryview(b"1"), ["1"]])
def test_loads_wants_text(text: Any) -> None:
    with pytest.raises(TypeError):
        encoding.loads(text)


@pytest.mark.parametrize("text", ['{"a": 1.5}', b'{"a": 1.5}'])
def test_loads_takes_the_arguments_of_json_loads(text: str | bytes) -> None:
    assert encoding.loads(text, parse_float=decimal.Decimal) == {"a": decimal.Decimal("1.5")}
    assert encoding.loads(text, object_pairs_hook=list) == [("a", 1.5)]
    with pytest.raises(TypeError):
        encoding.loads(text, no_such_argument=1)


BOMBS = {
    "open arrays": b"[" * 200_000,
    "arrays": b"[" * 200_000 + b"]" * 200_000,
    "objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "arrays with a long number": b"[" * 200_000 + b"1" * 19 + b"]" * 200_000,
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_depth_bomb_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^nested too deeply$"):
        encoding.decode(body)
    for text in (body, body.decode(), bytearray(body)):
        with pytest.raises(ValueError, match=r"^nested too deeply$"):
            encoding.loads(text)


@DECODERS
@pytest.mark.parametrize("levels", [1, 200, 500])
def test_what_is_not_too_deep(decode: Callable[[bytes], Any], levels: int) -> None:
    assert decode(b"[" * levels + b"]" * levels) == nested(levels)


def test_without_the_fast_decoder() -> None:
    code = """
import sys
sys.modules["orjson"] = None  # what the import system makes of this is "not installed"
from fedmsg import encoding
print(encoding.decode(b'{"a": [1, 2.5, NaN]}'), encoding.loads('"\\\\ud800"') == "\\ud800", encoding.loads(b" [] "))
bomb = b"[" * 200000
for read in (encoding.decode, encoding.loads):
    for text in (bomb, b"{", b"\\xff"):
        try: read(text)
        except ValueError as error: print(type(error).__name__, str(error)[:20])
print([name for name in sys.modules if "speed" in name], encoding._decode.__module__)
"""
    assert python(code) == [
        "{'a': [1, 2.5, nan]} True []",
        *2
        * [
            "ValueError nested too deeply",
            "JSONDecodeError Expecting property n",
            "UnicodeDecodeError 'utf-8' codec can't ",
        ],
        "[] fedmsg.encoding._plain",
    ]


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("__version__ = '3.9.14'", "orjson 3.9.14 can be crashed by a message; upgrade it to 3.9.15"),
        ("__version__ = '2.10'", "orjson 2.10 can be crashed by a message; upgrade it to 3.9.15"),
        ("raise ImportError('built for another Python')", "built for another Python"),
    ],
)
def test_a_decoder_that_can_not_be_trusted_is_not_used(tmp_path: Path, library: str, reason: str) -> None:
    (tmp_path / "orjson.py").write_text(library)
    code = f"""
import logging, sys
sys.path.insert(0, {str(tmp_path)!r})
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
from fedmsg import encoding
print(encoding.decode(b"[1]"), encoding.loads("[2]"), encoding._decode.__module__)
"""
    assert python(code) == [
        f"WARNING Decoding with Python's json: {reason}",
        "[1] [2] fedmsg.encoding._plain",
    ]

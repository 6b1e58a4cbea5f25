# SPDX-License-Identifier: LGPL-2.1-or-later
"""build_parser, for commands of other people that parse their flags by argparse."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from fedmsg.config import build_parser


def parsed(declared: Any, argv: list[str], config: dict[str, Any] | None = None) -> dict[str, Any]:
    found = vars(build_parser(declared, "What it does.", config, prog="prog").parse_args(argv))
    del found["allow_insecure_config"]
    return found


def test_it_is_a_parser() -> None:
    parser = build_parser([], "What it does.\n\n    As written.", prog="prog")
    assert type(parser) is argparse.ArgumentParser
    assert parser.prog == "prog"
    assert "What it does.\n\n    As written." in parser.format_help()


def test_it_can_do_without_everything() -> None:
    assert parsed(None, []) == parsed([], [])
    assert build_parser([], None).description is None


def test_the_common_flags_have_the_built_in_defaults() -> None:
    assert parsed([], []) == {
        "io_threads": 1,
        "topic_prefix": "org.fedoraproject",
        "post_init_sleep": 0.5,
        "config_filename": None,
        "print_config": False,
        "timeout": 2,
        "high_water_mark": 0,
        "zmq_linger": 1000,
    }


def test_the_common_flags_have_their_types() -> None:
    argv = "--timeout 5 --linger 4 --io-threads 2 --post-init-sleep 1.5 --topic-prefix x --high-water-mark 3"
    found = parsed([], [*argv.split(), "--config-filename", "f", "--print-config"])
    assert {key: (value, type(value)) for key, value in found.items()} == {
        "io_threads": (2, int),
        "topic_prefix": ("x", str),
        "post_init_sleep": (1.5, float),
        "config_filename": ("f", str),
        "print_config": (True, bool),
        "timeout": (5.0, float),
        "high_water_mark": (3, int),
        "zmq_linger": (4, int),
    }


CONFIG = {"timeout": 5, "bar": 6, "foo": 7, "xx": 8, "fl": True}
DECLARED: list[Any] = [
    (["--foo"], {"dest": "xx", "default": 99, "help": "100% help"}),
    (["--bar"], {"default": 3}),
    (["--flag"], {"dest": "fl", "action": "store_true", "default": False}),
    (["--nd"], {"dest": "foo"}),
]


# As seen at 1.1.7, which however keeps the values in the caller's declarations.
def test_a_declared_default_gives_way_when_there_is_a_dest() -> None:
    found = parsed(DECLARED[1:], [], CONFIG)
    assert (found["bar"], found["fl"], found["foo"], found["timeout"]) == (3, True, None, 5)
    assert parsed([(["--foo"], {"dest": "xx", "default": 99})], [], CONFIG)["xx"] == 8
    assert parsed([(["--foo"], {"dest": "xx", "default": 99})], [], {})["xx"] == 99
    assert parsed([(["--foo"], {"dest": "xx", "default": 99})], ["--foo", "1"], CONFIG)["xx"] == "1"


def test_the_declarations_stay_as_they_are() -> None:
    declared: list[Any] = [(["--foo"], {"dest": "xx", "default": 99})]
    parsed(declared, [], CONFIG)
    assert declared == [(["--foo"], {"dest": "xx", "default": 99})]


def test_a_bad_value_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed([], ["--io-threads", "x"])
    assert caught.value.code == 2
    assert "--io-threads" in capsys.readouterr().err

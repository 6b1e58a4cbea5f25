# SPDX-License-Identifier: LGPL-2.1-or-later
"""The adapter from declared flags to click, and what a command line makes of a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pytest

from fedmsg.commands._options import CommandLine, Declaration
from fedmsg.exceptions import UsageError


def line(own: Sequence[Any], shared: Sequence[Declaration] = (), unused: Sequence[str] = ()) -> CommandLine:
    return CommandLine("greet", "Greet whoever is named.", own, shared, unused)


def parsed(own: Sequence[Any], arguments: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
    return line(own).parse(arguments.split())(config or {})


def hidden_type(text: str) -> int:
    if text != "7":
        raise argparse.ArgumentTypeError("only seven will do")
    return 7


# What is declared, what is given, what comes of it. argparse is asked too: commands were
# written for it.
TABLE: list[tuple[Declaration, str, Any]] = [
    ((["--whom"], {"dest": "x"}), "--whom you", "you"),
    ((["--whom"], {"dest": "x"}), "--whom=you", "you"),
    ((["--whom"], {"dest": "x"}), "", None),
    ((["--whom"], {"dest": "x", "default": "all"}), "", "all"),
    ((["-w", "--whom"], {"dest": "x"}), "-w you", "you"),
    ((["-w", "--whom"], {"dest": "x"}), "-wyou", "you"),
    ((["--whom"], {"dest": "x"}), "--wh you", "you"),
    ((["--whom"], {"dest": "x"}), "--whom a --whom b", "b"),
    ((["--times"], {"dest": "x", "type": int}), "--times 3", 3),
    ((["--times"], {"dest": "x", "type": int, "default": "4"}), "", 4),
    ((["--times"], {"dest": "x", "type": float}), "--times 0.5", 0.5),
    ((["--times"], {"dest": "x", "type": hidden_type}), "--times 7", 7),
    ((["--times"], {"dest": "x", "type": int, "choices": [1, 2]}), "--times 2", 2),
    ((["--how"], {"dest": "x", "choices": ("loud", "low")}), "--how low", "low"),
    ((["--two"], {"dest": "x", "nargs": 2}), "--two a b", ["a", "b"]),
    ((["--two"], {"dest": "x", "nargs": 2, "type": int, "metavar": ("A", "B")}), "--two 1 2", [1, 2]),
    ((["--one"], {"dest": "x", "nargs": 1}), "--one a", ["a"]),
    ((["--loud"], {"dest": "x", "action": "store_true"}), "--loud", True),
    ((["--loud"], {"dest": "x", "action": "store_true"}), "", False),
    ((["--loud"], {"dest": "x", "action": "store_true", "default": None}), "", None),
    ((["--quiet"], {"dest": "x", "action": "store_false"}), "--quiet", False),
    ((["--quiet"], {"dest": "x", "action": "store_false"}), "", True),
    ((["--polite"], {"dest": "x", "action": "store_const", "const": 8}), "--polite", 8),
    ((["--polite"], {"dest": "x", "action": "store_const", "const": 8, "default": 1}), "", 1),
    ((["-a", "--add"], {"dest": "x", "action": "append"}), "-a 1 --add 2", ["1", "2"]),
    ((["-a"], {"dest": "x", "action": "append"}), "", None),
    ((["-a"], {"dest": "x", "action": "append", "default": ["0"]}), "-a 1", ["0", "1"]),
    ((["-a"], {"dest": "x", "action": "append", "type": int, "nargs": 2}), "-a 1 2 -a 3 4", [[1, 2], [3, 4]]),
    ((["-v"], {"dest": "x", "action": "count"}), "-vvv", 3),
    ((["-v"], {"dest": "x", "action": "count", "default": 2}), "-v", 3),
    ((["-v"], {"dest": "x", "action": "count"}), "", None),
    ((["--whom"], {"dest": "x", "required": True}), "--whom you", "you"),
]


@pytest.mark.parametrize(("declaration", "given", "expected"), TABLE)
def test_declared_flags(declaration: Declaration, given: str, expected: Any) -> None:
    names, keys = declaration
    parser = argparse.ArgumentParser()
    parser.add_argument(*names, **keys)
    assert parsed([declaration], given) == {"x": expected} == vars(parser.parse_args(given.split()))


@pytest.mark.parametrize(
    ("names", "dest"),
    [(["--by-hand"], "by_hand"), (["-b", "--by-hand", "--hand"], "by_hand"), (["-b"], "b")],
)
def test_a_flag_without_dest_is_called_after_its_first_long_name(names: list[str], dest: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(*names)
    assert parsed([(names, {})], "") == {dest: None} == vars(parser.parse_args([]))


BAD_DECLARATIONS = [
    (["file"], {"dest": "x"}, "'-'"),
    ([], {"dest": "x"}, "'-'"),
    (["--x"], {"gravity": 1}, "'gravity'"),
    (["--x"], {"action": "extend"}, "'extend'"),
    (["--x"], {"action": argparse.Action}, "Action"),
    (["--x"], {"nargs": "*"}, "'nargs' '*'"),
    (["--x"], {"nargs": 0}, "'nargs' 0"),
    (["--x"], {"action": "version"}, "'version'"),
]


@pytest.mark.parametrize(("names", "keys", "named"), BAD_DECLARATIONS)
def test_what_the_adapter_does_not_know_is_named_with_its_flag(
    names: list[str], keys: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        line([(names, keys)])
    assert named in str(caught.value)
    assert "/".join(names) in str(caught.value)


BAD_USE = [
    ([], "--nonsense", "--nonsense"),
    ([], "word", "word"),
    ([(["--times"], {"type": int})], "--times x", "'x' is not a valid int"),
    ([(["--times"], {"type": hidden_type})], "--times 6", "only seven will do"),
    ([(["--how"], {"choices": ["loud", "low"]})], "--how high", "'high' is not one of 'loud', 'low'"),
    ([(["--whom"], {"required": True})], "", "--whom"),
    ([(["--whom"], {})], "--whom", "--whom"),
    ([(["--two"], {"nargs": 2})], "--two 1", "--two"),
    ([(["--loud"], {"action": "store_true"})], "--loud=3", "--loud"),
    ([(["--aa"], {}), (["--ab"], {})], "--a 1", "--a"),
]


@pytest.mark.parametrize(("own", "arguments", "said"), BAD_USE)
def test_bad_use_is_one_error_that_says_what(own: list[Declaration], arguments: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(own, arguments)
    assert said in str(caught.value)
    assert "greet --help" in str(caught.value)
    assert caught.value.exit_status == 2


def test_an_error_in_a_type_that_is_no_bad_value_is_not_hidden() -> None:
    def broken(_: str) -> int:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        parsed([(["--x"], {"type": broken})], "--x 1")


OWN: list[Declaration] = [
    (["--topic"], {"dest": "topic", "default": ""}),
    (["--add"], {"dest": "added", "action": "append"}),
    (["-v"], {"dest": "verbose", "action": "count"}),
    (["--validate"], {"dest": "validate", "action": "store_true", "default": False}),
    (["--no-validate"], {"dest": "validate", "action": "store_false", "default": False}),
]


@pytest.mark.parametrize(
    ("arguments", "config", "expected"),
    [
        ("", {}, {"topic": "", "added": None, "verbose": None, "validate": False}),
        ("", {"topic": "t", "other": 1}, {"topic": "t", "other": 1, "added": None, "verbose": None, "validate": False}),
        ("--topic f", {"topic": "t"}, {"topic": "f", "added": None, "verbose": None, "validate": False}),
        ("--add b", {"added": ["a"]}, {"topic": "", "added": ["a", "b"], "verbose": None, "validate": False}),
        ("-v", {"verbose": 2}, {"topic": "", "added": None, "verbose": 3, "validate": False}),
        ("", {"validate": True}, {"topic": "", "added": None, "verbose": None, "validate": True}),
        ("--no-validate", {"validate": True}, {"topic": "", "added": None, "verbose": None, "validate": False}),
        ("--validate --no-validate", {}, {"topic": "", "added": None, "verbose": None, "validate": False}),
        (
            "--validate --no-validate --validate",
            {},
            {"topic": "", "added": None, "verbose": None, "validate": True},
        ),
    ],
)
def test_the_default_of_a_flag_is_what_is_configured(
    arguments: str, config: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = {key: list(value) if isinstance(value, list) else value for key, value in config.items()}
    assert parsed(OWN, arguments, config) == expected
    assert config == before


def test_replaced_leaves_out_flags_that_add() -> None:
    given = line(OWN).parse("--topic f --add a -v --validate".split())
    assert given.replaced() == {"topic": "f", "validate": True}


def test_of_flags_that_share_a_dest_the_last_counts_whatever_their_types() -> None:
    own: list[Declaration] = [
        (["--level"], {"dest": "level", "type": int, "default": 3}),
        (["--quiet"], {"dest": "level", "action": "store_const", "const": 0}),
    ]
    assert parsed(own, "--level 5 --quiet") == {"level": 0}
    assert parsed(own, "--quiet --level 5") == {"level": 5}
    assert parsed(own, "") == {"level": 3}


def test_a_flag_of_the_command_replaces_a_shared_one_of_the_same_name() -> None:
    both = line([(["--debug"], {"dest": "mine"})], [(["--debug"], {"dest": "shared", "action": "store_true"})])
    assert both.parse(["--debug", "a"])({}) == {"mine": "a"}


def shown(capsys: pytest.CaptureFixture[str], command_line: CommandLine, argument: str = "--help") -> str:
    with pytest.raises(SystemExit) as caught:
        command_line.parse([argument])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("argument", ["--help", "-h", "--hel"])
def test_help(capsys: pytest.CaptureFixture[str], argument: str) -> None:
    doc = """Greet.

    For example::

        $ greet --whom you | cat
        $ greet
    """
    own: list[Declaration] = [
        (["--whom"], {"default": "all", "help": "Whom to greet, by default %(default)s; 100%% sure."}),
        (["--odd"], {"help": "100% odd %(nothing)s"}),
        (["--two"], {"nargs": 2, "metavar": ("FROM", "TO")}),
        (["--many"], {"nargs": 3}),
        (["--how"], {"choices": ["loud", "low"]}),
        (["--secret"], {"help": argparse.SUPPRESS}),
    ]
    shared: list[Declaration] = [(["--timeout"], {"dest": "timeout"}), (["--linger"], {"dest": "zmq_linger"})]
    text = shown(capsys, CommandLine("greet", doc, own, shared, ["timeout"]), argument)
    # Line breaks of the author stay.
    assert "  For example::\n\n      $ greet --whom you | cat\n      $ greet\n" in text
    assert "by default all; 100% sure." in text
    assert "100% odd %(nothing)s" in text
    assert "--two FROM TO" in text
    assert "--many MANY MANY MANY" in text
    assert "--how [loud|low]" in text
    assert text.index("Options:") < text.index("--how") < text.index("Common options:") < text.index("--linger")
    assert "--secret" not in text
    assert "--timeout" not in text


def test_what_help_does_not_show_is_accepted() -> None:
    command_line = line([], [(["--timeout"], {"dest": "timeout", "type": int})], ["timeout"])
    assert command_line.parse(["--timeout", "3"])({}) == {"timeout": 3}


@pytest.mark.parametrize("version", ["%(prog)s 3", lambda: "%(prog)s 3"])
def test_version(capsys: pytest.CaptureFixture[str], version: Any) -> None:
    flags: list[Declaration] = [
        (["--version"], {"action": "version", "version": version}),
        (["--whom"], {"required": True}),
    ]
    assert shown(capsys, line(flags), "--version") == "greet 3\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("greet --w", ["--whom"]),
        ("greet --how ", ["loud", "low"]),
        ("greet --how lou", ["loud"]),
        ("greet --times ", []),
        ("greet --nonsense --w", ["--whom"]),
    ],
)
def test_shell_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, offered: list[str]
) -> None:
    own: list[Declaration] = [(["--whom"], {}), (["--how"], {"choices": ["loud", "low"]}), (["--times"], {"type": int})]
    monkeypatch.setenv("_GREET_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        line(own).parse([])
    assert [row.partition(",")[2] for row in capsys.readouterr().out.split()] == offered

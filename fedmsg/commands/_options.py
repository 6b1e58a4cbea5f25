# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of the commands: their flags, on click.

A command declares its flags as tuples, ``(["--flag"], {"dest": ..., "help": ...})``, the
way that commands written for fedmsg 1.x do, and the flags that all commands share are
declared in the same way. :class:`Flag` is the one adapter that makes click's options of
them; it names whatever it doesn't know.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fedmsg.exceptions import UsageError

__all__ = ["CommandLine", "Declaration", "Flag", "Given", "flag"]

Declaration = tuple[Sequence[str], Mapping[str, Any]]

_KEYS = frozenset(
    ["action", "choices", "const", "default", "dest", "help", "metavar", "nargs", "required", "type", "version"]
)

# For each action: the arguments for click, and the value of an absent flag.
_SWITCH = {"is_flag": True, "flag_value": True, "default": None}
_ACTIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "store": ({}, None),
    "store_true": (_SWITCH, False),
    "store_false": (_SWITCH, True),
    "store_const": (_SWITCH, None),
    "append": ({"multiple": True}, None),
    "count": ({"count": True}, None),
    "version": ({**_SWITCH, "is_eager": True}, None),
}

# argparse's mark of a flag that is not shown.
_HIDDEN = "==SUPPRESS=="

# Where a command keeps, during one parse, the order in which the flags came.
_ORDER = "fedmsg.order"

# Under which name click knows the argument that is no flag.
_ARGUMENT = "argument"


def flag(*names: str, **keys: Any) -> Declaration:
    """Return the declaration of a flag; the arguments are those of argparse's ``add_argument``."""
    return names, keys


class Flag:
    """One declared flag, in argparse's words: how click reads it and what comes of it.

    Its ``dest`` is the configuration key that it sets; one that ``adds`` extends what is configured.

    Raises:
        UsageError: The declaration asks for something that is not supported.
    """

    def __init__(self, names: Sequence[str], keys: Mapping[str, Any]) -> None:
        self.names = list(names)
        self._keys = keys
        self._action = keys.get("action", "store")
        self._check()
        self.adds = self._action in {"append", "count"}
        long_names = [name for name in names if name.startswith("--")]
        self.dest: str = keys.get("dest") or (long_names or self.names)[0].lstrip("-").replace("-", "_")
        self._for_click, absent = _ACTIONS[self._action]
        default = keys.get("default", absent)
        self.default = keys["type"](default) if isinstance(default, str) and keys.get("type") else default

    def _check(self) -> None:
        """Reject what is not supported, naming the flag and the key."""
        flag = "/".join(self.names)
        if not self.names or not all(name.startswith("-") for name in self.names):
            raise UsageError(f"extra_args: {flag or 'a flag'} must have a name that begins with '-'")
        for key, value in self._keys.items():
            if key not in _KEYS:
                raise UsageError(f"extra_args: {flag} has the key {key!r}; known are {', '.join(sorted(_KEYS))}")
            if key == "nargs" and value is not None and not (isinstance(value, int) and value > 0):
                raise UsageError(f"extra_args: {flag} has 'nargs' {value!r}; it must be a number above 0")
            if key == "action" and value not in _ACTIONS:
                raise UsageError(f"extra_args: {flag} has the action {value!r}; known are {', '.join(_ACTIONS)}")
        if self._action == "version" and "version" not in self._keys:
            raise UsageError(f"extra_args: {flag} has the action 'version' but no key 'version'")

    def hidden(self) -> Flag:
        """Return the same flag, not shown by ``--help``."""
        return Flag(self.names, {**self._keys, "help": _HIDDEN})

    def option(self, number: int, prog: str) -> click.Option:
        """Make the option that click parses."""
        keys = self._keys
        more = dict(self._for_click)
        if self._action in {"store", "append"}:
            more["nargs"] = keys.get("nargs") or 1
            more["metavar"] = self._metavar()
            more["type"] = _Value(keys.get("type"), keys.get("choices"))
        if self._action == "version":
            more["callback"] = _version_printer(keys["version"], prog)
        text = keys.get("help") or ""
        return click.Option(
            [*self.names, _name(number)],
            help=self._expanded(text, prog),
            hidden=text == _HIDDEN,
            required=bool(keys.get("required")),
            **more,
        )

    def _metavar(self) -> str:
        """Return what stands for the value in the help."""
        metavar = self._keys.get("metavar")
        if metavar is None and (choices := self._keys.get("choices")) is not None:
            return f"[{'|'.join(map(str, choices))}]"
        if isinstance(metavar, (tuple, list)):
            return " ".join(metavar)
        return " ".join([metavar or self.dest.upper()] * (self._keys.get("nargs") or 1))

    def _expanded(self, text: str, prog: str) -> str:
        """Fill in what argparse would, such as ``%(default)s``; other percent signs stay."""
        values = {**self._keys, "default": self.default, "dest": self.dest, "prog": prog}
        try:
            return text % values
        except (KeyError, TypeError, ValueError):
            return text

    def combine(self, base: Any, given: Any) -> Any:
        """Return the value that a flag makes of what click read and of the configured value or default."""
        if self._action in {"store_true", "store_false", "store_const"}:
            return {"store_true": True, "store_false": False}.get(self._action, self._keys.get("const"))
        if self._action == "count":
            return (base or 0) + given
        if self._action == "append":
            return [*(base or ()), *map(self._listed, given)]
        return self._listed(given)

    def _listed(self, value: Any) -> Any:
        # argparse makes a list wherever there is nargs, even for nargs=1.
        nargs = self._keys.get("nargs")
        return value if nargs is None else [value] if nargs == 1 else list(value)


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _ParamType = click.ParamType[Any]
else:  # generic only in newer releases of click
    _ParamType = click.ParamType


class _Value(_ParamType):
    """A value that a declared callable converts and that may have to be one of some choices."""

    name = "value"

    def __init__(self, function: Callable[[str], Any] | None, choices: Collection[Any] | None) -> None:
        self._function = function
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the text of the command line into the value."""
        if self._function is not None:
            value = self._call(self._function, value, param, ctx)
        if self._choices is not None and value not in self._choices:
            self.fail(f"{value!r} is not one of {', '.join(map(repr, self._choices))}", param, ctx)
        return value

    def _call(
        self, function: Callable[[str], Any], value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        try:
            return function(value)
        except Exception as error:
            # By its name: importing argparse for its exception would cost every command 8 ms.
            if not isinstance(error, (TypeError, ValueError)) and type(error).__name__ != "ArgumentTypeError":
                raise
            kind = getattr(function, "__name__", "value")
            self.fail(f"{value!r} is not a valid {kind}" if kind in {"int", "float"} else str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the choices."""
        # Not loaded by click itself either unless a shell asks.
        from click.shell_completion import CompletionItem

        del ctx, param
        return [CompletionItem(text) for text in map(str, self._choices or ()) if text.startswith(incomplete)]


class _Command(click.Command):
    """A command whose description stays as its author broke the lines, and whose shared flags come last."""

    own: Sequence[click.Option] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and remember in which order the flags came: of those that share a dest the last one counts."""
        _, _, ctx.meta[_ORDER] = self.make_parser(ctx).parse_args(args=list(args))
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description."""
        del ctx
        formatter.write("\n")
        formatter.write("".join(f"  {line}".rstrip() + "\n" for line in (self.help or "").splitlines()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own flags, then those that all commands share."""
        shared = [option for option in self.get_params(ctx) if option not in self.own]
        for title, options in (("Options", self.own), ("Common options", shared)):
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class CommandLine:
    """All flags of one command: its own, and the shared ones that it has none of the same name for.

    Shared flags whose dests are unused are accepted, so that scripts may always use them, but not shown.

    Args:
        prog: The name of the command.
        description: What it does.
        own: Its own flags.
        shared: The flags of all commands.
        unused: The dests of those that make no difference to it.
        argument: The dest of the one argument that is no flag and may be left out.

    Raises:
        UsageError: A declaration asks for something that is not supported.
    """

    def __init__(
        self,
        prog: str,
        description: str | None,
        own: Iterable[Declaration],
        shared: Iterable[Declaration],
        unused: Collection[str] = (),
        *,
        argument: str = "",
    ) -> None:
        self._prog = prog
        flags = [Flag(names, keys) for names, keys in own]
        count = len(flags)
        own_names = {name for flag in flags for name in flag.names}
        flags += [
            flag if flag.dest not in unused else flag.hidden()
            for flag in (Flag(names, keys) for names, keys in shared)
            if not own_names.intersection(flag.names)
        ]
        self._flags = {_name(number): flag for number, flag in enumerate(flags)}
        self.defaults = {flag.dest: flag.default for flag in reversed(flags[:count])}
        options = [flag.option(number, prog) for number, flag in enumerate(flags)]
        params: list[click.Parameter] = [*options]
        if argument:
            self._flags[_ARGUMENT] = Flag(["--" + argument], {})
            params.append(click.Argument([_ARGUMENT], required=False, metavar=argument.upper()))
        self._command = _Command(
            prog,
            params=params,
            help=inspect.cleandoc(description or ""),
            callback=self._collect,
            context_settings={
                "help_option_names": [name for name in ("-h", "--help") if name not in own_names],
                "token_normalize_func": self._whole_name,
            },
        )
        self._command.own = options[:count]

    def parse(self, arguments: Sequence[str]) -> Given:
        """Read a command line; ``--help``, ``--version`` and the shell's completion end the process.

        Raises:
            UsageError: It makes no sense.
        """
        try:
            found = self._command.main(list(arguments), self._prog, standalone_mode=False)
        except click.ClickException as error:
            raise UsageError(f"{error.format_message()} (see {self._prog} --help)") from error
        if not isinstance(found, Given):
            sys.exit(found)
        return found

    def _collect(self, **values: Any) -> Given:
        """Pick the flags that were given, each at the place where it came last."""
        ctx = click.get_current_context()
        last = dict.fromkeys(param.name for param in reversed(ctx.meta[_ORDER]))
        given = [
            (self._flags[name], values[name])
            for name in reversed(last)
            if name in values and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        return Given(self.defaults, given)

    def _whole_name(self, name: str) -> str:
        """Complete the beginning of a flag's name, where it fits one flag: argparse, and so 1.x, does."""
        names = [long[2:] for flag in self._flags.values() for long in flag.names if long.startswith("--")]
        fitting = [long for long in [*names, "help"] if long.startswith(name)]
        return fitting[0] if len(name) > 1 and len(fitting) == 1 else name


class Given:
    """What was on a command line.

    Calling it with a configuration returns one with the flags in it: a flag on the
    command line wins, any other has its configured value, or its default where there is none.
    """

    def __init__(self, defaults: Mapping[str, Any], given: Sequence[tuple[Flag, Any]]) -> None:
        self._defaults = defaults
        self._given = given

    def replaced(self) -> dict[str, Any]:
        """Return the values of the flags that don't depend on what is configured."""
        return {flag.dest: flag.combine(None, value) for flag, value in self._given if not flag.adds}

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        changed = {**self._defaults, **config}
        for flag, value in self._given:
            changed[flag.dest] = flag.combine(changed.get(flag.dest), value)
        return changed


def _name(number: int) -> str:
    """Return the name under which click knows a flag."""
    return f"flag_{number}"


def _version_printer(version: str | Callable[[], str], prog: str) -> Callable[..., None]:
    """Make the callback of a flag that prints the version and ends the process."""

    def show(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value and not ctx.resilient_parsing:
            text = version() if callable(version) else version
            click.echo(text.replace("%(prog)s", prog))
            ctx.exit()

    return show

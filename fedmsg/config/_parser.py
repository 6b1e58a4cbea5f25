# SPDX-License-Identifier: LGPL-2.1-or-later
"""The argparse parser that :func:`fedmsg.config.build_parser` returns, for commands of others."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedmsg.config import settings
from fedmsg.config.settings import kinds

if TYPE_CHECKING:
    import argparse

__all__ = ["Declaration", "all_flags", "build", "given_flags"]

Declaration = tuple[Sequence[str], Mapping[str, Any]]

_TYPES = {kinds.INTEGER: int, kinds.NUMBER: float, kinds.SECONDS: float, kinds.TEXT: str}


def build(
    declared: Iterable[Declaration] | None,
    doc: str | None,
    config: Mapping[str, Any],
    prog: str | None = None,
    *,
    given_only: bool = False,
) -> argparse.ArgumentParser:
    """Make the parser; with ``given_only`` a flag that is not given has no entry in the result, not even a default."""
    # Costs 10 ms, and our own commands have another command line.
    import argparse

    parser = argparse.ArgumentParser(prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for names, keys in [*_common_flags(), *(declared or ())]:
        arguments = dict(keys)
        if "dest" in arguments and "default" in arguments:
            arguments["default"] = config.get(arguments["dest"], arguments["default"])
        if given_only:
            arguments["default"] = argparse.SUPPRESS
        parser.add_argument(*names, **arguments)
    return parser


def _common_flags() -> list[Declaration]:
    """Declare the flags that every command has."""
    flags: list[Declaration] = []
    for row in settings.TABLE.values():
        if row.flag is None:
            continue
        # A per cent sign would begin a placeholder.
        arguments = {"dest": row.name, "default": row.default, "help": row.help.replace("%", "%%")}
        arguments |= {"action": "store_true"} if row.kind is kinds.BOOLEAN else {"type": _TYPES[row.kind]}
        flags.append(([row.flag], arguments))
    flags.append((["--config-filename"], {"help": "The file to read instead of those in the usual places."}))
    insecure = "Read configuration files whatever their owner and mode."
    flags.append((["--allow-insecure-config"], {"action": "store_true", "help": insecure}))
    return flags


def given_flags(declared: Iterable[Declaration], doc: str | None) -> dict[str, Any]:
    """Parse the command line of the process, and return the flags that are really on it."""
    if not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
        # Shows the defaults, which the parser below has not, and needs no configuration, which may be broken.
        build(declared, doc, {}).parse_args()
    return vars(build(declared, doc, {}, given_only=True).parse_args())


def all_flags(declared: Iterable[Declaration], doc: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the command line of the process, and return every flag that belongs into the configuration."""
    found = vars(build(declared, doc, config).parse_args())
    del found["allow_insecure_config"]
    return found

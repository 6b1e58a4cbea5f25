# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands that consist of several, such as ``fedmsg-certs issue``."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import click

from fedmsg.commands import _process

__all__ = ["WholeHelp", "run"]


class WholeHelp(click.Group):
    """A group whose ``--help`` shows the options of its commands too: one page has everything."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the group, and a section for each command."""
        super().format_options(ctx, formatter)
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            inner = click.Context(command, info_name=name, parent=ctx)
            records = [record for one in command.get_params(inner) if (record := one.get_help_record(inner))]
            with formatter.section(" ".join([name, *command.collect_usage_pieces(inner)])):
                formatter.write_text(inspect.cleandoc(command.help or ""))
                formatter.write_dl([record for record in records if not record[0].startswith("--help")] or [("", "")])


def run(group: click.Group, prog: str) -> Any:
    """Run a command line to its end; returns the exit status.

    Raises:
        SystemExit: It failed, with the status for the failure.
    """
    with _process.reporting(prog, debug="--debug" in sys.argv[1:]):
        _process.write_what_can_be_written()
        try:
            return group.main(prog_name=prog, standalone_mode=False)
        except click.Abort:
            return 130
        except click.ClickException as error:
            error.show()
            return error.exit_code

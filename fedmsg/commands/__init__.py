# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands, one module each, and the class that all of them are built on.

::

    from fedmsg.commands import BaseCommand


    class GreetCommand(BaseCommand):
        '''Greet by name.'''

        name = "greet"
        extra_args = [(["--name"], {"dest": "greeted", "default": "all", "help": "The name."})]

        def run(self):
            print("Hello", self.config["greeted"])


    def greet():
        return GreetCommand().execute()
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import fedmsg.config
from fedmsg._util import plugins, text
from fedmsg.commands import _options, _process, _shared
from fedmsg.commands._options import Declaration
from fedmsg.config import settings
from fedmsg.exceptions import ConfigError, UsageError, WorkLeft
from fedmsg.transport import choice

__all__ = ["BaseCommand", "Declaration", "dictConfig", "logging_errors"]


# Daemons that were written for fedmsg 1.x run moksha's hub inside of a command.
plugins.provide("moksha", "fedmsg.hub", "provide_moksha")


def dictConfig(config: dict[str, Any]) -> None:  # noqa: N802 the name of logging's own, and the one that is looked up
    """Set up logging, as :func:`logging.config.dictConfig` does."""
    # Costs 8 ms, which a command that only shows its help need not pay.
    from logging import config as logging_config

    logging_config.dictConfig(config)
    text.protect_handlers()


@contextmanager
def logging_errors() -> Iterator[None]:
    """Turn what a bad value of ``logging`` can cause into a ConfigError.

    Raises:
        ConfigError: The value can't be used.
    """
    try:
        yield
    # What setting up logging meets it may stumble over in any of these ways.
    except (ValueError, TypeError, AttributeError, LookupError, ImportError) as error:
        reason = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise ConfigError(f"logging: {reason}") from error


class BaseCommand:
    """A command: its flags, its configuration, and the way that it runs and ends.

    To construct one reads the command line of the process and loads the configuration.
    What goes wrong from there on is one line on standard error and an exit status, see
    :mod:`fedmsg.exceptions`; ``--debug`` shows the traceback too.

    Attributes:
        extra_args: Its own flags, as tuples of their names and of argparse's keywords.
        daemonizable: Whether it goes to the background where ``daemon`` is configured.
        unused_flags: The configuration keys of common flags that make no difference to it;
            these flags are accepted, but not shown by ``--help``.
        argument: The configuration key of the one argument that is no flag, which may be left out.
        needs_zmq: Whether it can do nothing without ZeroMQ.
        needs_bus: Whether it can do nothing without ZeroMQ or a broker in its place.
        prints_data: Whether standard output is for what it prints, so that the log has to
            go elsewhere.
        config: The configuration, flags included.
    """

    name: str = ""
    extra_args: ClassVar[Sequence[Declaration]] = ()
    daemonizable: bool = False
    unused_flags: AbstractSet[str] = frozenset()
    argument: str = ""
    needs_zmq: bool = False
    needs_bus: bool = False
    prints_data: bool = False

    log = logging.getLogger("fedmsg.commands")

    # Here, since others override get_config, and tests make a command without its constructor.
    _debug: bool = False
    _log_level: str | None = None

    def __init__(self) -> None:
        # From the command line alone: the rest of it may be what is wrong.
        self._debug = "--debug" in sys.argv[1:]
        with _process.reporting(self._prog, debug=self._debug):
            try:
                self.config = self.get_config()
                self._set_up_logging()
            except KeyboardInterrupt:
                raise WorkLeft("stopped before it had begun") from None

    @property
    def _prog(self) -> str:
        return self.name or os.path.basename(sys.argv[0])

    def get_config(self) -> dict[str, Any]:
        """Read the command line and load the configuration, with all flags in it.

        Raises:
            SystemExit: The command line asked for something else, such as ``--help``.
            UsageError: It makes no sense.
            ConfigError: The configuration can't be used.
        """
        line = _options.CommandLine(
            self._prog, self.__doc__, self.extra_args or (), _shared.declarations(), self.unused_flags,
            argument=self.argument,
        )  # fmt: skip
        flags = _shared.LateFlags(line)
        config = fedmsg.config.load_config(self.extra_args, self.__doc__, flags=flags)
        self._log_level = flags.log_level
        return flags.complete(config)

    def _set_up_logging(self) -> None:
        config = self.config.get("logging")
        if not config:
            return
        with logging_errors():
            dictConfig(self._adapted(config) if self._log_level is not None or self.prints_data else config)

    def _adapted(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Change the configured logging the way that flags and the use of standard output demand."""
        handlers = {name: dict(handler) for name, handler in config.get("handlers", {}).items()}
        loggers = {name: dict(logger) for name, logger in config.get("loggers", {}).items()}
        for handler in handlers.values():
            if self.prints_data and handler.get("stream") == "ext://sys.stdout":
                handler["stream"] = "ext://sys.stderr"
        if self._log_level is not None:
            for one in (*handlers.values(), *loggers.values()):
                one["level"] = self._log_level
        return {**config, "handlers": handlers, "loggers": loggers}

    def run(self) -> Any:
        """Do the work; every command has its own. The result is the exit status, None is 0."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def execute(self) -> Any:
        """Run the command to its end, or until it is stopped; return what `run` returns, or 0 when it was stopped.

        Raises:
            SystemExit: It failed, with the status for the failure.
        """
        with _process.reporting(self._prog, debug=self._debug):
            is_off = self.needs_bus and choice.of(self.config).is_off
            if is_off or (self.needs_zmq and not settings.of(self.config).zmq_enabled):
                raise ConfigError(f"{self._prog} needs ZeroMQ, and zmq_enabled is False; set it to True")
            if self.prints_data and sys.stdout is None:
                raise UsageError("standard output is closed: there is nowhere to print to")
            try:
                with _process.interruptible(self._prog), self._output():
                    if self.daemonizable and self.config.get("daemon"):
                        return self._run_in_background()
                    return self.run()
            except KeyboardInterrupt:
                return 0

    def _output(self) -> AbstractContextManager[None]:
        return _process.ending_with_output() if self.prints_data else nullcontext()

    def _run_in_background(self) -> Any:
        plugins.lazy("daemon").detach(self.config.get("pidfile"))
        # Standard error is not seen any more.
        with _process.reporting(self._prog, debug=self._debug, log=self.log):
            return self.run()

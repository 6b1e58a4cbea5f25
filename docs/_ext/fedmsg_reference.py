# SPDX-License-Identifier: LGPL-2.1-or-later
"""Directives that write the reference from the program itself, so that it can't be out of date."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import pprint
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from fedmsg import exceptions
from fedmsg.config import settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

    from fedmsg._web.arguments import Argument

# What each extra is good for; a test compares the names with those that setup.py declares.
EXTRAS = {
    "amqp": "RabbitMQ as the bus, with ``broker_url``.",
    "commands": "What the commands can use beyond the basics: detaching, as with ``daemon``, and asking a datagrepper.",
    "consumers": "The consumers that ship.",
    "crypto": "Signing messages and checking signatures, with X.509 certificates and with GnuPG; ``fedmsg-certs``.",
    "crypto_ng": "The same as ``crypto``; a second name for the sake of old requirement files.",
    "daemon": "Detaching from the terminal, with ``daemon: true``.",
    "datagrepper": "The history over HTTP.",
    "datanommer": "The history in a database.",
    "irc": "The IRC bot.",
    "metrics": "Metrics for Prometheus, with ``metrics_port``.",
    "speed": "Faster decoding of what is received.",
    "sql": "Keeping messages for replay in a database; sending SQLAlchemy models.",
    "srv": "Endpoints from the DNS, with ``srv_endpoints``.",
    "statscache": "Statistics that are kept up to date.",
    "all": "All of the above.",
    "docs": "For developers: building this documentation.",
    "test": "For developers: running the tests.",
}

# The parts of the table of settings, as headings.
SECTIONS = {
    "base": "Every program",
    "sockets": "Sockets",
    "endpoints": "Addresses",
    "relay": "Publishing through a relay",
    "gateway": "The gateway",
    "ssl": "Signatures",
    "curve": "Encrypted connections (CURVE)",
    "meta": "Messages in words",
    "irc": "The IRC bot",
    "replay": "Keeping messages for replay",
    "stream": "The stream of a relay",
    "broker": "RabbitMQ instead of ZeroMQ",
    "datanommer": "The history",
    "logging": "Logging",
    "stomp": "A STOMP broker instead of ZeroMQ",
    "hub": "The hub and its consumers",
    "datagrepper": "The history over HTTP",
    "statscache": "Statistics",
    "daemon": "Running in the background",
}

# A default that is longer gets a block of its own.
LONGEST_DEFAULT = 80


def requirement_name(requirement: str) -> str:
    """Return the name of the library in a requirement such as ``click>=8.1; extra == "x"``."""
    return re.split(r"[<>=!~ ;\[(]", requirement, maxsplit=1)[0]


def requirements() -> dict[str, list[str]]:
    """Return the libraries that the distribution needs, by extra; the basic ones under the empty name."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in importlib.metadata.requires("fedmsg") or []:
        extra = re.search(r"""extra == ['"]([\w-]+)['"]""", line)
        found[extra[1].replace("-", "_") if extra else ""].append(requirement_name(line))
    return found


def list_table(header: Iterable[str], rows: Iterable[Iterable[str]], widths: str = "auto") -> str:
    """Write a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row)]
    return "\n".join([*lines, ""])


class Generated(SphinxDirective):
    """A directive that takes the place of reStructuredText that `text` writes."""

    def text(self) -> str:
        """Return the reStructuredText."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse it."""
        return self.parse_text_to_nodes(self.text(), allow_section_headings=True)


class Settings(Generated):
    """Every setting of the table, with its type, defaults and help."""

    def text(self) -> str:
        """Write a section for each part of the table, in the order of the table."""
        sections: defaultdict[str, list[settings.Setting[Any]]] = defaultdict(list)
        for row in settings.TABLE.values():
            sections[row.section].append(row)
        lines = []
        for section, rows in sections.items():
            lines += [SECTIONS[section], "-" * len(SECTIONS[section]), "", *map(self.setting, rows)]
        return "\n".join(lines)

    def setting(self, row: settings.Setting[Any]) -> str:
        """Write the entry of one setting."""
        default = "made from ``topic_prefix``" if row.derived else f"``{row.default!r}``"
        lines = [
            f".. confval:: {row.name}",
            f"   :type: {row.type}{f', {row.unit}' if row.unit else ''}",
            *([f"   :default: {default}"] if len(default) <= LONGEST_DEFAULT else []),
            "",
            f"   {row.help}",
            "",
        ]
        if row.flag:
            lines += [f"   On the command line: ``{row.flag}``.", ""]
        if len(default) > LONGEST_DEFAULT:
            lines += ["   Default::", "", textwrap.indent(pprint.pformat(row.default, sort_dicts=False), "      "), ""]
        if not row.in_conf:
            lines += ["   Not in ``conf`` unless configured.", ""]
        elif row.conf_default != row.default and len(repr(row.conf_default)) <= LONGEST_DEFAULT:
            lines += [f"   In ``conf``: ``{row.conf_default!r}``.", ""]
        elif row.conf_default != row.default:
            lines += [
                "   In ``conf``::",
                "",
                textwrap.indent(pprint.pformat(row.conf_default, sort_dicts=False), "      "),
                "",
            ]
        return "\n".join(lines)


class Extras(Generated):
    """The extras and what each of them brings."""

    def text(self) -> str:
        """Write the table; of those with everything in them the list would say nothing."""
        brought = requirements()
        rows = [
            (f"``{name}``", text, "" if name in {"all", "docs", "test"} else ", ".join(sorted(brought[name])))
            for name, text in EXTRAS.items()
        ]
        return list_table(("Extra", "For", "Brings"), rows, "15 45 40")


class BasicRequirements(Generated):
    """The libraries that every installation has."""

    def text(self) -> str:
        """Write the list."""
        return ", ".join(sorted(requirements()[""])) + "."


class ExitStatuses(Generated):
    """What a command's exit status means, from the tree of errors."""

    def text(self) -> str:
        """Write the table."""
        meaning: dict[int, tuple[str, str]] = {
            0: ("Done.", ""),
            1: ("The answer is no (``fedmsg-config --query``, ``--check``).", ""),
        }
        for name in exceptions.__all__:
            error = getattr(exceptions, name)
            if "exit_status" in vars(error) and name not in {"TransportError", "FedmsgError"}:
                summary = (inspect.getdoc(error) or "").splitlines()[0]
                meaning[error.exit_status] = (summary, f":class:`~fedmsg.exceptions.{name}`")
        meaning[70] = ("A defect of fedmsg: please report it, with what ``--debug`` shows.", "")
        rows = [(str(status), *meaning[status]) for status in sorted(meaning)]
        return list_table(("Status", "Meaning", "In Python"), rows, "10 60 30")


class Floors(Generated):
    """The floors of the house, from the table that the tests hold."""

    def text(self) -> str:
        """Write the table, the top floor first."""
        from tests.structure.test_floors import FLOORS

        floors = defaultdict(list)
        for room, floor in FLOORS.items():
            floors[floor].append(room)
        return list_table(
            ("Floor", "Rooms"),
            [
                (str(floor), ", ".join(f"``{room}``" for room in floors[floor]))
                for floor in sorted(floors, reverse=True)
            ],
            "10 90",
        )


class Bench(Generated):
    """The table of the last whole ``make bench``."""

    def text(self) -> str:
        """Show the table as it was printed."""
        table = Path(self.env.srcdir) / "explanation" / "bench.txt"
        self.env.note_dependency(table)
        if not table.exists():
            return "No whole run has been kept yet.\n"
        return "::\n\n" + textwrap.indent(table.read_text(encoding="utf-8"), "    ")


class Command(Generated):
    """What a command's ``--help`` says, by running it."""

    required_arguments: ClassVar[int] = 1

    def text(self) -> str:
        """Write the help as it comes."""
        return "::\n\n" + textwrap.indent(help_of(self.arguments[0]), "    ")


class Synopsis(Generated):
    """The line of a command's ``--help`` that shows how it is called."""

    required_arguments: ClassVar[int] = 1

    def text(self) -> str:
        """Write the usage without its heading."""
        usage = help_of(self.arguments[0]).partition("\n\n")[0].partition("Usage: ")[2]
        return "::\n\n" + textwrap.indent(" ".join(usage.split()), "    ") + "\n"


def requests(summaries: Mapping[str, str], routes: Mapping[str, list[Argument]]) -> str:
    """Write a part for each route: what it answers, and its arguments."""
    parts = []
    for route, summary in summaries.items():
        title = f"``{route}``"
        parts += [title, "-" * len(title), "", f"{summary}.", ""]
        rows = routes.get(route, [])
        if rows:
            table = [
                (f"``{row.name}``" + (" (repeatable)" if row.repeated else ""), row.help.replace("*", r"\*"),
                 "" if row.default is None else f"``{row.default}``", f"``{row.example}``" if row.example else "")
                for row in rows
            ]  # fmt: skip
            parts += [list_table(("Argument", "For", "Default", "Example"), table, "20 45 15 20"), ""]
    return "\n".join(parts)


class Requests(Generated):
    """What each route of the history over HTTP answers, and its arguments, from the table that parses them."""

    def text(self) -> str:
        """Write a part for each route."""
        from fedmsg.datagrepper import arguments, openapi

        return requests(openapi.SUMMARIES, arguments.ROUTES)


class StatisticsRequests(Generated):
    """The same of the statistics over HTTP."""

    def text(self) -> str:
        """Write a part for each route."""
        from fedmsg.statscache.app import arguments

        return requests(arguments.SUMMARIES, arguments.ROUTES)


class Files(Generated):
    """The files that every command reads."""

    FILES: ClassVar[dict[str, str]] = {
        "``/etc/fedmsg.d``, ``~/.fedmsg.d``, ``./fedmsg.d``": "Folders of configuration files: Python and YAML.",
        "``/etc/fedmsg-config.py``, ``~/.fedmsg-config.py``, ``./fedmsg-config.py``": "Single files, read after them.",
        "``$FEDMSG_CONFIG``": "One file or folder, read in place of all others.",
    }

    def text(self) -> str:
        """Write the list."""
        return "\n".join(f"{names}\n    {text}" for names, text in self.FILES.items()) + "\n"


def help_of(command: str) -> str:
    """Run ``<command> --help`` and return what it prints.

    Raises:
        RuntimeError: It fails.
    """
    entry = importlib.metadata.entry_points(group="console_scripts")[command]
    program = f"import sys; sys.argv = [{command!r}, '--help']; from {entry.module} import {entry.attr} as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "88", "FEDMSG_CONFIG": os.devnull, "NO_COLOR": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{command} --help failed: {done.stderr}")
    return done.stdout


def write_titles_in_man_pages(app: Sphinx, doctree: nodes.document, _: str) -> None:
    """Write the title of another page without an address, which a man page does not have."""
    if app.builder.name == "man":
        for reference in list(doctree.findall(nodes.reference)):
            if not reference.get("refuri"):
                reference.replace_self(nodes.emphasis("", reference.astext()))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    for directive in (
        Settings, Extras, BasicRequirements, ExitStatuses, Floors, Bench, Command, Synopsis, Files, Requests,
        StatisticsRequests,
    ):  # fmt: skip
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", directive.__name__).lower()
        app.add_directive(f"fedmsg-{name}", directive)
    app.connect("doctree-resolved", write_titles_in_man_pages)
    return {"parallel_read_safe": True}

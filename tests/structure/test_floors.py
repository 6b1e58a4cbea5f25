# SPDX-License-Identifier: LGPL-2.1-or-later
"""The house keeps its floors: imports run downwards, third-party libraries have one door each."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict

import pytest

from tests.structure import source

# One worker parses the files, once.
pytestmark = pytest.mark.xdist_group("source")

# Room and floor. A room is a module or a package; the longest matching name counts. A module
# may import from its own room and from lower floors: rooms on one floor are neighbours that
# never import each other. Rooms that the house does not have yet keep their place.
FLOORS = {
    "fedmsg.exceptions": 0,
    "fedmsg._util": 10,
    "fedmsg.utils": 15,
    "fedmsg.encoding": 20,
    "fedmsg.config": 21,
    "fedmsg._wire": 22,
    "fedmsg.filters": 23,
    "fedmsg.transport": 30,
    "fedmsg.crypto": 30,
    "fedmsg.meta": 30,
    "fedmsg.text": 31,  # another name of fedmsg.meta
    "fedmsg.store": 40,
    "fedmsg.monitoring": 40,
    "fedmsg.replay": 41,
    "fedmsg.stream": 41,
    "fedmsg.session": 45,  # what core and aio share
    "fedmsg._confirmed": 46,
    "fedmsg.core": 50,
    "fedmsg.aio": 50,  # the asyncio twin of core
    "fedmsg.hub": 50,
    "fedmsg": 55,  # the roof of the library: what an application imports
    "fedmsg.irc": 60,
    "fedmsg.websocket": 60,
    "fedmsg.consumers": 61,
    "fedmsg.commands": 70,
    "fedmsg.testing": 70,
    "fedmsg.tests": 71,  # another name of a part of fedmsg.testing
    "fedmsg._web": 79,  # what applications on the web have in common
    "fedmsg.datanommer": 80,
    "fedmsg.datagrepper": 81,
    "fedmsg.statscache": 81,
}

# Which part of a lower room is open to a satellite; everything else of it is its own business.
ONLY = {
    ("fedmsg.datagrepper", "fedmsg.datanommer"): "fedmsg.datanommer.models",
    ("fedmsg.statscache", "fedmsg.datanommer"): "fedmsg.datanommer.models",
}

DATAGREPPER_ON_FLASK = "addresses app configuration counting home operating pages routes streaming"
WEB_ON_FLASK = "answers application operating pages"

# Third-party libraries, and the modules that wrap them. pyzmq is what the house is built of.
DATANOMMER_ON_SQLALCHEMY = """bulk containing counting finding keys matching message opening partitions query schema
    testing texts writing migrations.versions.0001_first"""
STATISTICS_ON_SQLALCHEMY = "counting database models sharing shipped.active slots tables"
UPKEEP_ON_SQLALCHEMY = "checking extracting importing opened progress reading removing"
WRAPPERS = {
    "alembic": {
        "fedmsg.datanommer.models.opening",
        "fedmsg.datanommer.models.migrations.env",
        "fedmsg.datanommer.models.migrations.versions.0001_first",
    },
    "click": {
        "fedmsg.commands._groups",
        "fedmsg.commands._options",
        "fedmsg.commands.certs",
        "fedmsg.commands.check",
        "fedmsg.commands.stream",
        "fedmsg.datanommer.commands.base",
    },
    "cryptography": {"fedmsg.crypto._cryptography"},
    "daemon": {"fedmsg.commands._daemon"},
    "dns": {"fedmsg._util.dns"},
    "flask": {
        *(f"fedmsg.datagrepper.{name}" for name in DATAGREPPER_ON_FLASK.split()),
        *(f"fedmsg._web.{name}" for name in WEB_ON_FLASK.split()),
        "fedmsg.statscache.app",
        *(f"fedmsg.statscache.app.{name}" for name in ("api", "pages")),
    },
    "gunicorn": {"fedmsg._web.server"},
    "gnupg": {"fedmsg.crypto._gnupg"},
    "irc": {"fedmsg.irc.session"},
    "kitchen": {"fedmsg._util.text"},
    "orjson": {"fedmsg.encoding._speed"},
    "pika": {"fedmsg.transport.amqp.client"},
    "prometheus_client": {"fedmsg.monitoring.prometheus"},
    "pygal": {"fedmsg.datagrepper.charts"},
    "pygments": {"fedmsg.commands._formats", "fedmsg.datagrepper.highlight", "fedmsg.irc.text"},
    "pytest": {"fedmsg.datanommer.models.testing"},
    "requests": {"fedmsg._util.http"},
    "simple_websocket": {"fedmsg.datagrepper.streaming"},
    "six": {"fedmsg._util.text"},
    "sqlalchemy": {
        "fedmsg.encoding.sqla",
        "fedmsg.store.database",
        "fedmsg.store.reading",
        "fedmsg.replay.sqlstore",
        "fedmsg.stream.tables",
        *(f"fedmsg.datagrepper.{name}" for name in ("counts", "history", "live")),
        *(f"fedmsg.statscache.{name}" for name in STATISTICS_ON_SQLALCHEMY.split()),
        "fedmsg.statscache.app.charts",
        "fedmsg.statscache.app.numbers",
        *(f"fedmsg.datanommer.models.{name}" for name in DATANOMMER_ON_SQLALCHEMY.split()),
        *(f"fedmsg.datanommer.upkeep.{name}" for name in UPKEEP_ON_SQLALCHEMY.split()),
    },
    "werkzeug": {"fedmsg._web.application"},
    "websockets": {"fedmsg.websocket.clients", "fedmsg.websocket.server"},
    "yaml": {"fedmsg._util.yaml"},
}

# Libraries whose distribution has another name.
INSTALLED_AS = {
    "daemon": "python-daemon",
    "dns": "dnspython",
    "gnupg": "python-gnupg",
    "prometheus_client": "prometheus-client",
    "simple_websocket": "simple-websocket",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}

# A setting of brokers, or the path of a module that talks to one, as a text of its own.
BROKER_WORD = re.compile(r"broker_\w+$|fedmsg\.transport\.(amqp|stomp)\b\S*$")

# Where a module may be looked up by a name made at run time: the lazy table, the submodules of
# the roof and of crypto, and the loader of classes that users name in their configuration.
BY_NAME = {"fedmsg", "fedmsg.crypto", "fedmsg._util.plugins", "fedmsg.utils"}


def room_of(module: str) -> str:
    """Return the room that a module belongs to."""
    while module not in FLOORS:
        module, dot, _ = module.rpartition(".")
        assert dot, "a module outside the house"
    return module


def own_imports() -> list[source.Import]:
    """Return the imports of one module of the project by another."""
    return [found for found in source.imports() if found.target.split(".")[0] == "fedmsg"]


def place(found: source.Import) -> str:
    """Return an import as a line that an editor can jump to."""
    return f"{source.relative(source.modules()[found.importer])}:{found.line} imports {found.target}"


def test_every_module_has_a_room() -> None:
    homeless = [name for name in source.modules() if room_of(name) == "fedmsg" and name != "fedmsg"]
    assert homeless == [], "give them a floor in FLOORS"


def test_imports_run_downwards() -> None:
    upward = [
        place(found)
        for found in own_imports()
        if (room := room_of(found.importer)) != (target := room_of(found.target)) and FLOORS[target] >= FLOORS[room]
    ]
    assert upward == []


def test_satellites_use_the_open_part_of_a_lower_room() -> None:
    trespassing = [
        place(found)
        for found in own_imports()
        if (allowed := ONLY.get((room_of(found.importer), room_of(found.target)))) and found.target != allowed
    ]
    assert trespassing == []


def test_no_import_cycle() -> None:
    graph = defaultdict(set)
    for found in own_imports():
        if not found.for_types_only and found.target != found.importer:
            graph[found.importer].add(found.target)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "a cycle: " + " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_own_modules_are_imported_at_the_top() -> None:
    assert [place(found) for found in own_imports() if not found.at_top] == []


def test_modules_are_looked_up_by_name_only_where_that_is_the_job() -> None:
    elsewhere = [
        f"{source.relative(path)}:{node.lineno}"
        for name, path in source.modules().items()
        if name not in BY_NAME
        for node in source.nodes(path)
        if (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.Name) and node.id in {"import_module", "__import__"})
    ]
    assert elsewhere == []


def third_party() -> dict[str, set[str]]:
    """Return each third-party library that the package imports, and by which modules."""
    found = defaultdict(set)
    for one in source.imports():
        top = one.target.split(".")[0]
        if top not in sys.stdlib_module_names and top not in {"fedmsg", "zmq", ""} and not one.for_types_only:
            found[top].add(one.importer)
    return found


def test_a_third_party_library_is_imported_only_where_it_is_wrapped() -> None:
    strays = {
        library: sorted(importers - WRAPPERS.get(library, set()))
        for library, importers in third_party().items()
        if importers - WRAPPERS.get(library, set())
    }
    assert strays == {}


def test_only_the_transport_knows_of_brokers() -> None:
    """Everything else asks `fedmsg.transport.choice`, and gets what it opens from there."""
    allowed = ("fedmsg.transport", "fedmsg.config")
    knowing = [
        f"{source.relative(path)}:{node.lineno} has {node.value!r}"
        for name, path in source.modules().items()
        if not name.startswith(allowed) and name != "fedmsg._util.plugins"
        for node in source.nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and BROKER_WORD.match(node.value)
    ]
    imports = [
        place(found)
        for found in own_imports()
        if found.target.startswith("fedmsg.transport.amqp") and not found.importer.startswith("fedmsg.transport.amqp")
    ]
    assert knowing + imports == []


def test_what_the_basic_install_brings_is_used() -> None:
    assert {"kitchen", "six", "yaml", "click", "pygments"} - set(third_party()) == set()


def test_every_library_is_declared() -> None:
    setup = (source.REPOSITORY / "setup.py").read_text(encoding="utf-8").lower()
    declared = set(re.findall(r'"([a-z0-9._-]+)(?:[<>=][^"]*)?"', setup))
    assert {INSTALLED_AS.get(library, library) for library in [*third_party(), "zmq"]} - declared == set()

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the distribution ``fedmsg`` is made of, what it needs and which commands it brings.

The version below is the only place where it is written; everything else asks the
installed distribution for it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

VERSION = "2.0.0.dev0"

# Lower bounds are the first releases that work on Python 3.10 or, where that says
# nothing, the ones that Debian 12 and RHEL 9 ship; of libraries that meet what strangers
# send, the first releases without a known vulnerability. There are no upper bounds: a new
# major release of a library is met by a new release of ours, not by a resolver.
BASIC = [
    "click>=8.1",
    "kitchen>=1.2.6",
    "pygments>=2.11",
    "pyyaml>=6.0",
    "pyzmq>=24.0",
    "six>=1.16",
]

AMQP = ["pika>=1.3"]
DAEMON = ["python-daemon>=3.0"]
CRYPTO = ["cryptography>=46.0.7", "python-gnupg>=0.5", "requests>=2.33.0"]
# The first irc that logs in by SASL.
IRC = ["irc>=20.3", "requests>=2.33.0"]
CONSUMERS = ["websockets>=15.0", *IRC]
METRICS = ["prometheus-client>=0.16"]
SQL = ["SQLAlchemy>=2.0", "psycopg>=3.1"]
DATANOMMER = ["SQLAlchemy>=2.0", "alembic>=1.8", "psycopg>=3.1"]
DATAGREPPER = [
    *DATANOMMER,
    *METRICS,
    "Flask>=3.1.3",
    "gunicorn>=23.0",
    "pygal>=3.0",
    "simple-websocket>=1.0",
    "Werkzeug>=3.1.4",
]
STATSCACHE = [*DATAGREPPER, "requests>=2.33.0"]

# What a user installs. The names commands, crypto, crypto_ng, consumers and all come from
# fedmsg 1.x, where they meant the same.
EXTRAS = {
    "amqp": AMQP,
    "commands": [*DAEMON, "requests>=2.33.0"],
    "consumers": CONSUMERS,
    "crypto": CRYPTO,
    "crypto_ng": CRYPTO,
    "daemon": DAEMON,
    "datagrepper": DATAGREPPER,
    "datanommer": DATANOMMER,
    "irc": IRC,
    "metrics": METRICS,
    # Older ones have no limit to nesting: a hostile message would end the process.
    "speed": ["orjson>=3.9.15"],
    "sql": SQL,
    "srv": ["dnspython>=2.6.1"],
    "statscache": STATSCACHE,
}
EXTRAS["all"] = sorted(set(itertools.chain.from_iterable(EXTRAS.values())))

# What a developer installs. The checkers are held to one series, so that a clean tree
# stays clean until a change of ours moves them.
EXTRAS["test"] = [
    *EXTRAS["all"],
    "anyio>=4.4",
    "coverage>=7.10",
    "hypothesis>=6.100",
    "moksha-monitor-exporter>=0.0.2",
    "mypy>=1.15,<3",
    "nats-py>=2.9",
    "psutil>=5.9",
    "pytest>=8.2,<9.2",  # pytest-xdist 3.8 can't tell 9.2 which tests are a group
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.17,<0.18",
    "schemathesis>=4.0",
    "selenium>=4.20",
    "setuptools>=68",
    "starlette>=0.37",
    "types-docutils",
    "types-psutil",
    "types-Pygments",
    "types-PyYAML",
    "types-requests",
    "types-setuptools",
    "types-six",
    "uvicorn>=0.30",
    "uvloop>=0.19",
    "websocket-client>=1.6",
]
EXTRAS["docs"] = ["Sphinx>=7.4", "furo>=2024.1.29"]

COMMANDS = [
    "datagrepper = fedmsg.datagrepper.command:main",
    "fedmsg-announce = fedmsg.commands.announce:announce",
    "fedmsg-certs = fedmsg.commands.certs:main",
    "fedmsg-check = fedmsg.commands.check:check",
    "fedmsg-collectd = fedmsg.commands.collectd:collectd",
    "fedmsg-config = fedmsg.commands.config:config",
    "fedmsg-dg-replay = fedmsg.commands.replay:replay",
    "fedmsg-gateway = fedmsg.commands.gateway:gateway",
    "fedmsg-hub = fedmsg.commands.hub:hub",
    "fedmsg-irc = fedmsg.commands.ircbot:ircbot",
    "fedmsg-logger = fedmsg.commands.logger:logger",
    "fedmsg-replay = fedmsg.commands.replay_server:replay_server",
    "fedmsg-relay = fedmsg.commands.relay:relay",
    "fedmsg-signing-relay = fedmsg.commands.relay:signing_relay",
    "fedmsg-stream = fedmsg.commands.stream:main",
    "fedmsg-tail = fedmsg.commands.tail:tail",
    "fedmsg-trigger = fedmsg.commands.trigger:trigger",
    "statscache = fedmsg.statscache.command:main",
    "datanommer-check = fedmsg.datanommer.commands:check",
    "datanommer-create-db = fedmsg.datanommer.commands:create",
    "datanommer-dump = fedmsg.datanommer.commands:dump",
    "datanommer-extract = fedmsg.datanommer.commands:extract",
    "datanommer-forget = fedmsg.datanommer.commands:forget",
    "datanommer-latest = fedmsg.datanommer.commands:latest",
    "datanommer-load = fedmsg.datanommer.commands:load",
    "datanommer-prune = fedmsg.datanommer.commands:prune",
    "datanommer-stats = fedmsg.datanommer.commands:stats",
]

# What a hub runs where it is enabled.
CONSUMERS_SHIPPED = [
    "datanommer = fedmsg.datanommer.consumer:Nommer",
    "fedmsg-dummy = fedmsg.consumers.dummy:DummyConsumer",
    "fedmsg-gateway = fedmsg.consumers.gateway:GatewayConsumer",
    "fedmsg-ircbot = fedmsg.consumers.ircbot:IRCBotConsumer",
    "fedmsg-relay = fedmsg.consumers.relay:RelayConsumer",
    "statscache = fedmsg.statscache.consumer:StatsConsumer",
]

# The same for what acts of its own accord.
PRODUCERS_SHIPPED = ["statscache = fedmsg.statscache.producer:StatsProducer"]

# What counts, in a hub that keeps statistics.
STATISTICS = [
    "active = fedmsg.statscache.shipped.active:PLUGINS",
    "volume = fedmsg.statscache.shipped.volume:PLUGINS",
]

# What has pages.
WITH_PAGES = ["fedmsg._web", "fedmsg.datagrepper", "fedmsg.statscache.app"]

# What knows the messages of our own commands.
PROCESSORS = [
    "announce = fedmsg.meta.announce:AnnounceProcessor",
    "logger = fedmsg.meta.logger:LoggerProcessor",
]


class SourceDistribution(sdist):
    """Add what the package itself does not need, but its packagers do."""

    FILES = ("Makefile", "LICENSE", ".gitignore")
    FOLDERS = (".ci", "docs", "fedmsg.d", "tests")

    def make_distribution(self) -> None:
        """Take whole folders, but for what tools leave in them."""
        here = Path(__file__).parent
        found = [here / name for name in self.FILES]
        found += [path for folder in self.FOLDERS for path in (here / folder).rglob("*") if path.is_file()]
        made = {"__pycache__", "_build"}
        self.filelist.extend(str(path.relative_to(here)) for path in found if not made & set(path.parts))
        super().make_distribution()


setup(
    cmdclass={"sdist": SourceDistribution},
    name="fedmsg",
    version=VERSION,
    description="A message bus for applications and people, over ZeroMQ",
    long_description=Path(__file__).with_name("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="LGPL-2.1-or-later",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["fedmsg", "fedmsg.*"]),
    # Says what is so anyway; spelt out, an editable install is a plain path entry instead of
    # an import hook that every interpreter of the environment would have to load first.
    package_dir={"": "."},
    package_data={"fedmsg": ["py.typed"], **{name: ["static/*", "templates/*"] for name in WITH_PAGES}},
    install_requires=BASIC,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": COMMANDS,
        "fedmsg.meta": PROCESSORS,
        "moksha.consumer": CONSUMERS_SHIPPED,
        "moksha.producer": PRODUCERS_SHIPPED,
        "statscache.plugin": STATISTICS,
    },
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Environment :: No Input/Output (Daemon)",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Communications",
        "Topic :: System :: Distributed Computing",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)

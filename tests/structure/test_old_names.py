# SPDX-License-Identifier: LGPL-2.1-or-later
"""The import paths that code written for fedmsg 1.1.7 uses; a new room adds its rows."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PATHS = {
    "fedmsg": "init publish tail_messages destroy send_message __local",
    "fedmsg.core": "FedMsgContext ValidationError",
    "fedmsg.config": "conf FedmsgConfig load_config build_parser defaults __cache",
    "fedmsg.crypto": (
        "init sign validate validate_signed_by strip_credentials _implementation _validate_implementations "
        "gpg utils x509 x509_ng"
    ),
    "fedmsg.crypto.gpg": "Context GpgBinaryError sign validate",
    "fedmsg.crypto.utils": (
        "fix_datagrepper_message validate_policy load_certificates _load_certificate _cached_certificates"
    ),
    "fedmsg.crypto.x509": "sign validate _m2crypto",
    "fedmsg.crypto.x509_ng": "sign validate _log _cryptography",
    "fedmsg.encoding": "FedMsgEncoder dumps loads pretty_dumps encoder pretty_encoder",
    "fedmsg.encoding.sqla": "to_json expand",
    "fedmsg.utils": (
        "set_high_water_mark set_tcp_keepalive set_tcp_reconnect "
        "guess_calling_module load_class dict_query cowsay_output"
    ),
    "fedmsg.meta": (
        "make_processors processors ProcessorsNotInitialized graceful legacy_condition with_processor _ log "
        "BaseConglomerator DefaultProcessor conglomerate msg2processor msg2repr msg2title msg2subtitle msg2long_form "
        "msg2lexer msg2link msg2icon msg2secondary_icon msg2usernames msg2agent msg2packages msg2objects msg2emails "
        "msg2avatars msg2subjective"
    ),
    "fedmsg.meta.base": "BaseProcessor BaseConglomerator add_metaclass",
    "fedmsg.meta.default": "DefaultProcessor",
    "fedmsg.meta.logger": "LoggerProcessor",
    "fedmsg.meta.announce": "AnnounceProcessor",
    "fedmsg.text": "make_processors msg2repr",
    "fedmsg.tests.test_meta": "Base ConglomerateBase Unspecified UnspecifiedType skip_on",
    "fedmsg.consumers": "FedmsgConsumer",
    "fedmsg.consumers.dummy": "DummyConsumer",
    "fedmsg.consumers.gateway": "GatewayConsumer",
    "fedmsg.consumers.ircbot": "IRCBotConsumer ircprettify mirc_colors _default_link_shortener log",
    "fedmsg.consumers.relay": "RelayConsumer SigningRelayConsumer log",
    "fedmsg.commands": "BaseCommand dictConfig",
    "fedmsg.commands.announce": "AnnounceCommand announce",
    "fedmsg.commands.config": "config",
    "fedmsg.commands.gateway": "GatewayCommand gateway",
    "fedmsg.commands.hub": "HubCommand hub",
    "fedmsg.commands.ircbot": "IRCCommand ircbot",
    "fedmsg.commands.logger": "LoggerCommand logger",
    "fedmsg.commands.relay": "RelayCommand SigningRelayCommand relay signing_relay",
    "fedmsg.commands.tail": "TailCommand tail",
}


# What "import fedmsg" brings in fedmsg 1.x.
OPENED_WITH_FEDMSG = {"config", "core", "crypto", "encoding", "utils"}


@pytest.mark.filterwarnings("ignore:.*send_message:DeprecationWarning")
def test_old_names_resolve() -> None:
    missing = [
        f"{module}.{name}"
        for module, names in PATHS.items()
        for name in names.split()
        if not hasattr(importlib.import_module(module), name)
    ]
    assert missing == []


def test_rooms_are_attributes_of_the_package() -> None:
    # "import fedmsg; fedmsg.config.load_config()" worked without a second import, and does in a fresh interpreter.
    rooms = [name for name in PATHS if name.split(".")[1:2] and name.split(".")[1] in OPENED_WITH_FEDMSG]
    done = subprocess.run(
        [sys.executable, "-c", "import fedmsg\n" + "\n".join(rooms)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

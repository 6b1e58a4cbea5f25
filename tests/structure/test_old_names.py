# SPDX-License-Identifier: LGPL-2.1-or-later
"""The import paths that code written for fedmsg 1.1.7 uses; a new room adds its rows."""

from __future__ import annotations

import importlib

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


@pytest.mark.filterwarnings("ignore:.*send_message:DeprecationWarning")
@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PATHS for name in PATHS[module].split()])
def test_name_resolves(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", [name for name in PATHS if name != "fedmsg"])
def test_module_is_an_attribute_of_the_package(module: str) -> None:
    # "import fedmsg; fedmsg.config.load_config()" worked without a second import.
    found = importlib.import_module("fedmsg")
    for part in module.split(".")[1:]:
        found = getattr(found, part)
    assert found is importlib.import_module(module)

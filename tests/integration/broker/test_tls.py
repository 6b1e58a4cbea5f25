# SPDX-License-Identifier: LGPL-2.1-or-later
"""RabbitMQ by TLS, with certificates of an authority of its own."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.exceptions import ConfigError, NotConfirmed
from fedmsg.testing import wait_until
from tests.integration.broker.authorities import Authorities
from tests.integration.broker.buses import BrokerBus

pytestmark = pytest.mark.xdist_group("rabbitmq")


@pytest.fixture
def encrypted(bus: BrokerBus, authorities: Authorities) -> dict[str, Any]:
    """Return the settings of a bus that is reached by TLS."""
    url = f"amqps://guest:guest@127.0.0.1:{authorities.port}/{bus.vhost}"
    return {"broker_url": url, "broker_ca": authorities.path("own.crt")}


@pytest.mark.parametrize("name", ["", "client"], ids=["password", "certificate"])
def test_bus_by_tls(bus: BrokerBus, authorities: Authorities, encrypted: dict[str, Any], name: str) -> None:
    if name:
        encrypted |= {
            "broker_cert": authorities.path(f"{name}.crt"),
            "broker_key": authorities.path(f"{name}.key"),
        }
    with bus.listening(**encrypted) as listener, bus.context(**encrypted) as context:
        context.publish("t", {"n": 1}, modname="m")
        assert listener.wait(1)[0][1] == f"amqps://127.0.0.1:{authorities.port}/{bus.vhost}"
        # Those of the listener and of the publisher; and the broker has seen the certificate where there is one.
        wait_until(lambda: len(bus.connections()) == 2, 30)
        rows = bus.node.api("GET", f"vhosts/{bus.vhost}/connections")
    assert [row["ssl"] for row in rows] == [True, True]
    assert [bool(row.get("peer_cert_subject")) for row in rows] == [bool(name)] * 2


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"broker_ca": "other.crt"}, r"certificate verify failed.*see broker_ca"),
        ({"broker_ca": ""}, r"certificate verify failed.*see broker_ca"),
        ({"broker_cert": "stranger.crt", "broker_key": "stranger.key"}, r"no (encrypted )?connection with amqps://"),
    ],
    ids=["authority", "system", "client"],
)
def test_certificate_that_is_not_trusted_is_one_line(
    bus: BrokerBus, authorities: Authorities, encrypted: dict[str, Any], change: dict[str, str], pattern: str
) -> None:
    files = {key: name and authorities.path(name) for key, name in change.items()}
    config = {**bus.config, **encrypted, **files, "timeout": 2.0, "name": "test"}
    with FedMsgContext(**config) as context, pytest.raises(NotConfirmed) as caught:
        context.publish("t", {}, modname="m")
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_host_that_the_certificate_does_not_name_is_refused(
    bus: BrokerBus, authorities: Authorities, encrypted: dict[str, Any]
) -> None:
    url = encrypted["broker_url"].replace("127.0.0.1", "localhost")
    config = {**bus.config, **encrypted, "broker_url": url, "timeout": 2.0, "name": "test"}
    with FedMsgContext(**config) as context, pytest.raises(NotConfirmed, match="not valid for 'localhost'"):
        context.publish("t", {}, modname="m")


def test_file_that_is_no_certificate_is_a_configuration_error(
    bus: BrokerBus, authorities: Authorities, encrypted: dict[str, Any]
) -> None:
    config = {**bus.config, **encrypted, "broker_ca": authorities.path("own.key"), "name": "test"}
    with FedMsgContext(**config) as context, pytest.raises(ConfigError, match=r"broker_ca.*name files in PEM"):
        context.publish("t", {}, modname="m")

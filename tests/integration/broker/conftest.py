# SPDX-License-Identifier: LGPL-2.1-or-later
"""One node of RabbitMQ for all tests of this folder, each of which has a vhost of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests import requirements
from tests.brokers import RabbitMQ
from tests.integration.broker.authorities import Authorities
from tests.integration.broker.buses import BrokerBus

# So that the management shows connections and queues as they are; milliseconds.
STATISTICS = "collect_statistics_interval = 250"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    """Return the certificates of the node, and of an authority that it does not know."""
    return Authorities(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def rabbitmq(authorities: Authorities) -> Iterator[RabbitMQ]:
    """Return a node that belongs to this run of the tests alone."""
    try:
        node = RabbitMQ(plugins="rabbitmq_management", settings=f"{STATISTICS}\n{authorities.settings}")
    except FileNotFoundError as error:
        requirements.is_missing(str(error))
    with node:
        yield node


@pytest.fixture
def bus(rabbitmq: RabbitMQ) -> Iterator[BrokerBus]:
    """Return a bus that no other test uses."""
    vhost = f"test{next(_numbers)}"
    rabbitmq.api("PUT", f"vhosts/{vhost}", {})
    rabbitmq.api("PUT", f"permissions/{vhost}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    yield BrokerBus(rabbitmq, vhost)
    rabbitmq.api("DELETE", f"vhosts/{vhost}")

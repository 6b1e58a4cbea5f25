# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be bound: paths in use and left behind, host names, and names that lead nowhere."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from fedmsg.exceptions import AddressInUse, ConfigError
from fedmsg.testing import Bus
from fedmsg.transport.zmq import sockets
from tests.requirements import is_missing, program

Plain = zmq.Socket[bytes]


@pytest.fixture
def publisher() -> Iterator[Plain]:
    context: zmq.Context[Plain] = zmq.Context()
    with context.socket(zmq.PUB) as made:
        yield made
    context.term()


def test_bind_rejects_a_path_where_another_process_listens(tmp_path: Path, publisher: Plain) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{tmp_path}/bus")
        other.listen()
        with pytest.raises(AddressInUse, match=rf"^key: ipc://{tmp_path}/bus can't be bound: Address already in use$"):
            sockets.bind(publisher, f"ipc://{tmp_path}/bus", "key")
        # The other one is still there.
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/bus")


def test_bind_replaces_the_socket_file_of_a_dead_process(tmp_path: Path, publisher: Plain) -> None:
    program = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({f'{tmp_path}/bus'!r}); s.listen()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "bus").is_socket()
    assert sockets.bind(publisher, f"ipc://{tmp_path}/bus", "key") == f"ipc://{tmp_path}/bus"


def test_bind_rejects_a_path_with_a_file_that_is_no_socket(tmp_path: Path, publisher: Plain) -> None:
    (tmp_path / "bus").write_text("precious")
    with pytest.raises(ConfigError, match="a file that is no socket"):
        sockets.bind(publisher, f"ipc://{tmp_path}/bus", "key")
    assert (tmp_path / "bus").read_text() == "precious"


def test_bind_does_not_hang_where_a_stranger_holds_the_lock_of_the_folder(tmp_path: Path, publisher: Plain) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        start = time.monotonic()
        sockets.bind(publisher, f"ipc://{tmp_path}/bus", "key")
        assert time.monotonic() - start < 10
    finally:
        os.close(descriptor)


def test_bind_takes_an_abstract_name_and_reports_it_in_use(publisher: Plain) -> None:
    address = f"ipc://@fedmsg-test-{os.getpid()}"
    sockets.bind(publisher, address, "key")
    with zmq.Context() as context, context.socket(zmq.PUB) as other, pytest.raises(AddressInUse):
        sockets.bind(other, address, "key")


def test_bind_names_a_host_that_is_not_found_in_one_line(publisher: Plain) -> None:
    with pytest.raises(ConfigError) as caught:
        sockets.bind(publisher, "tcp://no-such-host.invalid:2003", "relay_inbound")
    assert str(caught.value) == (
        "relay_inbound: tcp://no-such-host.invalid:2003 can't be bound: the host 'no-such-host.invalid' can't be "
        "found, and no network interface has that name"
    )


IN_NAMESPACE = """
ip link set lo up && ip -6 addr add fd00::1/128 dev lo nodad || exit 77
printf "127.0.0.1 localhost\\nfd00::1 v6.test\\n" > "$2"; mount --bind "$2" /etc/hosts || exit 77
exec "$0" -c "$1"
"""

BIND = """
import socket, zmq
from fedmsg.core import FedMsgContext
from fedmsg.transport.zmq.forwarder import Forwarder
with Forwarder({}, ["tcp://v6.test:2003"], ["tcp://v6.test:4001"], limit=1) as relay:
    print(relay.inbound[0], relay.outbound)
    for port in (2003, 4001):
        socket.create_connection(("fd00::1", port)).close()
with FedMsgContext(name="n", endpoints={"n": ["tcp://v6.test:3000"]}):
    socket.create_connection(("fd00::1", 3000)).close()
with FedMsgContext(name="n", endpoints={"n": ["tcp://localhost:3000"]}):
    socket.create_connection(("127.0.0.1", 3000)).close()
"""


def test_bind_takes_a_host_with_an_ipv6_address_only(tmp_path: Path) -> None:
    unshare = program("unshare", "util-linux")
    command = [unshare, "-mn", "sh", "-c", IN_NAMESPACE, sys.executable, BIND, str(tmp_path / "hosts")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode in {1, 77} and "Traceback" not in done.stderr:
        is_missing(f"the right to make a network of its own (root): {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tcp://[fd00::1]:2003 tcp://[fd00::1]:4001\n"


def test_second_relay_on_the_same_path_is_status_6(tmp_path: Path) -> None:
    addresses = {
        "relay_inbound": [f"ipc://{tmp_path}/in"],
        "endpoints": {"relay_outbound": [f"ipc://{tmp_path}/out"]},
    }
    with Bus(addresses) as bus:
        bus.start_relay()
        second = bus.run("fedmsg-relay", timeout=20)
        assert second.returncode == 6
        assert second.stderr.count("\n") == 1
        assert f"relay_inbound: ipc://{tmp_path}/in can't be bound: Address already in use" in second.stderr
        # Control: the first one still passes messages on.
        with bus.context() as context, bus.tail("--json") as tail:
            tail.wait_for('"n":1', meanwhile=lambda: context.publish("t", {"n": 1}, modname="m"))
        assert bus.stop_relay() == 0

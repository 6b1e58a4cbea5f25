# SPDX-License-Identifier: LGPL-2.1-or-later
"""Message brokers of our own for tests and benches, from the programs that Debian's packages bring."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fedmsg.testing import free_port, wait_until

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["JetStream", "RabbitMQ"]

_RABBITMQ = Path("/usr/lib/rabbitmq/bin")


class _Broker:
    """A server with its data in a temporary folder, on a free port of the loopback interface.

    Attributes:
        port: Its port.
    """

    #: What a client sends, and how the answer begins.
    greeting = (b"", b"")

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="fedmsg-broker-"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder / "log").open("wb") as log:
            self._server = subprocess.Popen(
                self._command(), cwd=self.folder, env=self._environ(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self._server.poll() is not None or self._answers(), 60, what=self._log)
        if self._server.poll() is not None:
            raise RuntimeError(f"{type(self).__name__} does not start: {self._log()}")

    def _command(self) -> list[str]:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it serves."""
        raise NotImplementedError

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        question, answer = self.greeting
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(question)
                return connection.recv(100).startswith(answer)
        except OSError:
            return False

    def close(self) -> None:
        """End the server, and what it has started, and remove its data."""
        server = getattr(self, "_server", None)
        if server is not None and server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JetStream(_Broker):
    """NATS with JetStream, which stores in files."""

    greeting = (b"", b"INFO ")

    def _command(self) -> list[str]:
        return [_found("nats-server", "nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js",
                "-sd", str(self.folder / "data")]  # fmt: skip

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"nats://127.0.0.1:{self.port}"


class RabbitMQ(_Broker):
    """RabbitMQ, a node of its own, which may be one of several of a cluster.

    Args:
        settings: Lines for its configuration file.
        plugins: The plugins that are switched on.
        first: A node of the cluster that it joins when it first starts.

    Attributes:
        node: Its name as Erlang has it.
    """

    greeting = (b"AMQP\x00\x00\x09\x01", b"\x01")

    def __init__(self, *, settings: str = "", plugins: str = "", first: RabbitMQ | None = None) -> None:
        self.node = ""
        self._settings, self._plugins = settings, plugins
        self._distribution, self._web = free_port(), free_port()
        # A name server of its own: the machine's knows nothing of it.
        self._names: str = str(free_port()) if first is None else first._names
        self._has_names = first is None
        if first is not None:
            formation = "cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config\n"
            self._settings += f"\n{formation}cluster_formation.classic_config.nodes.1 = {first.node}"
        self._home: str = "" if first is None else first._home
        super().__init__()

    def _command(self) -> list[str]:
        if not (_RABBITMQ / "rabbitmq-server").exists():
            raise FileNotFoundError(f"{_RABBITMQ}/rabbitmq-server (apt-get install rabbitmq-server)")
        return [str(_RABBITMQ / "rabbitmq-server")]

    def _environ(self) -> dict[str, str]:
        # The cookie of the cluster is in its home.
        self._home = self._home or str(self.folder)
        self.node = f"test{self.port}@localhost"
        (self.folder / "plugins").write_text(f"[{self._plugins}].\n")
        lines = f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n{self._settings}\n"
        if "rabbitmq_management" in self._plugins:
            lines += f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self._web}\n"
        (self.folder / "rabbitmq.conf").write_text(lines)
        return super()._environ() | {
            "HOME": self._home,
            "ERL_EPMD_PORT": self._names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # So that it can be ended while it still counts the node as alive.
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # As few schedulers as a test needs: idle ones wait busily.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    @property
    def url(self) -> str:
        """Where it serves."""
        return self.url_of()

    def url_of(self, user: str = "guest", password: str = "guest", vhost: str = "%2F") -> str:
        """Return the URL for a user."""
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the plugin ``rabbitmq_management``, which is quicker than ``rabbitmqctl``; return its answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._web}/api/{path}", data, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def control(self, *words: str, tool: str = "rabbitmqctl") -> str:
        """Run ``rabbitmqctl`` or another tool with some words; return what it prints."""
        command = [str(_RABBITMQ / tool), "--quiet", "--node", self.node, *words]
        done = subprocess.run(command, env=self._environ(), capture_output=True, text=True, check=False, timeout=100)
        if done.returncode:
            raise RuntimeError(f"{tool} {' '.join(words)}: {done.stdout} {done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._server.poll() is None

    def restart(self) -> None:
        """Start it again, with its data."""
        self._start()

    def close(self) -> None:
        """End the server and its name server, and remove its data."""
        super().close()
        if self._has_names and (epmd := shutil.which("epmd")):
            subprocess.run([epmd, "-port", self._names, "-kill"], capture_output=True, check=False)


def _found(name: str, package: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        raise FileNotFoundError(f"the program {name} (apt-get install {package})")
    return found

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job in a few seconds: a line of a shell script travels over the bus to a terminal.

``make demo`` runs it. Everything is real, the relay, the tail and the logger; the addresses are free
ones, so that a bus on this machine is not disturbed. Ends with status 1 when the message does
not arrive.
"""

from __future__ import annotations

import os
import sys
import tempfile

from fedmsg.testing import Bus

TEXT = "Hello from a shell script"
ESCAPE = "\x1b["


def show(command: str) -> None:
    """Print a command the way a person would type it."""
    print(f"\n$ {command}", flush=True)


def demonstrate() -> list[str]:
    """Run the three commands and stop them again.

    Returns:
        What was not as it should be.
    """
    with Bus() as bus:
        show("fedmsg-relay &")
        bus.start_relay()
        print(f"takes messages at {bus.config['relay_inbound'][0]}")
        print(f"passes them on at {bus.config['endpoints']['relay_outbound'][0]}")

        show("fedmsg-tail --really-pretty &")
        with bus.tail("--really-pretty") as tail:
            show(f'echo "{TEXT}" | fedmsg-logger')
            logger = bus.run("fedmsg-logger", stdin=TEXT + "\n")
            if logger.returncode:
                return [f"fedmsg-logger ended with status {logger.returncode}: {logger.stderr}"]
            tail.wait_for(TEXT)
            tail.wait_for(lambda line: "}" in line and not line.startswith(" "))
            message = "\n".join(tail.out)
            print(message)
            statuses = {"fedmsg-tail": tail.stop()}
        statuses["fedmsg-relay"] = bus.stop_relay()

    problems = [f"{name} ended with status {status}" for name, status in statuses.items() if status]
    if ESCAPE not in message:
        problems.append("the message is not coloured")
    return problems


def main() -> int:
    """Run the demonstration without any configuration of this machine.

    Returns:
        The exit status.
    """
    for name in [name for name in os.environ if name.startswith("FEDMSG_") or name == "NO_COLOR"]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="fedmsg-demo-") as home:
        os.environ["HOME"] = home
        os.chdir(home)
        try:
            problems = demonstrate()
        except (OSError, TimeoutError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        os.chdir("/")
    if problems:
        print("The demonstration failed:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    print("\nIt arrived; the relay and the tail have stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

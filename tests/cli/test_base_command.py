# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every command has from BaseCommand, seen on commands written by somebody else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fedmsg import exceptions
from fedmsg.testing import Process, command_path, run
from tests.unit.configs import folder_open_to_all

# The way that a plugin for fedmsg 1.x looks.
GREET = '''
    """A command of somebody else."""

    import os
    import signal
    import sys

    import fedmsg.exceptions
    from fedmsg.commands import BaseCommand


    class GreetCommand(BaseCommand):
        """ Greet whoever is named.  """

        name = "greet"
        extra_args = [
            (["--whom"], {"dest": "whom", "metavar": "NAME", "help": "Whom to greet.", "default": "all"}),
            (["--loud"], {"dest": "loud", "action": "store_true", "default": False}),
        ]
        {attributes}

        def run(self):
            {body}


    def greet():
        return GreetCommand().execute()


    if __name__ == "__main__":
        sys.exit(greet())
'''

HELLO = "print('Hello', self.config['whom'], self.config['loud'])"
# Tells that it is ready and then does nothing until it is stopped.
WAIT = "print('ready', flush=True)\nsignal.pause()"


def write(body: str = HELLO, attributes: str = "") -> list[str]:
    """Write the command to the current folder, and give what runs it."""
    text = textwrap.dedent(GREET)
    text = text.replace("{attributes}", textwrap.indent(attributes, " " * 4).strip())
    Path("greet.py").write_text(text.replace("{body}", textwrap.indent(body, " " * 8).strip()))
    return [sys.executable, str(Path("greet.py").absolute())]


def configure(**settings: Any) -> dict[str, str]:
    """Write a configuration, and give the environment that makes a command use it."""
    path = Path("configured.py").absolute()
    path.write_text(f"config = {settings!r}\n")
    return {"FEDMSG_CONFIG": str(path)}


def greet(
    *arguments: str, body: str = HELLO, attributes: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; warnings are errors in it."""
    return run([*write(body, attributes), *arguments], env={"PYTHONWARNINGS": "error", **(env or {})})


def one_line(text: str) -> str:
    """Give the only line of a text."""
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "settings", "printed"),
    [
        ([], {}, "Hello all False"),
        (["--whom", "you", "--loud"], {}, "Hello you True"),
        ([], {"whom": "us", "loud": True}, "Hello us True"),
        (["--whom=you"], {"whom": "us"}, "Hello you False"),
        (["--wh", "you"], {}, "Hello you False"),
    ],
)
def test_a_command_of_1_x(arguments: list[str], settings: dict[str, Any], printed: str) -> None:
    ended = greet(*arguments, env=configure(**settings))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{printed}\n", "")


@pytest.mark.parametrize(("body", "status"), [("return 0", 0), ("return 1", 1), ("return None", 0), ("sys.exit(4)", 4)])
def test_what_run_returns_is_the_status(body: str, status: int) -> None:
    ended = greet(body=body)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")


def test_execute_returns_what_run_returns() -> None:
    write("return ['anything']")
    code = "import greet; print(greet.greet())"
    assert run([sys.executable, "-c", code], env={"PYTHONPATH": "."}).stdout == "['anything']\n"


@pytest.mark.parametrize("prints_data", [False, True])
@pytest.mark.parametrize("arguments", [[], ["--log-level", "ERROR"]])
def test_base_command_runs_with_a_get_config_of_its_own(prints_data: bool, arguments: list[str]) -> None:
    attributes = (
        f"prints_data = {prints_data}\n"
        "def get_config(self):\n"
        "    import fedmsg.config\n"
        "    return {**fedmsg.config.conf.copy(), 'whom': 'me', 'loud': 1}"
    )
    ended = greet(*arguments, attributes=attributes)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Hello me 1\n", "")


def test_base_command_works_without_its_constructor() -> None:
    write()
    code = "import greet; c = object.__new__(greet.GreetCommand); c.config = {'whom': 'x', 'loud': 0}; c.execute()"
    assert run([sys.executable, "-c", code], env={"PYTHONPATH": "."}).stdout == "Hello x 0\n"


COMMON: list[tuple[list[str], dict[str, Any]]] = [
    (["--io-threads", "2"], {"io_threads": 2}),
    (["--topic-prefix", "org.x"], {"topic_prefix": "org.x", "topic_prefix_re": r"org\.x\.[^\W\d_]+"}),
    (["--post-init-sleep", "0.25"], {"post_init_sleep": 0.25}),
    (["--timeout", "4"], {"timeout": 4}),
    (["--timeout", "0.5"], {"timeout": 0.5}),
    (["--high-water-mark", "5"], {"high_water_mark": 5}),
    (["--linger", "77"], {"zmq_linger": 77}),
]


@pytest.mark.parametrize(("arguments", "settings"), COMMON)
def test_common_flags_set_their_keys(arguments: list[str], settings: dict[str, Any]) -> None:
    body = "import json\nprint(json.dumps(self.config))"
    plain, changed = json.loads(greet(body=body).stdout), json.loads(greet(*arguments, body=body).stdout)
    assert {key: value for key, value in changed.items() if plain.get(key, ...) != value} == settings


def test_what_is_configured_by_flags_is_what_the_process_has_configured() -> None:
    body = "import fedmsg.config\nprint(fedmsg.config.load_config()['topic_prefix'])"
    assert run([*write(body), "--topic-prefix", "org.x"]).stdout == "org.x\n"


def test_config_filename() -> None:
    Path("other.py").write_text("config = {'whom': 'others'}")
    ended = greet("--config-filename", "other.py", env=configure(whom="us"))
    assert ended.stdout == "Hello others False\n"


def test_print_config_does_nothing_else() -> None:
    ended = greet("--print-config", "--timeout", "7", env=configure(whom="us"))
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["timeout"] == 7
    assert json.loads(ended.stdout)["whom"] == "us"


def test_a_configuration_of_others_is_refused_and_can_be_allowed() -> None:
    with folder_open_to_all():
        env = configure(whom="us")
        Path(env["FEDMSG_CONFIG"]).chmod(0o666)
        refused = greet(env=env)
        assert refused.returncode == 5
        assert env["FEDMSG_CONFIG"] in one_line(refused.stderr)
        assert greet("--allow-insecure-config", env=env).stdout == "Hello us False\n"


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help(argument: str) -> None:
    ended = greet(argument)
    assert ended.returncode == 0
    assert "Greet whoever is named." in ended.stdout
    assert "--whom NAME" in ended.stdout
    assert "--linger MILLISECONDS" in ended.stdout


def test_what_makes_no_difference_is_accepted_and_not_shown() -> None:
    attributes = "unused_flags = {'zmq_linger', 'timeout'}"
    ended = greet("--help", attributes=attributes)
    assert "--linger" not in ended.stdout
    assert "--timeout" not in ended.stdout
    assert "--io-threads" in ended.stdout
    assert greet("--linger", "5", "--timeout", "1", attributes=attributes).returncode == 0


def test_version() -> None:
    ended = greet("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("greet 2.")


@pytest.mark.parametrize("name", ["tail", "logger", "announce", "relay"])
def test_our_commands_have_all_common_flags(name: str) -> None:
    flags = "--io-threads 1 --topic-prefix x --post-init-sleep 1 --timeout 1 --high-water-mark 1 --linger 1"
    ended = run([f"fedmsg-{name}", *flags.split(), "--log-level", "info", "--debug", "--version"])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"fedmsg-{name} ")


ERRORS = [getattr(exceptions, name) for name in exceptions.__all__]


def raising(error: type[exceptions.FedmsgError]) -> str:
    arguments = {
        "MissingExtra": "'flying', 'wings'",
        "NotConfirmed": "'it failed', {}, False",
        "PossiblyLost": "7, 'tcp://x:1'",
        "RejectedByRelay": "'it failed', {}",
        "ValidationError": "None",
    }
    return f"raise fedmsg.exceptions.{error.__name__}({arguments.get(error.__name__, repr('it failed'))})"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.__name__))
def test_an_expected_failure_is_one_line_and_its_status(error: type[exceptions.FedmsgError]) -> None:
    ended = greet(body=raising(error))
    assert (ended.returncode, ended.stdout) == (error.exit_status, "")
    assert one_line(ended.stderr).startswith("greet: ")
    assert "should not happen" not in ended.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('k')", "KeyError: 'k'"),
        ("raise OSError(13, 'Permission denied')", "PermissionError: [Errno 13] Permission denied"),
        ("raise BrokenPipeError(32, 'of another pipe')", "BrokenPipeError"),
        ("raise ValueError('two\\nlines \\x1b[31m')", "ValueError: two; lines \\x1b[31m"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_unexpected_failure_is_one_line_and_70(body: str, said: str) -> None:
    ended = greet(body=body)
    assert (ended.returncode, ended.stdout) == (70, "")
    assert said in one_line(ended.stderr)
    assert "--debug" in ended.stderr


def test_a_command_without_run() -> None:
    command = "from fedmsg.commands import BaseCommand; BaseCommand().execute()"
    ended = run([sys.executable, "-c", command])
    assert ended.returncode == 70
    assert "has no run()" in one_line(ended.stderr)


@pytest.mark.parametrize("body", [raising(exceptions.ConfigError), "1 / 0"])
def test_debug_shows_the_traceback(body: str) -> None:
    ended = greet("--debug", body=body)
    assert ended.returncode in {5, 70}
    assert "Traceback (most recent call last):" in ended.stderr
    assert "greet.py" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("greet: ")


def test_debug_shows_where_a_bad_configuration_comes_from() -> None:
    assert "Traceback" in greet("--debug", env=configure(timeout="soon")).stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeout": "soon"}, "timeout"),
        ({"endpoints": 5}, "The 'endpoints' config value must be a dict."),
        ({"timeout": "soon", "io_threads": -1}, "2 problems in the configuration"),
        ({"logging": {"version": 7}}, "logging: Unsupported version: 7"),
        ({"logging": {"handlers": {"console": {"class": "no.such.Handler"}}}}, "logging: "),
        ({"logging": {"loggers": 3}}, "logging: "),
        ({"logging": {"loggers": {"fedmsg": 3}}}, "logging: "),
        ({"logging": {"handlers": {"x": None}}}, "logging: "),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--log-level", "info"]])
def test_a_bad_configuration_is_one_line(settings: dict[str, Any], said: str, arguments: list[str]) -> None:
    ended = greet(*arguments, env=configure(**settings))
    assert (ended.returncode, ended.stdout) == (5, "")
    assert said in one_line(ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["--timeout", "-1"], "--timeout"),
        (["--io-threads", "0"], "--io-threads"),
        (["--io-threads", "many"], "--io-threads"),
        (["--log-level", "shout"], "--log-level"),
        (["--config-filename"], "--config-filename"),
    ],
)
def test_bad_use_is_one_line(arguments: list[str], said: str) -> None:
    ended = greet(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in one_line(ended.stderr)


def test_a_bad_declaration_names_flag_and_key() -> None:
    ended = greet(attributes="extra_args = [(['--x'], {'gravity': 9.81})]")
    assert ended.returncode == 2
    assert "--x has the key 'gravity'" in one_line(ended.stderr)


@pytest.mark.parametrize("attributes", ["needs_zmq = True", ""])
def test_a_command_that_needs_zeromq_refuses_to_do_without(attributes: str) -> None:
    ended = greet(attributes=attributes, env=configure(zmq_enabled=False))
    assert ended.returncode == (5 if attributes else 0)
    assert ("zmq_enabled" in ended.stderr) is bool(attributes)


LOG = "self.log.debug('fine'), self.log.info('plain'), self.log.error('grave')"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["plain", "grave"]),
        (["--log-level", "debug"], ["fine", "plain", "grave"]),
        (["--log-level", "ERROR"], ["grave"]),
        (["--debug"], ["fine", "plain", "grave"]),
    ],
)
@pytest.mark.parametrize("prints_data", [False, True])
def test_the_log(arguments: list[str], words: list[str], prints_data: bool) -> None:
    ended = greet(*arguments, body=LOG, attributes=f"prints_data = {prints_data}")
    log, other = (ended.stderr, ended.stdout) if prints_data else (ended.stdout, ended.stderr)
    assert [line.rpartition(" ")[2] for line in log.splitlines() if "fedmsg.commands" in line] == words
    assert other == ""


def test_data_on_standard_output_leaves_other_logging_alone() -> None:
    file = {"class": "logging.FileHandler", "filename": "log.txt"}
    logging = {"handlers": {"file": file}, "loggers": {"fedmsg": {"handlers": ["file"]}}}
    ended = greet(body=LOG, attributes="prints_data = True", env=configure(logging=logging))
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "grave" in Path("log.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: int) -> None:
    body = "try:\n    print('ready', flush=True)\n    signal.pause()\nfinally:\n    print('closed')"
    with Process(write(body)) as process:
        process.wait_for("ready")
        assert process.stop(number) == 0
        assert (process.out, process.err) == (["ready", "closed"], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: int) -> None:
    body = f"try:\n{textwrap.indent(WAIT, '    ')}\nfinally:\n    print('stuck', flush=True)\n    signal.pause()"
    with Process(write(body)) as process:
        process.wait_for("ready")
        process.popen.send_signal(number)
        process.wait_for("stuck")
        assert process.stop(number) == -number


LOSE = """
class Frame:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        print('the handler has run')

print(Frame() and 'ready', flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_while_something_is_destroyed_is_not_lost(name: str) -> None:
    ended = greet(body=LOSE.replace("{name}", name))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ready\n", "")


def test_other_errors_while_something_is_destroyed_are_shown() -> None:
    ended = greet(body=LOSE.replace("os.kill(os.getpid(), signal.{name})", "1 / 0").replace("while True", "if False"))
    assert ended.returncode == 0
    assert "ZeroDivisionError" in ended.stderr


def test_hang_up_is_answered() -> None:
    with Process(write(body="while True:\n    print('ready', flush=True)\n    signal.pause()")) as process:
        process.wait_for("ready")
        process.popen.send_signal(signal.SIGHUP)
        assert process.wait_for("SIGHUP", stream="err").startswith("greet: SIGHUP: nothing is reloaded")
        assert process.stop() == 0


def test_what_was_to_be_ignored_stays_ignored() -> None:
    command = " ".join(write("print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"))
    ended = run(["bash", "-c", f"trap '' HUP; exec {command}"])
    assert ended.stdout == "True\n"


def test_the_handlers_are_given_back() -> None:
    write("return signal.getsignal(signal.SIGTERM)")
    code = "import greet, signal; print(greet.greet() == 0, signal.getsignal(signal.SIGTERM) == 0)"
    assert run([sys.executable, "-c", code], env={"PYTHONPATH": "."}).stdout == "False True\n"


def test_it_runs_in_a_thread_too() -> None:
    write()
    code = "import greet, threading; t = threading.Thread(target=greet.greet); t.start(); t.join()"
    ended = run([sys.executable, "-c", code], env={"PYTHONPATH": "."})
    assert (ended.stdout, ended.stderr) == ("Hello all False\n", "")


def test_a_reader_that_leaves_is_no_error() -> None:
    body = "while True:\n    print('Hello', flush=True)"
    ended = run(["bash", "-c", f"{' '.join(write(body))} | head -n 1; echo ${{PIPESTATUS[0]}}"])
    assert (ended.stdout, ended.stderr) == ("Hello\n0\n", "")


# What click prints by itself ends with a status of click's choice.
@pytest.mark.parametrize(("argument", "status"), [("--help", 1), ("--version", 1), ("--print-config", 0), ("", 0)])
def test_nor_is_one_that_has_left_before(argument: str, status: int) -> None:
    ended = run(["bash", "-c", f"{' '.join(write())} {argument} | true; echo ${{PIPESTATUS[0]}}"])
    assert ended.stderr == ""
    assert ended.stdout in {f"{status}\n", "0\n"}


def test_an_output_that_takes_nothing_is_an_error() -> None:
    ended = run(["bash", "-c", f"{' '.join(write())} > /dev/full"])
    assert ended.returncode == 8
    assert "it can't write any more: No space left on device" in one_line(ended.stderr)


def test_an_output_that_is_closed() -> None:
    ended = run(["bash", "-c", f"{' '.join(write(attributes='prints_data = True'))} >&-"])
    assert ended.returncode == 2
    assert "standard output is closed" in one_line(ended.stderr)
    assert run(["bash", "-c", f"{' '.join(write('self.log.info(1)'))} >&-"]).returncode == 0


# What others patch is looked up by its name when a command is made.
NAMES = """
import sys
sys.argv = ["pytest", "-q", "--flag-of-somebody-else", "tests"]
import fedmsg.commands, fedmsg.config, greet
calls = []
mine = {"logging": {"version": 1}, "whom": "me"}
fedmsg.config.load_config = lambda *args, **kwargs: calls.append("load_config") or mine
fedmsg.commands.dictConfig = lambda config: calls.append(config)
command = greet.GreetCommand()
print(calls, command.config["whom"], command.config["loud"])
"""


def test_the_names_that_are_looked_up() -> None:
    write()
    ended = run([sys.executable, "-c", NAMES], env={"PYTHONPATH": "."})
    assert (ended.stdout, ended.stderr) == ("['load_config', {'version': 1}] me False\n", "")


# ---------------------------------------------------------------- the background

DAEMON = """
with open('fifo', 'w') as fifo:
    open('made', 'w').close()
    self.log.info('in the background')
    print(os.getpid(), os.getsid(0), os.getcwd(), os.isatty(1), file=fifo, flush=True)
    {then}
"""


class Background:
    """A command that goes to the background; it ends with the block.

    Args:
        then: What it does there.
        settings: What is configured.

    Attributes:
        started: How the process that was started ended.
        pid: The number of the one in the background.
        said: What else it says of itself.
    """

    def __init__(self, then: str = "signal.pause()", **settings: Any) -> None:
        os.mkfifo("fifo")
        file = {"class": "logging.FileHandler", "filename": "log.txt"}
        logging = {"handlers": {"file": file}, "loggers": {"fedmsg": {"handlers": ["file"]}}}
        self.env = configure(daemon=True, logging=logging, **settings)
        self.command = write(DAEMON.replace("{then}", then), "daemonizable = True")
        self.started = run(self.command, env=self.env)
        with Path("fifo").open() as fifo:
            pid, *self.said = fifo.readline().split()
        self.pid = int(pid)
        self._process = os.pidfd_open(self.pid)

    def wait(self) -> None:
        """Wait until it has ended."""
        assert select.select([self._process], [], [], 20)[0]

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)


def test_daemon_goes_to_the_background() -> None:
    with Background() as background:
        assert (background.started.returncode, background.started.stdout, background.started.stderr) == (0, "", "")
        session, folder, has_terminal = background.said
        assert int(session) != os.getsid(0)
        assert folder == str(Path.cwd())
        assert has_terminal == "False"
        os.kill(background.pid, signal.SIGTERM)
        background.wait()
        # Files that are made have the mask of whoever started it.
        mask = os.umask(0o022)
        os.umask(mask)
        assert Path("made").stat().st_mode & 0o777 == 0o666 & ~mask
        assert Path("log.txt").read_text().splitlines() == ["in the background"]


def test_pidfile() -> None:
    pidfile = Path("daemon.pid").absolute()
    pidfile.write_text("4194999\n")  # no system has so many processes
    with Background(pidfile=str(pidfile)) as background:
        assert int(pidfile.read_text()) == background.pid
        again = run(background.command, env=background.env)
        assert (again.returncode, again.stdout) == (6, "")
        assert f"process {background.pid} is running" in one_line(again.stderr)
        os.kill(background.pid, signal.SIGTERM)
        background.wait()
        assert not pidfile.exists()


@pytest.mark.parametrize("pidfile", ["no/such/folder/daemon.pid", "greet.py"])
def test_a_pidfile_that_can_not_be(pidfile: str) -> None:
    env = configure(daemon=True, pidfile=pidfile)
    ended = greet(attributes="daemonizable = True", env=env)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert f"pidfile: {Path(pidfile).absolute()} " in one_line(ended.stderr)


def test_a_failure_in_the_background_is_in_the_log() -> None:
    with Background("raise fedmsg.exceptions.AddressInUse('it is taken')") as background:
        background.wait()
        assert Path("log.txt").read_text().splitlines() == ["in the background", "it is taken"]


@pytest.mark.parametrize(
    ("attributes", "settings"),
    [("", {"daemon": True}), ("daemonizable = True", {"daemon": False}), ("daemonizable = True", {})],
)
def test_nothing_else_goes_to_the_background(attributes: str, settings: dict[str, Any]) -> None:
    ended = greet(attributes=attributes, env=configure(**settings))
    assert (ended.returncode, ended.stdout) == (0, "Hello all False\n")


# ---------------------------------------------------------------- completion by the shell


@pytest.mark.parametrize(
    ("command", "typed", "shown"),
    [
        ("fedmsg-tail", "--really", "--really-pretty"),
        ("fedmsg-tail", "--color al", "--color always"),
        ("fedmsg-logger", "--json", "--json-input"),
        ("fedmsg-announce", "--link", "--link"),
        ("fedmsg-relay", "--config-f", "--config-filename"),
    ],
)
def test_bash_completes(command: str, typed: str, shown: str) -> None:
    main, side = pty.openpty()
    path = f"{Path(command_path(command)).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "PS1": "ready> ", "TERM": "dumb"}
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environ,
        start_new_session=True,
    )
    os.close(side)
    try:
        variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
        os.write(main, f'eval "$({variable}=bash_source {command})"; echo set"ting up is done"\n'.encode())
        read_until(main, "setting up is done\r\nready> ")
        os.write(main, f"{command} {typed}\t  # this is the end".encode())
        line = read_until(main, "# this is the end")
        assert f"{command} {shown} " in line
    finally:
        shell.kill()
        shell.wait()
        os.close(main)


def read_until(terminal: int, text: str) -> str:
    """Read what a terminal shows until a text is there."""
    shown = ""
    while text not in shown:
        shown += os.read(terminal, 1024).decode()
    return shown

# SPDX-License-Identifier: LGPL-2.1-or-later
"""NickServ and SASL for the IRC server of tests: Atheme in a folder of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmsg.testing import free_port, wait_until
from tests import requirements
from tests.ircd import Ircd, User

_FOR_THE_SERVER = """
<bind address="127.0.0.1" port="{port}" type="servers">
<module name="spanningtree">
<module name="services_account">
<module name="sasl">
<module name="chghost">
<link name="services.irc.test" ipaddr="127.0.0.1" port="7" allowmask="*" sendpass="link" recvpass="link">
<uline server="services.irc.test" silent="yes">
<sasl target="services.irc.test">
"""

_CONFIG = """
loadmodule "modules/protocol/inspircd";
loadmodule "modules/backend/opensex";
loadmodule "modules/crypto/pbkdf2v2";
loadmodule "modules/nickserv/main";
loadmodule "modules/nickserv/identify";
loadmodule "modules/nickserv/register";
loadmodule "modules/saslserv/main";
loadmodule "modules/saslserv/plain";
serverinfo {{
 name = "services.irc.test"; desc = "tests"; numeric = "00A"; recontime = 1; restarttime = 0; netname = "Tests";
 adminname = "tests"; adminemail = "tests@irc.test"; registeremail = "tests@irc.test"; loglevel = {{ error; }};
 maxlogins = 50; maxusers = 0; mdlimit = 30; emaillimit = 10; emailtime = 300; auth = none; casemapping = rfc1459;
}};
uplink "irc.test" {{ host = "127.0.0.1"; port = {port}; send_password = "link"; receive_password = "link"; }};
nickserv {{ nick = "NickServ"; user = "NickServ"; host = "services.irc.test"; real = "tests"; }};
saslserv {{ nick = "SaslServ"; user = "SaslServ"; host = "services.irc.test"; real = "tests"; }};
general {{ join_chans = no; flood_msgs = 0; commit_interval = 5; default_clone_allowed = 50; }};
database {{ }};
"""

#: An account that there is.
ACCOUNT, PASSWORD = "newsbot", "sesame"


@contextmanager
def server_with_services(folder: Path) -> Iterator[Ircd]:
    """Run a server on which the account is registered."""
    port = free_port()
    home = folder / "services"
    home.mkdir()
    (home / "atheme.conf").write_text(_CONFIG.format(port=port), encoding="utf-8")
    program = requirements.program("atheme-services", "atheme-services")
    command = [program, "-n"]
    for flag, name in (("-c", "atheme.conf"), ("-l", "log"), ("-p", "pid"), ("-D", "")):
        command += [flag, str(home / name)]
    with Ircd(folder / "ircd", more=_FOR_THE_SERVER.format(port=port)) as server:
        services = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            _register(server.port)
            yield server
        finally:
            services.terminate()
            services.wait(10)


def _register(port: int) -> None:
    with User(port, ACCOUNT) as user:

        def there() -> bool:
            user.send("WHOIS NickServ")
            return any(" 311 " in heard.line for heard in user.heard)

        wait_until(there)
        user.send(f"PRIVMSG NickServ :REGISTER {PASSWORD} tests@irc.test")
        user.wait_for(f" {ACCOUNT} :You are now logged in as {ACCOUNT}")
        user.send("QUIT")

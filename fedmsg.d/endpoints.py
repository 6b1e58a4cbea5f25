# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where messages come from: the addresses that a listener connects to."""

from __future__ import annotations

config = {
    # A name for each publisher, with the addresses that it may bind. A listener, such as
    # fedmsg-tail, connects to all of them. A program that publishes by itself binds the first
    # one that is free under its name, which is "<program>.<host>", so that a server with four
    # processes needs four addresses:
    #
    # "shop.web01": [f"tcp://web01.example.org:{port}" for port in range(3000, 3004)],
    #
    # "relay_outbound" is what fedmsg-relay binds. With a relay, no other program needs an entry. An
    # "endpoints" of yours takes the place of this one as a whole; those of several files are merged.
    #     "endpoints": {
    #         "relay_outbound": ["tcp://127.0.0.1:4001"],
    #     },
    #
    # Domains of other buses to listen to as well. Their endpoints are looked up in the DNS, as SRV
    # records of _fedmsg._tcp.<domain>. Needs: pip install 'fedmsg[srv]'
    #     "srv_endpoints": [],
}

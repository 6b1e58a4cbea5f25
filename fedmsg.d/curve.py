# SPDX-License-Identifier: LGPL-2.1-or-later
"""CURVE: encrypted connections, open to those whose keys are known. Off unless set up.

``fedmsg-certs curve NAME`` makes a key pair: NAME.key may be public, NAME.key_secret
stays where it is.
"""

from __future__ import annotations

config = {
    # Our own key pair: the path of a file that ends in .key_secret.
    #     "curve_key": None,
    #
    # On machines that publish or listen: the public key of each server that has one, by its name
    # in endpoints, and "relay_inbound" for the relay that we publish through. Paths of files.
    #     "curve_servers": {},
    #
    # On the relay: the folder with the public keys of those who may publish, and of those who may
    # subscribe. A side without a folder is open to every program that can reach it.
    #     "curve_publishers": None,
    #     "curve_subscribers": None,
}

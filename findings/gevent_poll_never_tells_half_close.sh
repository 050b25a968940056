#!/bin/bash
# gevent's select.poll takes POLLRDHUP without complaint and never reports it.
#
# Seen with gevent 26.9.0 on CPython 3.11 and 3.13 on Linux.
# POLLRDHUP is how a program learns that its peer has closed its sending side while unread data still waits. gevent puts
# its own poll into the select module when it patches the standard library, and leaves the constant there. It watches
# for reading and writing only. register() accepts any flags, and the others are dropped.
# Seen with one end of a pair of sockets, whose other end had sent a byte and shut down its sending side. The original
# poll answered POLLRDHUP when asked for that alone, and POLLIN and POLLRDHUP when asked for both. The poll of gevent
# answered nothing at all within its timeout when asked for the flag alone, and POLLIN when asked for both.
#
# For an adapter: a request body that nobody has read hides a client's leaving under gevent. The original poll has to be
# asked, with a timeout of zero, so that the other greenlets do not wait for it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq gevent==26.9.0

cat > seen.py <<'PYTHON'
from gevent import monkey

monkey.patch_all()

import platform
import select
import socket
import sys
from importlib.metadata import version

NAMES = {select.POLLIN: "POLLIN", select.POLLRDHUP: "POLLRDHUP", select.POLLIN | select.POLLRDHUP: "POLLIN|POLLRDHUP"}


def ask(poll, flags):
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        asked = poll()
        asked.register(ours, flags)
        found = asked.poll(500)
    return NAMES.get(found[0][1], str(found[0][1])) if found else "nothing"


print(f"Python {platform.python_version()}, gevent {version('gevent')}")
seen = []
for name, poll in (("original poll", monkey.get_original("select", "poll")), ("gevent's poll", select.poll)):
    for flags in (select.POLLRDHUP, select.POLLIN | select.POLLRDHUP):
        seen.append(ask(poll, flags))
        print(f"{name}, asked for {NAMES[flags]}: {seen[-1]}")
if seen != ["POLLRDHUP", "POLLIN|POLLRDHUP", "nothing", "POLLIN"]:
    sys.exit("CHANGED: expected the flag from the original poll, and never from gevent's")
print("As described.")
PYTHON
timeout 60 venv/bin/python seen.py

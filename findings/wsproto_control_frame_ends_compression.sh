#!/bin/bash
# wsproto takes a control frame in the middle of a compressed message for the end of that message.
#
# Seen with wsproto 1.3.2 on CPython 3.11.
# RFC 7692 section 6.1 compresses data frames only, and RFC 6455 section 5.4 lets control frames come between the
# fragments of a message. The extension that wsproto has for permessage-deflate keeps, per connection, whether the
# message under way is compressed, and takes that back at the end of any frame that is final, a ping too.
# Seen: a compressed message in two frames arrived whole. The same with a ping in between did not: the message came as
# bytes that are still compressed, and nothing said so.
#
# For a user of wsproto: an heir of PerMessageDeflate that leaves control frames alone in its three inbound methods.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq wsproto==1.3.2

cat > seen.py <<'PYTHON'
import platform
import sys
from importlib.metadata import version

from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.extensions import PerMessageDeflate

TEXT = "the first half, and the second half of it"


def received(*, with_ping):
    """What a server makes of TEXT in two compressed frames."""
    client, server = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.send(ws.Request(host="localhost", target="/", extensions=[PerMessageDeflate()])))
    list(server.events())
    client.receive_data(server.send(ws.AcceptConnection(extensions=[PerMessageDeflate()])))
    list(client.events())
    frames = [client.send(ws.BytesMessage(data=TEXT[:15].encode(), message_finished=False))]
    if with_ping:
        frames.append(client.send(ws.Ping()))
    frames.append(client.send(ws.BytesMessage(data=TEXT[15:].encode())))
    data, end = b"", None
    for frame in frames:
        server.receive_data(frame)
        for event in server.events():
            if isinstance(event, ws.BytesMessage):
                data += bytes(event.data)
            elif isinstance(event, ws.CloseConnection):
                end = f"closed with {int(event.code)}: {event.reason}"
    return data, end


print(f"Python {platform.python_version()}, wsproto {version('wsproto')}")
for with_ping in (False, True):
    try:
        data, end = received(with_ping=with_ping)
    except Exception as error:
        data, end = b"", f"raised {type(error).__name__}: {error}"
    whole = data == TEXT.encode()
    print(f"{'with' if with_ping else 'without'} a ping: {'whole' if whole else f'{data!r}'}; {end or 'no end'}")
    if whole is with_ping:
        sys.exit("CHANGED: expected the message to be whole without a ping, and not with one")
print("As described.")
PYTHON
timeout 60 venv/bin/python seen.py

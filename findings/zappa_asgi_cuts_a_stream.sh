#!/bin/bash
# Zappa tells an ASGI app that its client has left as soon as the body is read, and Starlette then cuts its stream.
#
# Seen with Zappa 0.63.0 and Starlette 1.7.0, on CPython 3.11 and 3.13.
# Zappa recognizes an ASGI app, and calls it with the events of AWS Lambda. Its second receive() returns http.disconnect
# at once, although the client waits for the answer: a comment there says that it would otherwise block. The ASGI
# specification has this event for a client that has gone. Starlette's StreamingResponse waits for it beside the stream,
# and ends the stream when it comes.
# Seen: a stream of three parts, with a short pause between them, was answered with 200 and the first part alone.
# Nothing was logged. Besides, each event ran on an event loop of its own, and no loop was closed, so that what an app
# keeps for its loop (a pool of connections, a lock) belonged to a loop that no longer ran.
#
# For an adapter: give Zappa the WSGI interface, also for an ASGI app. Its WSGI side takes the whole stream.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq zappa==0.63.0 starlette==1.7.0

cat > application.py <<'PYTHON'
import asyncio

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

loops = []


async def stream(request):
    loops.append(asyncio.get_running_loop())

    async def parts():
        for number in range(3):
            yield f"part {number};"
            await asyncio.sleep(0.01)

    return StreamingResponse(parts())


app = Starlette(routes=[Route("/stream", stream)])
PYTHON

cat > zappa_settings.py <<'PYTHON'
APP_MODULE, APP_FUNCTION, DJANGO_SETTINGS = "application", "app", None
PROJECT_NAME, API_STAGE, DOMAIN, BASE_PATH = "seen", "dev", None, None
LOG_LEVEL, DEBUG, BINARY_SUPPORT, EXCEPTION_HANDLER = "WARNING", False, True, None
ENVIRONMENT_VARIABLES, CONTEXT_HEADER_MAPPINGS = {}, {}
AWS_EVENT_MAPPING, COGNITO_TRIGGER_MAPPING = {}, {}
PYTHON

cat > seen.py <<'PYTHON'
import platform
import sys
import warnings
from importlib.metadata import version

import application
from zappa.handler import LambdaHandler

EVENT = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/stream",
    "rawQueryString": "",
    "headers": {"host": "example.org", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
    "requestContext": {
        "http": {"method": "GET", "path": "/stream", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.9"},
        "stage": "$default",
    },
    "isBase64Encoded": False,
}

warnings.simplefilter("ignore")
handler = LambdaHandler("zappa_settings", None)
print(f"Python {platform.python_version()}, Zappa {version('zappa')}, Starlette {version('starlette')}")
answers = [handler.handler(EVENT, None) for _ in range(2)]
bodies = [(answer["statusCode"], answer["body"]) for answer in answers]
loops = len(set(map(id, application.loops)))
unclosed = [loop for loop in application.loops if not loop.is_closed()]
print(f"Zappa sees {handler.app_type}; two events were answered {bodies}, on {loops} loops; {len(unclosed)} are not closed")
if (bodies, loops, len(unclosed)) != ([(200, "part 0;")] * 2, 2, 2):
    sys.exit("CHANGED: expected 200 and the first part alone, each time on a loop of its own that is not closed")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py

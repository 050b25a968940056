#!/bin/bash
# Zappa sends each cookie of a WSGI app twice.
#
# Seen with Zappa 0.63.0 and Flask 3.1.3, on CPython 3.11 and 3.13.
# Zappa puts a middleware around a WSGI app that writes the name Set-Cookie in small letters. It means to take the
# original headers out, and keeps them: its condition looks for names that are bytes, from the days of Python 2.
# Seen: a page that sets the cookies a and b is answered, for an event of API Gateway's version 2.0, with the list
# a, b, a, b; and for one of version 1.0 under two spellings of the header, in which each value stands twice, so that
# the client gets eight. The order is kept, so a client ends with the right cookies, but a session cookie of
# four kibibytes counts as often against the limits of the gateway and of proxies.
#
# For an adapter: compare the cookies at a host as a set, not as a list.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
timeout 300 venv/bin/pip install -qq zappa==0.63.0 flask==3.1.3

cat > application.py <<'PYTHON'
from flask import Flask, make_response

app = Flask(__name__)


@app.get("/")
def page():
    response = make_response("page")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response
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
from importlib.metadata import version

from application import app
from zappa.handler import LambdaHandler

HEADERS = {"host": "example.org", "x-forwarded-proto": "https", "x-forwarded-port": "443"}
HTTP_API = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": HEADERS,
    "requestContext": {
        "http": {"method": "GET", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.9"},
        "stage": "$default",
    },
    "isBase64Encoded": False,
}
REST_API = {
    "version": "1.0",
    "resource": "/",
    "path": "/",
    "httpMethod": "GET",
    "headers": HEADERS,
    "multiValueHeaders": {name: [value] for name, value in HEADERS.items()},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "requestContext": {"httpMethod": "GET", "path": "/", "identity": {"sourceIp": "203.0.113.9"}, "stage": "dev"},
    "body": None,
    "isBase64Encoded": False,
}


def names(values):
    return [value.partition("=")[0] for value in values]


print(f"Python {platform.python_version()}, Zappa {version('zappa')}, Flask {version('flask')}")
sent = names(app.test_client().get("/").headers.getlist("Set-Cookie"))
handler = LambdaHandler("zappa_settings", None)
http_api = names(handler.handler(HTTP_API, None)["cookies"])
found = handler.handler(REST_API, None)["multiValueHeaders"]
rest_api = {name: names(values) for name, values in found.items() if name.lower() == "set-cookie"}
print(f"The app sets {sent}; Zappa gives API Gateway 2.0 {http_api}, and API Gateway 1.0 {rest_api}")
twice = ["a", "b", "a", "b"]
if (sent, http_api, rest_api) != (["a", "b"], twice, {"Set-Cookie": twice, "set-cookie": twice}):
    sys.exit("CHANGED: expected each cookie twice in version 2.0, and twice under two spellings in version 1.0")
print("As described.")
PYTHON
timeout 90 venv/bin/python seen.py

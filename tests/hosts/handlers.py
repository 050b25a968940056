"""The examples of docs/servers/serverless.md as modules, with apps in place of `mysite`."""

import asyncio
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "servers" / "serverless.md"
TASK = 0.1  # seconds that work after a response takes; nothing depends on it
done: list[str] = []


def examples(heading: str) -> list[str]:
    """The code blocks below a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    found = [part for part in section if part.startswith(f"{heading}\n")]
    assert 1 == len(found), heading
    return re.findall(r"^```python\n(.*?)^```$", found[0], re.MULTILINE | re.DOTALL)


def example(heading: str, number: int, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """One of them, imported."""
    for name in ("mysite", "mysite.wsgi", "mysite.asgi"):
        module: Any = types.ModuleType(name)
        module.application = wsgi if name == "mysite.wsgi" else asgi
        monkeypatch.setitem(sys.modules, name, module)
    made = types.ModuleType("example")
    exec(compile(examples(heading)[number], f"{PAGE.name}: {heading}", "exec"), made.__dict__)
    done.clear()
    return made


def answer(method: str, path: str, body: bytes) -> bytes:
    return f"{method} {path} {body.decode()}".encode()


class _Closing:
    """A WSGI response that has something to do at its end."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._left)

    def close(self) -> None:
        done.append("closed")


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "a=1")])
    return _Closing(answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], body))


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    more = True
    while more:
        event = await receive()
        body += event["body"]
        more = event["more_body"]
    headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1")]
    path = scope["path"].removeprefix(scope["root_path"])
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer(scope["method"], path, body)})
    await asyncio.sleep(TASK)
    done.append("mail sent")


def gateway_v2(method: str, path: str, body: str | None = None) -> dict[str, Any]:
    """An event of AWS API Gateway, payload version 2.0: no Content-Length, whatever the method."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "host": "abc.execute-api.eu-west-1.amazonaws.com",
            "x-forwarded-proto": "https",
            "x-forwarded-port": "443",
            **({"content-type": "application/json"} if body else {}),
        },
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.9"},
            "stage": "$default",
        },
        **({"body": body} if body else {}),
        "isBase64Encoded": False,
    }


def gateway_v1(method: str, path: str, body: str | None = None) -> dict[str, Any]:
    """An event of AWS API Gateway, payload version 1.0."""
    headers = {"Host": "abc.execute-api.eu-west-1.amazonaws.com", "X-Forwarded-Proto": "https"}
    return {
        "version": "1.0",
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"httpMethod": method, "path": path, "identity": {"sourceIp": "203.0.113.9"}, "stage": "p"},
        "body": body,
        "isBase64Encoded": False,
    }


def balancer(method: str, path: str, body: str = "") -> dict[str, Any]:
    """An event of an AWS load balancer."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/a/1"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": {"host": "a.example", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
        "body": body,
        "isBase64Encoded": False,
    }

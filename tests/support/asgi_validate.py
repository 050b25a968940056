"""The twin of `wsgiref.validate` for ASGI: stands between a server and an app and checks what either sends the other.

`asgi_validator(app)` is an ASGI app. Every event moves one of the three tables below; an event that the table has no
row for, or that is badly formed, raises `AssertionError` with the clause it breaks, into whoever made the step. Because
an app may swallow what its `send` raises, each complaint is also kept in `.complaints`, and raised from the call.

The tables and the checks follow the ASGI specification, HTTP (version 2.5) and Lifespan (version 2.0), and are stricter
in one place: an event after the end of a response, which a server ignores, is a complaint here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import isawaitable
from typing import Any

# State x event -> state. "more" and "last" stand for `more_body`.
RECEIVE_TABLE = {
    ("reading", "http.request more"): "reading",
    ("reading", "http.request last"): "read",
    ("reading", "http.disconnect"): "gone",
    ("read", "http.disconnect"): "gone",
    ("gone", "http.disconnect"): "gone",
}
SEND_TABLE = {
    ("silent", "http.response.early_hint"): "silent",
    ("silent", "http.response.start"): "started",
    ("started", "http.response.early_hint"): "started",
    ("started", "http.response.body more"): "streaming",
    ("started", "http.response.body last"): "complete",
    ("started", "http.response.pathsend"): "complete",
    ("streaming", "http.response.body more"): "streaming",
    ("streaming", "http.response.body last"): "complete",
}
LIFESPAN_TABLE = {
    ("new", "received lifespan.startup"): "starting",
    ("starting", "sent lifespan.startup.complete"): "running",
    ("starting", "sent lifespan.startup.failed"): "failed",
    ("running", "received lifespan.shutdown"): "stopping",
    ("stopping", "sent lifespan.shutdown.complete"): "stopped",
    ("stopping", "sent lifespan.shutdown.failed"): "stopped",
}
# In which states an app that was not cancelled and did not raise may return from a lifespan call.
LIFESPAN_ENDS = {"new", "starting", "failed", "running", "stopped"}
EXTENSION_EVENTS = {"http.response.early_hint", "http.response.pathsend"}
HTTP_VERSIONS = {"1.0", "1.1", "2", "3"}

Complain = Callable[..., None]


class asgi_validator:  # noqa: N801 - used as a decorator, and named as `wsgiref.validate.validator` is
    """Wrap `app`; raise `AssertionError`, and keep it in `.complaints`, where either side breaks the specification."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.complaints: list[str] = []
        self.lifespan_state: object = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        mine: list[str] = []

        def check(holds: bool, clause: str, *seen: object) -> None:
            if not holds:
                mine.append(f"{clause}; seen: {', '.join(map(repr, seen))}" if seen else clause)
                self.complaints.append(mine[-1])
                raise AssertionError(mine[-1])

        async def checked_receive() -> Any:
            check(not conversation.over, "Applications: the app called receive() after its call had ended")
            waiting = receive()
            check(isawaitable(waiting), "Applications: receive() must return an awaitable", waiting)
            event = await waiting
            check(isinstance(event, dict), "Events: the server's event must be a dict", event)
            conversation.received(event)
            return event

        async def checked_send(event: Any) -> None:
            check(not conversation.over, "Applications: the app called send() after its call had ended", event)
            check(isinstance(event, dict), "Events: the app's event must be a dict", event)
            if isinstance(event.get("headers"), Iterator):
                event = event | {"headers": list(event["headers"])}
            conversation.sent(event)
            waiting = send(event)
            check(isawaitable(waiting), "Applications: send() must return an awaitable", waiting)
            await waiting

        _check_scope(check, scope)
        conversation = _Lifespan(check) if scope["type"] == "lifespan" else _Http(check, scope)
        if scope["type"] == "lifespan":
            self.lifespan_state = scope.get("state")
        else:
            shared = scope.get("state") is not None and scope["state"] is self.lifespan_state
            check(not shared, "Lifespan State: each request must get a copy")
        try:
            await self.app(scope, checked_receive, checked_send)
            conversation.ended()
        finally:
            conversation.over = True
        if mine:
            raise AssertionError(mine[0])


class _Http:
    """One request: where its body and its response are, and how many bytes each may still have (None: not declared)."""

    def __init__(self, check: Complain, scope: Mapping[str, Any]) -> None:
        self.check = check
        self.extensions = scope.get("extensions") or {}
        self.method = scope["method"]
        self.reading = "reading"
        self.to_read = _content_length(scope["headers"])
        self.response = "silent"
        self.to_send: int | None = None
        self.over = False

    def received(self, event: Mapping[str, Any]) -> None:
        kind = str(event.get("type"))
        if kind == "http.request":
            kind, self.to_read = self._piece(event, self.to_read, "HTTP, Request")
        step = (self.reading, kind)
        self.check(step in RECEIVE_TABLE, "HTTP, Request and Disconnect: no such event of the server here", step)
        self.reading = RECEIVE_TABLE[step]

    def sent(self, event: Mapping[str, Any]) -> None:
        kind = str(event.get("type"))
        if kind in EXTENSION_EVENTS:
            self.check(kind in self.extensions, "Extensions: the app sent one that the scope does not offer", kind)
        if kind == "http.response.start":
            status = event.get("status")
            self.check(type(status) is int and 200 <= status <= 999, "HTTP, Response Start: status", status)
            _check_headers(self.check, event.get("headers", []), "HTTP, Response Start: headers")
            # RFC 9110 section 8.6: here the length is that of a body which is not sent.
            if self.method != "HEAD" and status not in (204, 304):
                self.to_send = _content_length(event.get("headers", []))
        if kind == "http.response.body":
            kind, self.to_send = self._piece(event, self.to_send, "HTTP, Response Body")
        step = (self.response, kind)
        self.check(step in SEND_TABLE, "HTTP, Response Start and Body: no such event of the app here", step)
        self.response = SEND_TABLE[step]

    def _piece(self, event: Mapping[str, Any], due: int | None, clause: str) -> tuple[str, int | None]:
        body, more = event.get("body", b""), event.get("more_body", False)
        self.check(type(body) is bytes, f"{clause}: body must be bytes", event)
        self.check(type(more) is bool, f"{clause}: more_body must be a bool", event)
        if due is not None:
            due -= len(body)
            self.check(due >= 0 if more else due == 0, f"{clause}: RFC 9110 section 8.6, Content-Length; left", due)
        return f"{event['type']} {'more' if more else 'last'}", due

    def ended(self) -> None:
        complete = self.response == "complete" or self.reading == "gone"
        self.check(complete, "HTTP, Response Body: the app returned without a complete response", self.response)


class _Lifespan:
    """The life of one process: how far startup and shutdown are."""

    def __init__(self, check: Complain) -> None:
        self.check = check
        self.state = "new"
        self.over = False

    def received(self, event: Mapping[str, Any]) -> None:
        self._step(f"received {event.get('type')}")

    def sent(self, event: Mapping[str, Any]) -> None:
        self.check(type(event.get("message", "")) is str, "Lifespan: message must be a str", event)
        self._step(f"sent {event.get('type')}")

    def _step(self, did: str) -> None:
        self.check((self.state, did) in LIFESPAN_TABLE, "Lifespan: no such event in this state", self.state, did)
        self.state = LIFESPAN_TABLE[self.state, did]

    def ended(self) -> None:
        self.check(self.state in LIFESPAN_ENDS, "Lifespan, Shutdown: the app returned without an answer", self.state)


def _check_scope(check: Complain, scope: Any) -> None:
    check(isinstance(scope, dict), "Connection Scope: must be a dict", type(scope))
    check(scope.get("type") in ("http", "lifespan"), "Connection Scope: type", scope.get("type"))
    version = scope.get("asgi")
    check(isinstance(version, dict) and version.get("version") == "3.0", "Applications: asgi['version']", version)
    check(isinstance(scope.get("state", {}), dict), "Lifespan State: state must be a dict", scope.get("state"))
    if scope["type"] == "lifespan":
        return
    method = scope.get("method")
    check(type(method) is str and method == method.upper(), "HTTP Connection Scope: method", method)
    check(scope.get("http_version") in HTTP_VERSIONS, "HTTP Connection Scope: http_version", scope.get("http_version"))
    check(scope.get("scheme", "http") in ("http", "https"), "HTTP Connection Scope: scheme", scope.get("scheme"))
    path = scope.get("path")
    check(type(path) is str and path[:1] in ("/", "*", ""), "HTTP Connection Scope: path", path)
    raw_path = scope.get("raw_path")
    check(raw_path is None or (type(raw_path) is bytes and b"?" not in raw_path), "... raw_path", raw_path)
    check(type(scope.get("query_string")) is bytes, "... query_string must be bytes", scope.get("query_string"))
    root_path = scope.get("root_path", "")
    check(type(root_path) is str and not root_path.endswith("/"), "... root_path must be a str", root_path)
    extensions = scope.get("extensions") or {}
    check(all(isinstance(value, dict) for value in extensions.values()), "Extensions: each a dict", extensions)
    _check_headers(check, scope.get("headers"), "HTTP Connection Scope: headers")
    for side in ("client", "server"):
        _check_address(check, side, scope.get(side))


def _check_headers(check: Complain, headers: Any, clause: str) -> None:
    check(isinstance(headers, Iterable), clause, headers)
    for pair in headers:
        check(isinstance(pair, list | tuple) and len(pair) == 2, f"{clause}: two-item iterables", pair)
        name, value = pair
        check(type(name) is bytes and type(value) is bytes, f"{clause}: byte strings", pair)
        check(name != b"" and name == name.lower(), f"{clause}: names must be lower-case", name)
        check(not name.startswith(b":"), f"{clause}: pseudo headers must be removed", name)
        check(not set(name + value) & set(b"\r\n\0"), f"{clause}: RFC 9110 section 5.5, CR, LF or NUL", pair)


def _check_address(check: Complain, side: str, address: Any) -> None:
    if address is None:
        return
    check(isinstance(address, list | tuple) and len(address) == 2, f"HTTP Connection Scope: {side}", address)
    host, port = address
    unix_socket = side == "server" and port is None
    check(type(host) is str and (type(port) is int or unix_socket), f"HTTP Connection Scope: {side}", address)


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    return next((int(value) for name, value in headers if name == b"content-length"), None)

"""One request to a `Mounts`, or to anything else, from a server of either kind."""

import contextlib
from collections.abc import Iterator
from typing import Any

import anyio

from bridge import Mounts
from support.plain_servers import Seen, body_events, call_asgi, call_wsgi, environ_for, scope_for
from support.waiting import bounded


@contextlib.contextmanager
def closing(*sites: Mounts) -> Iterator[Mounts]:
    try:
        yield sites[0]
    finally:
        for site in sites:
            bounded(site.close)


async def by_asgi(app: Any, path: str, method: str = "GET", body: bytes = b"", **changed: Any) -> Seen:
    headers = [(b"content-length", b"%d" % len(body))] if body else []
    seen = await call_asgi(app, scope_for(method, path, headers, **changed), body_events(body), anyio.Event)
    if seen.error is not None:
        raise seen.error
    return seen


def by_wsgi(app: Any, path: str, method: str = "GET", body: bytes = b"", **changed: Any) -> Seen:
    # In a thread of its own: the loop of the test is no part of a WSGI server.
    native = path.encode().decode("latin-1")
    seen = bounded(lambda: call_wsgi(app, environ_for(method, native, body, **changed)))
    if seen.error is not None:
        raise seen.error
    return seen

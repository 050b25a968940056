"""The requests that a check makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

_PIECES: Final = (b"a=1&", b"b=%C3%BC&", b"c=" + b"x" * 70_000)


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """One kind of request. The body comes in pieces, with or without Content-Length. `leaves`: when the client leaves.
    `at_once`: how many such requests are made at the same time.
    """

    name: str
    method: str
    path: str
    pieces: tuple[bytes, ...] = ()
    chunked: bool = False
    leaves: Literal["", "in the response", "in the request"] = ""
    at_once: int = 1

    def scope(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """The scope of this request (ASGI HTTP, "HTTP Connection Scope")."""
        path, _, query = self.path.partition("?")
        headers = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"bridge-check"), (b"accept", b"*/*")]
        if self.chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        elif self.pieces:
            headers.append((b"content-length", b"%d" % sum(map(len, self.pieces))))
        if self.pieces:
            headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": quote(query, safe="=&+%/").encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "extensions": {},
        }
        return scope if state is None else {**scope, "state": dict(state)}


def requests_for(path: str, *, safe: bool) -> Iterator[CheckRequest]:
    """The requests for one path. With `safe`, only those that do not change data (RFC 9110 9.2.1)."""
    yield CheckRequest(f"GET {path}", "GET", path)
    yield CheckRequest(f"HEAD {path}", "HEAD", path)
    query = "&" if "?" in path else "?"
    yield CheckRequest(f"GET {path}, a query that is not ASCII", "GET", f"{path}{query}bridge-check=%C3%BC%20+")
    if not safe:
        yield CheckRequest(f"POST {path}, Content-Length, one piece", "POST", path, (b"a=1&b=2",))
        yield CheckRequest(f"POST {path}, Content-Length, several pieces", "POST", path, _PIECES)
        yield CheckRequest(f"POST {path}, chunked", "POST", path, _PIECES, chunked=True)
        yield CheckRequest(f"POST {path}, no body", "POST", path, (b"",))
        yield CheckRequest(f"POST {path}, client leaves in its body", "POST", path, _PIECES, leaves="in the request")
    yield CheckRequest(f"GET {path}, client leaves in the response", "GET", path, leaves="in the response")
    yield CheckRequest(f"GET {path}, 8 at once", "GET", path, at_once=8)

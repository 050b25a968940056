"""Header fields and status lines: names, values, and the rules of both specifications for them.

The tables here are caches: a server sees the same few dozen names and statuses all day, so each is computed once.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from bridge._types import ASGIHeaders, WSGIHeaders
from bridge.errors import ApplicationProtocolError

K = TypeVar("K", bytes, str)
V = TypeVar("V")

# RFC 9110 5.6.2: the characters of a token, and so of a field name.
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# RFC 9110 5.5: a value consists of visible characters, SP, HTAB and octets above 0x7f. These are all others.
_CONTROLS = frozenset(map(chr, [*range(9), *range(10, 32), 127]))
# RFC 2616 13.5.1, to which PEP 3333 refers. wsgiref and servers spell the trailer field in both ways.
_HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ]
)
_HEADERS_CLAUSE = 'PEP 3333, "The start_response() Callable"'
_HOP_CLAUSE = 'PEP 3333, "Other HTTP Features"'
_RESPONSE_START_CLAUSE = 'ASGI HTTP, "Response Start"'
_LENGTH_CLAUSE = "RFC 9110 8.6"
_VALUE_CLAUSE = "RFC 9110 5.5"


class Memo(dict[K, V]):
    """A dict that computes missing entries, for names that somebody else chooses.

    A flood of odd names must not make it grow: it is emptied at `LIMIT` entries, and does not keep names longer than
    `LONGEST`. Reading an existing entry costs as much as reading a dict.
    """

    LIMIT = 1024
    LONGEST = 64

    def __init__(self, work_out: Callable[[Any], V]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: K) -> V:
        value = self._work_out(key)
        if isinstance(key, bytes | str) and len(key) <= self.LONGEST:
            if len(self) >= self.LIMIT:
                self.clear()
            self[key] = value
        return value


def _work_out_environ_key(name: bytes) -> str | None:
    if not isinstance(name, bytes):
        raise TypeError(f"header name {name!r:.80} is not bytes")
    text = name.decode("latin-1")
    # "_" is refused because "-" becomes "_": a client could forge a header that only a proxy may set.
    # `Proxy` would become HTTP_PROXY, which HTTP clients read as their configuration (httpoxy).
    if not text or "_" in text or not _TOKEN.issuperset(text) or (upper := text.upper()) == "PROXY":
        return None
    key = upper.replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def _work_out_scope_name(key: object) -> bytes | None:
    if not isinstance(key, str):
        return None  # middleware may put any key into an environ
    if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        name = key
    # The first two have their own keys. The third is the process's own configuration, which some servers copy.
    elif key.startswith("HTTP_") and key not in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"):
        name = key[5:]
    else:
        return None
    if not name or not _TOKEN.issuperset(name):
        return None
    return name.lower().replace("_", "-").encode("latin-1")


ENVIRON_KEYS: Memo[bytes, str | None] = Memo(_work_out_environ_key)
SCOPE_NAMES: Memo[str, bytes | None] = Memo(_work_out_scope_name)


def is_length(value: str) -> bool:
    """Whether a Content-Length is valid (RFC 9110 8.6), and no longer than a 64-bit number."""
    return value.isascii() and value.isdigit() and len(value) < 20


def _fault(did: str, expected: str, clause: str) -> NoReturn:
    raise ApplicationProtocolError(did, expected=expected, clause=clause)


def _work_out_response_name(name: str) -> bytes | None:
    if not name or not _TOKEN.issuperset(name):
        _fault(f"gave the header name {name!r:.80}", "an RFC 9110 token", _HEADERS_CLAUSE)
    lower = name.lower()
    return None if lower in _HOP_BY_HOP else lower.encode("ascii")


def _work_out_native_name(name: bytes) -> str | None:
    text = name.decode("latin-1")
    if not text or not _TOKEN.issuperset(text):
        _fault(f"sent the header name {name!r:.80}", "an RFC 9110 token", _RESPONSE_START_CLAUSE)
    return None if text.lower() in _HOP_BY_HOP else text


# What a header of `start_response` may be. A constant, because `tuple | list` makes a new object at each use.
_PAIR_TYPES = (tuple, list)
# None for headers that are dropped.
_RESPONSE_NAMES: Memo[str, bytes | None] = Memo(_work_out_response_name)
_NATIVE_NAMES: Memo[bytes, str | None] = Memo(_work_out_native_name)


def _refuse_controls(name: str, value: str, clause: str) -> None:
    if not _CONTROLS.isdisjoint(value):
        found = next(character for character in value if character in _CONTROLS)
        _fault(f"gave the header {name:.80} a value with {found!r}", "no control characters", clause)


def _length(value: str, before: int | None, clause: str) -> int:
    """The Content-Length `value` as a number. Raises if it is not a number, or differs from the one `before`."""
    if not is_length(value):
        _fault(f"gave the Content-Length {value!r:.80}", "a decimal number of bytes", f"{_LENGTH_CLAUSE}; {clause}")
    length = int(value)
    if before is not None and before != length:
        _fault(f"gave the Content-Lengths {before} and {length}", "one", f"{_LENGTH_CLAUSE}; {clause}")
    return length


def asgi_headers(response_headers: WSGIHeaders) -> tuple[ASGIHeaders, int | None, Sequence[str]]:
    """The headers of `start_response` in the form of ASGI, their Content-Length, and the names that were dropped.

    Servers differ in what they accept, and apps are written for one server. So any iterable of pairs is accepted, and
    blanks around a value, which are not a part of it (RFC 9110 5.5), are removed. Hop-by-hop headers are dropped:
    some views pass on those of another server, and Gunicorn drops them too. `header_faults` reports all this. Raises
    `ApplicationProtocolError` for anything else that PEP 3333 forbids.
    """
    headers: ASGIHeaders = []
    length: int | None = None
    dropped: list[str] | None = None
    pairs: Iterable[Any] = response_headers if isinstance(response_headers, list) else _pairs(response_headers)
    for item in pairs:
        if not isinstance(item, _PAIR_TYPES) or len(item) != 2:
            seen = f"{len(item)} items" if isinstance(item, _PAIR_TYPES) else f"type {type(item).__name__}"
            _fault(f"gave a header of {seen}", "a tuple (name, value)", _HEADERS_CLAUSE)
        name, value = item
        if not (isinstance(name, str) and isinstance(value, str)):
            kinds = f"({type(name).__name__}, {type(value).__name__})"
            _fault(f"gave a header of types {kinds}", "(str, str)", _HEADERS_CLAUSE)
        if not value.isprintable():
            _refuse_controls(name, value, _HEADERS_CLAUSE)
        value = value.strip(" \t")
        lower = _RESPONSE_NAMES[name]
        if lower is None:
            dropped = dropped or []
            dropped.append(name)
            continue
        if lower == b"content-length":
            repeated = length is not None
            length = _length(value, length, _HEADERS_CLAUSE)
            if repeated:
                continue
        try:
            headers.append((lower, value.encode("latin-1")))
        except UnicodeEncodeError as error:
            did = f"gave the header {name:.80} a value with {value[error.start]!r}"
            _fault(did, "characters of latin-1", 'PEP 3333, "Unicode Issues"')
    return headers, length, dropped or ()


def _pairs(given: Any) -> Iterable[Any]:
    """The headers of `start_response`. Raises if they are not an iterable that can consist of pairs."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return given
    _fault(f"gave headers of type {type(given).__name__}", "a list", _HEADERS_CLAUSE)


def header_faults(response_headers: object) -> Iterator[ApplicationProtocolError]:
    """What PEP 3333 and HTTP forbid in the headers of `start_response`, although `asgi_headers` accepts it."""
    if not isinstance(response_headers, Iterable):
        return
    if not isinstance(response_headers, list):
        yield ApplicationProtocolError(
            f"gave headers of type {type(response_headers).__name__}", expected="a list", clause=_HEADERS_CLAUSE
        )
    if not isinstance(response_headers, list | tuple):
        return  # it may be possible to iterate over it only once
    for item in response_headers:
        if not isinstance(item, tuple):
            yield ApplicationProtocolError(
                f"gave a header of type {type(item).__name__}", expected="a tuple (name, value)", clause=_HEADERS_CLAUSE
            )
        if not isinstance(item, tuple | list) or len(item) != 2:
            continue
        name, value = item
        if isinstance(value, str) and value != value.strip(" \t"):
            yield ApplicationProtocolError(
                f"gave the header {name!r:.80} a value with blanks around it", expected="none", clause=_VALUE_CLAUSE
            )
        if isinstance(name, str) and name.lower() in _HOP_BY_HOP:
            yield ApplicationProtocolError(
                f"gave the hop-by-hop header {name:.80}", expected="only end-to-end headers", clause=_HOP_CLAUSE
            )


def wsgi_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[WSGIHeaders, int | None]:
    """The headers of `http.response.start` in the form of `start_response`, and their Content-Length.

    Hop-by-hop headers are dropped: PEP 3333 forbids them, and ASGI apps do send `Connection: close`. Blanks around a
    value, which are not a part of it (RFC 9110 5.5), are removed. Raises `ApplicationProtocolError` if the ASGI
    specification or HTTP forbids what the app sent.
    """
    result: WSGIHeaders = []
    length: int | None = None
    pairs: list[tuple[Any, Any]]
    try:
        pairs = [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        did = f"sent headers of type {type(headers).__name__} that are not pairs"
        _fault(did, "an iterable of [name, value]", _RESPONSE_START_CLAUSE)
    for name, value in pairs:
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            kinds = f"[{type(name).__name__}, {type(value).__name__}]"
            _fault(f"sent a header of types {kinds}", "[bytes, bytes]", _RESPONSE_START_CLAUSE)
        native = _NATIVE_NAMES[name]
        text = value.decode("latin-1")
        if not text.isprintable():
            _refuse_controls(name.decode("latin-1"), text, _RESPONSE_START_CLAUSE)
        text = text.strip(" \t")
        if native is None:
            continue
        if len(name) == 14 and name.lower() == b"content-length":
            repeated = length is not None
            length = _length(text, length, _RESPONSE_START_CLAUSE)
            if repeated:
                continue
        result.append((native, text))
    return result, length


def _work_out_status_code(status: str) -> int:
    code = status[:3]
    if not (code.isascii() and code.isdigit() and code >= "100" and len(code) == 3 and status[3:4] in ("", " ")):
        _fault(f"gave the status {status!r:.80}", 'a string like "200 OK"', _HEADERS_CLAUSE)
    if max(status) > "\xff":
        _fault(f"gave the status {status!r:.80}", "a native string", "PEP 3333, Unicode Issues")
    if not _CONTROLS.isdisjoint(status) or "\t" in status:
        _fault(f"gave the status {status!r:.80}", "no control characters", _HEADERS_CLAUSE)
    return int(code)


_STATUS_CODES: Memo[str, int] = Memo(_work_out_status_code)


def status_code(status: object) -> int:
    """The code of a `start_response` status. A missing reason phrase is accepted.

    Raises `ApplicationProtocolError` if it is not a string of three digits and a reason.
    """
    if not isinstance(status, str):
        _fault(f"gave a status of type {type(status).__name__}", 'a string like "200 OK"', _HEADERS_CLAUSE)
    return _STATUS_CODES[status]


def status_line(code: object) -> str:
    """The `start_response` status for a code from 100 to 999. PEP 3333 requires a reason phrase, so each code gets one.

    Raises `ApplicationProtocolError` if it is not such a code.
    """
    if not isinstance(code, int) or isinstance(code, bool) or not 100 <= code <= 999:
        _fault(f"sent the status {code!r:.80}", "an integer from 100 to 999", _RESPONSE_START_CLAUSE)
    return _status_line(code)


@functools.cache  # of at most 900 codes
def _status_line(code: int) -> str:
    from http import HTTPStatus  # noqa: PLC0415 - making its members takes as long as importing five modules of ours

    try:
        return f"{code:d} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code:d} Unknown"

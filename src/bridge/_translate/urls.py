"""The parts of a URL that an environ and a scope write differently."""

from typing import Any

from bridge.errors import ClientProtocolError

# RFC 3986 3.3: the characters of a path that need no quoting, besides letters and digits.
PATH_SAFE = "/:@!$&'()*+,;=-._~"


def text_path(native: str) -> str:
    """Turn a path of PEP 3333, whose characters stand for bytes, into the text of ASGI.

    Bytes that are not UTF-8 become U+FFFD, as under Uvicorn. Strict decoding would raise an error for every stray byte
    that a bot sends. Surrogates would break code that encodes the path, for example a template or a log. The original
    bytes are in `raw_path`.
    """
    return native.encode("latin-1").decode("utf-8", "replace")


def native_path(text: str) -> str:
    """The inverse: each character of the result is a byte of the UTF-8, or a byte that a server has escaped as a
    surrogate.

    Raises `ClientProtocolError` for other surrogates, which do not stand for a byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError as error:
        did = f"sent a URL with the character {text[error.start]!r}, which does not stand for a byte"
        raise ClientProtocolError(did, expected="a URL in UTF-8", clause="RFC 3986 2.5") from error


def request_title(method: str, path: str) -> str:
    """A request as log lines name it: the method and the path, which is quoted and cut to 200 characters."""
    return f"{method} {path!r:.200}"


def split_path(root: str, path: str) -> tuple[str, str]:
    """The two parts of `path`: `root`, and what is below it (SCRIPT_NAME and PATH_INFO). It is cut only between
    segments.

    Servers disagree whether `path` contains the root (ASGI says that it does). If it does not, all of it is below the
    root. A slash at the end of `root` belongs to the path.
    """
    bare = script = root.rstrip("/")
    if script and script[0] != "/":
        script = "/" + script
    for prefix in (bare, script):
        if path.startswith(prefix):
            rest = path[len(prefix) :]
            if not rest or rest[0] == "/":
                return script, rest
    return script, path


def server_address(server: Any, host: str | None, scheme: str) -> tuple[str, str]:
    """SERVER_NAME and SERVER_PORT, which are never empty (PEP 3333).

    `server` is that of the scope. If it is unknown or a Unix socket, the Host header `host` is used, and otherwise
    "localhost".
    """
    if server and server[0] and server[1]:
        name: str = server[0]
        if name.find(":") >= 0 and name[0] != "[":  # find(), because a list can be asked for what is "in" it too
            # RFC 3875 4.1.14: an IPv6 address is in brackets, so that URLs made from it are correct.
            name = f"[{name}]"
        return name, str(int(server[1]))
    name, port = host or "", ""
    if not name.endswith("]"):
        before, colon, after = name.rpartition(":")
        if colon:
            name, port = before, after
    if not (port.isascii() and port.isdigit()):
        port = "443" if scheme == "https" else "80"
    return name or "localhost", port

"""The parts of a URL that an environ and a scope spell differently."""

from typing import Any

from bridge.errors import ClientProtocolError

# RFC 3986 3.3: what a path may hold unquoted besides letters and digits.
PATH_SAFE = "/:@!$&'()*+,;=-._~"


def text_path(native: str) -> str:
    """A path of PEP 3333, whose characters stand for bytes, as the text that ASGI wants.

    Bytes that are no UTF-8 become U+FFFD, as under Uvicorn: strict decoding would answer every stray byte that a bot
    sends with an error, and surrogates would break whatever encodes the path, a template or a log. The bytes as they
    were are in `raw_path`.
    """
    return native.encode("latin-1").decode("utf-8", "replace")


def native_path(text: str) -> str:
    """The inverse: each character of the result is a byte of the UTF-8, and of the bytes that a server has escaped as
    surrogates.

    Raises `ClientProtocolError` where other surrogates stand for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError as error:
        raise ClientProtocolError(
            "sent a path that stands for no bytes", expected="a path in UTF-8", clause="RFC 3986 2.5"
        ) from error


def request_title(method: str, path: str) -> str:
    """A request as log lines name it: the path as text, quoted and not longer than a line takes."""
    return f"{method} {path!r:.200}"


def split_path(root: str, path: str) -> tuple[str, str]:
    """The parts of `path` that are `root` and below it (SCRIPT_NAME and PATH_INFO), cut between segments only.

    Servers disagree whether `path` holds the root (ASGI says it does); where it does not, it stays as it is. A slash at
    the end of `root` is the path's.
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
    """SERVER_NAME and SERVER_PORT, which PEP 3333 wants never empty.

    `server` is the scope's; where it is unknown or a unix socket, the Host header `host` has to do, then "localhost".
    """
    if server and server[0] and server[1]:
        name: str = server[0]
        if ":" in name and name[0] != "[":
            # RFC 3875 4.1.14: an IPv6 address is in brackets, so that URLs made of it are right.
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

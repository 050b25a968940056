"""The servers that speak HTTP/2, by prior knowledge or over TLS, and what can be expected of them there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import servers
from real_servers.kinds import GRANIAN, Kind


@dataclass(frozen=True)
class Http2Kind(Kind):
    """A server that is spoken to in HTTP/2. The app is told `protocol`, which is another one behind a proxy.

    A server `multiplexes` where the streams of one connection do not wait for each other's ends.
    """

    protocol: str = "2"
    multiplexes: bool = True

    def __str__(self) -> str:
        return f"{self.run.__name__}_over_h2"


OVERTAKEN = "if more of a request arrives after its response, Hypercorn ends the connection with all its streams"
NO_RESET = "a response that breaks off is not reset: the client waits until the idle connection is closed"
COLLECTED = "what a client does not read is collected in memory, without limit"
HYPERCORN = {"an_exception_in_the_middle_resets_the_stream": NO_RESET}
LATE = "if a connection is cut, an app that reads an upload is told only after --timeout (30 seconds)"
GUNICORN_ASGI = {"a_connection_that_is_cut_in_uploads": LATE}
ONE_BY_ONE = (
    "the streams of a connection are served one after the other, and a reset is seen only where the server waits for"
    " its client"
)
GTHREAD = dict.fromkeys(
    [
        "a_stalled_stream_beside_others",
        "a_stalled_upload_beside_others",
        "streams_that_are_reset_free_their_thread",
        "an_app_that_sends_nothing_is_told_of_the_reset",
    ],
    ONE_BY_ONE,
)
BLIND = GRANIAN["an_app_that_sends_nothing_is_told_of_the_leave"]
GRANIAN_WSGI = {
    "an_app_that_sends_nothing_is_told_of_the_reset": BLIND,
    "repeated_headers": "the parts of a cookie are joined without a space",
}
HELD = "if an upload breaks off, read() never returns, and its thread is lost"
GRANIAN_LACKS = {
    **dict.fromkeys(["uploads_that_are_reset", "a_connection_that_is_cut_in_uploads"], HELD),
    **dict.fromkeys(["a_connection_that_is_cut[/idle-close]", "a_connection_that_is_cut[/idle-abort]"], BLIND),
}


def _hypercorn(run: Callable[[Path, str], servers.Running], *, on_trio: bool = False) -> Http2Kind:
    lacks, overtaken = {"a_large_download_waits_for_its_client": COLLECTED}, {"uploads_that_nobody_reads": OVERTAKEN}
    if on_trio:  # there it is the worker that ends, and once in a while also where a connection is cut
        cut = {"a_connection_that_is_cut_in_uploads": OVERTAKEN}
        return Http2Kind(run, cannot=HYPERCORN, lacks={**lacks, **overtaken, **cut})
    return Http2Kind(run, cannot={**HYPERCORN, **overtaken}, lacks=lacks)


def _gthread(run: Callable[[Path, str], servers.Running]) -> Http2Kind:
    return Http2Kind(run, multiplexes=False, cannot=GTHREAD)


HTTP2_ASGI = [
    _hypercorn(servers.hypercorn_asyncio),
    _hypercorn(servers.hypercorn_uvloop),
    _hypercorn(servers.hypercorn_trio, on_trio=True),
    _hypercorn(servers.hypercorn_tls),
    _hypercorn(servers.hypercorn_tls_uvloop),
    _hypercorn(servers.hypercorn_tls_trio, on_trio=True),
    Http2Kind(servers.granian_asgi),
    Http2Kind(servers.granian_asgi_tls),
    Http2Kind(servers.gunicorn_asgi_h2c, cannot=GUNICORN_ASGI),
    Http2Kind(servers.gunicorn_asgi_http2, cannot=GUNICORN_ASGI),
    Http2Kind(servers.nginx_http2_uvicorn, protocol="1.1"),
]

HTTP2_WSGI = [
    Http2Kind(servers.granian_wsgi, cannot=GRANIAN_WSGI, lacks=GRANIAN_LACKS),
    Http2Kind(servers.granian_wsgi_tls, cannot=GRANIAN_WSGI, lacks=GRANIAN_LACKS),
    _gthread(servers.gunicorn_h2c),
    _gthread(servers.gunicorn_http2),
    Http2Kind(servers.nginx_http2_gunicorn, protocol="1.1"),
]

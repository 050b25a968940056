"""The servers that speak HTTP/2, by prior knowledge or over TLS, and what can be expected of them there."""

from dataclasses import dataclass

import servers
from real_servers.kinds import Kind


@dataclass(frozen=True)
class Http2Kind(Kind):
    """A server that is spoken to in HTTP/2. The app is told `protocol`, which is another one behind a proxy.

    A server `multiplexes` where the streams of one connection do not wait for each other.
    """

    protocol: str = "2"
    multiplexes: bool = True

    def __str__(self) -> str:
        return f"{self.run.__name__}_over_h2"


HTTP2_ASGI = [
    Http2Kind(servers.hypercorn_asyncio),
    Http2Kind(servers.hypercorn_uvloop),
    Http2Kind(servers.hypercorn_trio),
    Http2Kind(servers.hypercorn_tls),
    Http2Kind(servers.hypercorn_tls_uvloop),
    Http2Kind(servers.hypercorn_tls_trio),
    Http2Kind(servers.granian_asgi),
    Http2Kind(servers.granian_asgi_tls),
    Http2Kind(servers.gunicorn_asgi_h2c),
    Http2Kind(servers.gunicorn_asgi_http2),
    Http2Kind(servers.nginx_http2_uvicorn, protocol="1.1"),
]

HTTP2_WSGI = [
    Http2Kind(servers.granian_wsgi),
    Http2Kind(servers.granian_wsgi_tls),
    Http2Kind(servers.gunicorn_h2c),
    Http2Kind(servers.gunicorn_http2),
    Http2Kind(servers.nginx_http2_gunicorn, protocol="1.1"),
]

"""The servers of the matrix: how each is run, and what can be expected of it.

Those that are `core` belong to `make test`; all of them to `make test-servers`.
"""

import http.client
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import pytest

import servers
from bridge._concurrency.wake_policy import threads_take_turns

# Fewer threads than the twelve clients that leave, and less collected than the uploads that are to be streamed.
OPTIONS = "threads=4, collect=2**18, startup=apps.startup, shutdown=apps.shutdown, shutdown_timeout=1.0"
HELLO = b"Hello, world!\n"
WSGI_APP = f"bridge.WsgiToAsgi(apps.wsgi_site, {OPTIONS})"
ASGI_APP = "bridge.AsgiToWsgi(apps.asgi_site, disconnect_grace=1.0)"


def always(response: http.client.HTTPResponse) -> bool:
    return True


def never(response: http.client.HTTPResponse) -> bool:
    return False


def with_a_length(response: http.client.HTTPResponse) -> bool:
    return response.getheader("Content-Length") is not None


def with_a_known_length(response: http.client.HTTPResponse) -> bool:
    return with_a_length(response) or response.status in (204, 304)


BESIDE = ["slow_uploads_beside_normal_traffic", "stalled_readers_beside_normal_traffic"]


@dataclass(frozen=True)
class Kind:
    """A server as one sets it up, and what can be expected of it.

    `cannot` names cases and says why they fail there; they are run, and have to; the
    name may end in the parameters of one of them, in brackets. `lacks` does so for those that mean
    nothing there, or would hang the server, and are not run. A server `stands_still` between requests where no
    thread of Python runs then: what the app does beside them goes on with the next one.
    """

    run: Callable[[Path, str], servers.Running]
    core: bool = False
    keeps_connections: Callable[[http.client.HTTPResponse], bool] = always
    at_once: int = 6
    streams_uploads: bool = True
    decodes_chunks: bool = True
    stops_cleanly_on: Any = SIGTERM
    forks: bool = False
    stands_still: bool = False
    cannot: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def most_at_once(self) -> int:
        """The requests that it can have in progress: one or two where it has no threads, else as many as it is told."""
        return self.at_once if self.at_once < 6 else 1000

    def why_not_run(self, case: str) -> str | None:
        """Why a case is not run here, where it is not."""
        if self.at_once == 1 and case in BESIDE:
            return "one request at a time: a slow client holds up all others"
        return self.lacks.get(case)

    def __str__(self) -> str:
        return self.run.__name__

    def as_parameter(self) -> Any:
        marks = [pytest.mark.xdist_group(str(self)), *([] if self.core else [pytest.mark.servers])]
        return pytest.param(self, id=str(self), marks=marks)


def cut_at_once(*signals: Signals) -> dict[str, str]:
    """What to say of a server that does not wait for what is in progress when it gets one of these."""
    return {
        f"what_ends_within_the_grace_of_a_stop[{how.name}]": f"{how.name} ends the server at once" for how in signals
    }


def until_close(reason: str) -> dict[str, str]:
    """What to say of a server whose responses without a length end as their connections do."""
    return {f"a_stop_ends_live_streams[{how.name}]": reason for how in (SIGTERM, SIGINT)}


UNBOUNDED = "Daphne passes on the whole body as one event, and collects the response for a slow client without limit"
NO_LIFESPAN = "Daphne has no lifespan"
DAPHNE = {
    "an_exception_in_the_middle_is_a_broken_response": "Daphne answers an exception too late, and the client waits",
    "a_large_download_waits_for_its_client": UNBOUNDED,
    "lifespan_runs_once_a_process": NO_LIFESPAN,
    "what_the_startup_has_made_is_there": NO_LIFESPAN,
    "shutdown_runs_though_streams_are_live": NO_LIFESPAN,
}
KILLED = "the worker is killed at the end of its grace period, while it still waits for its streams"

# From 3.12 on its asyncio and uvloop workers call an asyncio.Server.wait_closed that waits for all connections.
WAITS_FOR_CLIENTS = (
    dict.fromkeys(
        ["a_stop_ends_live_streams", "shutdown_runs_though_streams_are_live"],
        "Hypercorn waits for open connections before its grace begins",
    )
    if sys.version_info >= (3, 12)
    else {}
)
# 67 MiB for 64, and for a bare WSGI app as many.
KEEPS_MEMORY = (
    {}
    if threads_take_turns()
    else {"a_large_download_waits_for_its_client": "without a lock, Waitress keeps the memory of what it has sent"}
)
TLS_END = "Hypercorn waits half a minute for each client to answer the end of TLS"
NGINX = {"the_app_answers_while_it_reads": "Nginx passes on no more of the upload after the response has begun"}

ASGI = [
    Kind(servers.uvicorn_httptools_uvloop, core=True),
    Kind(servers.uvicorn_h11_asyncio, core=True),
    Kind(servers.hypercorn_asyncio, core=True, lacks=WAITS_FOR_CLIENTS),
    Kind(servers.hypercorn_uvloop, lacks=WAITS_FOR_CLIENTS),
    Kind(servers.hypercorn_trio, core=True),
    Kind(
        servers.daphne,
        streams_uploads=False,
        cannot=DAPHNE,
        lacks={"a_large_upload_takes_little_memory": UNBOUNDED, **cut_at_once(SIGTERM, SIGINT)},
    ),
    Kind(servers.granian_asgi, cannot={"shutdown_runs_though_streams_are_live": KILLED}),
    Kind(
        servers.hypercorn_tls,
        lacks=dict.fromkeys(
            [
                "a_stop_ends_live_streams",
                "shutdown_runs_though_streams_are_live",
                "what_outlasts_the_grace_of_a_stop",
            ],
            TLS_END,
        ),
    ),
    Kind(servers.nginx_uvicorn, cannot=NGINX),
    Kind(servers.nginx_hypercorn, cannot=NGINX),
    Kind(
        servers.gunicorn_asgi,
        cannot={"shutdown_runs_though_streams_are_live": KILLED},
        lacks=cut_at_once(SIGINT),
    ),
]

BLIND = "the server does not show its connection: a client that leaves is noticed at the next write"
EMPTY_REPLY = {
    "an_exception_before_the_body_is_a_500": "uWSGI logs the traceback, and closes the connection without an answer"
}
UNDERSCORE = {"a_name_with_an_underscore": "the server treats it as the name with a dash"}
NO_CONTINUE = {"a_client_that_waits_for_100_continue": "the server does not send 100 Continue"}
LAST_ONE = {"repeated_headers": "only the last of repeated headers reaches the app"}
NO_LENGTH = "without a length, the end of the connection is the end of the response"
READS_ON = "Cheroot reads the rest of the upload before it sends a response"
UNTIL_CLOSE = "HTTP/1.0: without a length, the end of the connection is the end of the response"
WHOLE_FIRST = "Apache passes the whole upload to the daemon process before it takes the response"
APACHE = {"an_app_that_sends_nothing_is_told_of_the_leave": BLIND}
APACHE_DAEMON = {
    **APACHE,
    "the_app_answers_while_it_reads": WHOLE_FIRST,
    "an_answer_does_not_wait_for_the_upload": WHOLE_FIRST,
    "an_exception_in_the_middle_is_a_broken_response[/raises-in-the-middle]": (
        "Apache takes the end of the daemon's response for a regular end if the response has no length"
    ),
}
GRANIAN = {
    "an_app_that_sends_nothing_is_told_of_the_leave": BLIND,
    "latin_1_in_a_header": "a value that is not ASCII arrives empty",
}
DEAF = {"what_ends_within_the_grace_of_a_stop[SIGINT]": "responses in progress are completed, but an upload is cut off"}
ONE_LOOP = "bjoern has one thread: while it waits for one app, all clients wait"
WERKZEUG = {
    "paths_and_queries[no UTF-8]": "it decodes the path itself, and puts U+FFFD in place of bytes that are not UTF-8"
}
BJOERN = dict.fromkeys(
    [
        "each_chunk_arrives_before_the_next_is_made",
        "a_large_download_waits_for_its_client",
        "clients_that_abort_an_endless_stream_free_its_thread",
        "an_app_that_sends_nothing_is_told_of_the_leave",
        "a_stop_ends_live_streams",
    ],
    ONE_LOOP,
)


def _gunicorn(run: Callable[[Path, str], servers.Running], **more: Any) -> Kind:
    return Kind(run, forks=True, lacks=cut_at_once(SIGINT), **more)


def _uwsgi(
    run: Callable[[Path, str], servers.Running],
    at_once: int,
    cannot: Mapping[str, str] | None = None,
    *,
    stands_still: bool = False,
) -> Kind:
    return Kind(
        run,
        stands_still=stands_still,
        forks=True,
        at_once=at_once,
        keeps_connections=never,
        cannot={**EMPTY_REPLY, **UNDERSCORE, **NO_CONTINUE, **(cannot or {})},
        lacks=cut_at_once(SIGTERM, SIGINT),
    )


WSGI = [
    _gunicorn(servers.gunicorn_sync, core=True, keeps_connections=never, at_once=1),
    _gunicorn(servers.gunicorn_sync_preload, keeps_connections=never, at_once=1),
    _gunicorn(servers.gunicorn_gthread, core=True),
    _gunicorn(servers.gunicorn_gthread_preload, core=True),
    _gunicorn(servers.gunicorn_http2),
    _gunicorn(servers.nginx_gunicorn, cannot=NGINX),
    _gunicorn(servers.gunicorn_gevent),
    _gunicorn(servers.gunicorn_gevent_preload),
    _gunicorn(servers.gunicorn_gevent_pywsgi),
    _gunicorn(servers.gunicorn_gevent_pywsgi_preload),
    # Waitress calls the app when the body is whole, keeps a connection only behind a declared length, and ends on
    # SIGTERM without a word to Python.
    Kind(
        servers.waitress,
        core=True,
        keeps_connections=with_a_length,
        streams_uploads=False,
        stops_cleanly_on=SIGINT,
        cannot=DEAF | KEEPS_MEMORY,
        lacks=cut_at_once(SIGTERM),
    ),
    Kind(
        servers.waitress_unix,
        keeps_connections=with_a_length,
        streams_uploads=False,
        stops_cleanly_on=SIGINT,
        cannot=DEAF | KEEPS_MEMORY,
        lacks=cut_at_once(SIGTERM),
    ),
    _uwsgi(servers.uwsgi_prefork, 2),
    _uwsgi(servers.uwsgi_lazy_apps, 2),
    _uwsgi(servers.uwsgi_without_threads, 1, stands_still=True),
    _uwsgi(servers.uwsgi_threads, 6),
    Kind(
        servers.nginx_uwsgi,
        forks=True,
        cannot={**EMPTY_REPLY, **LAST_ONE},
        lacks=cut_at_once(SIGTERM, SIGINT),
    ),
    _uwsgi(
        servers.uwsgi_gevent,
        6,
        {"lifespan_runs_once_a_process": "uWSGI with greenlets runs no atexit functions"},
    ),
    Kind(servers.apache_daemon, forks=True, cannot=APACHE_DAEMON, lacks=cut_at_once(SIGTERM, SIGINT)),
    Kind(servers.apache_daemon_subinterpreter, forks=True, cannot=APACHE_DAEMON, lacks=cut_at_once(SIGTERM, SIGINT)),
    Kind(servers.apache_embedded, forks=True, cannot=APACHE, lacks=cut_at_once(SIGTERM, SIGINT)),
    Kind(servers.apache_embedded_subinterpreter, forks=True, cannot=APACHE, lacks=cut_at_once(SIGTERM, SIGINT)),
    Kind(servers.granian_wsgi, forks=True, cannot=GRANIAN, lacks=UNDERSCORE),
    Kind(
        servers.cheroot,
        cannot={
            "the_app_answers_while_it_reads": READS_ON,
            "an_answer_does_not_wait_for_the_upload": READS_ON,
            **LAST_ONE,
        },
    ),
    Kind(
        servers.werkzeug,
        cannot=WERKZEUG,
        keeps_connections=never,
        stops_cleanly_on=SIGINT,
        lacks=cut_at_once(SIGTERM, SIGINT),
    ),
    Kind(
        servers.wsgiref,
        keeps_connections=never,
        at_once=1,
        decodes_chunks=False,
        stops_cleanly_on=SIGINT,
        cannot={
            "an_exception_in_the_middle_is_a_broken_response[/raises-in-the-middle]": UNTIL_CLOSE,
            **UNDERSCORE,
            **NO_CONTINUE,
            **until_close(UNTIL_CLOSE),
        },
        lacks=cut_at_once(SIGTERM, SIGINT),
    ),
    Kind(
        servers.django_runserver,
        keeps_connections=with_a_known_length,
        decodes_chunks=False,
        stops_cleanly_on=SIGINT,
        cannot=until_close(NO_LENGTH),
        lacks={
            "an_exception_in_the_middle_is_a_broken_response": "it keeps the connection open after an exception",
            **cut_at_once(SIGTERM, SIGINT),
        },
    ),
    Kind(servers.gevent_pywsgi, lacks=cut_at_once(SIGINT)),
    Kind(
        servers.bjoern,
        at_once=1,
        streams_uploads=False,
        stops_cleanly_on=SIGINT,
        cannot={
            "a_large_upload_takes_little_memory": "bjoern collects the body in memory",
            "repeated_headers": "bjoern joins cookies without a separator",
            "pipelined_requests_are_answered_in_order": "bjoern answers only the first",
            "what_outlasts_the_grace_of_a_stop[SIGINT]": ONE_LOOP,
        },
        lacks={**BJOERN, **cut_at_once(SIGTERM)},
    ),
]

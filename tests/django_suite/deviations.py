"""Where `bridge.django` behaves otherwise than Django's tests expect, and why; docs/django_deviations.md is printed
from this.
"""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

# How the tests are run, with what stands in for Django's own.
MODES = {
    "handlers": "`WSGIHandler`, `ASGIHandler`, `WSGIRequest`, `get_wsgi_application()` and `get_asgi_application()` are"
    " those of `bridge.django`. Each request of the sync test client is a WSGI conversation with the handler, each of"
    " the async one an ASGI conversation with the application, and what is sent is compared with the response.",
    "on_loop": "The same, with each request to the ASGI application on the event loop from its start, as for a view"
    " that is marked with `on_loop`.",
    "middleware": 'Django\'s own handlers and test clients, with `"bridge.django.BridgeMiddleware"` put first in'
    " `MIDDLEWARE`.",
}
# Those of Django's tests/ that have to do with requests.
PACKAGES = (
    *("asgi", "async", "builtin_server", "conditional_processing", "context_processors", "csrf_tests", "decorators"),
    *("file_uploads", "flatpages_tests", "generic_views", "handlers", "httpwrappers", "logging_tests"),
    *("messages_tests", "middleware", "middleware_exceptions", "redirects_tests", "requests_tests", "responses"),
    *("servers", "sessions_tests", "signals", "staticfiles_tests", "test_client", "test_client_regress"),
    *("urlpatterns_reverse", "view_tests", "wsgi"),
)
OURS = ("handlers", "on_loop")


class Deviation(NamedTuple):
    """Tests that fail, all for one reason. `says` is a regular expression that the failure has to match.

    `unwatched`: bridge is kept from looking for clients that leave, lest it depends on the machine whether it does.
    """

    title: str
    reason: str
    says: str
    tests: tuple[str, ...]
    modes: tuple[str, ...] = OURS
    unwatched: bool = False


_ASGI = "asgi.tests.ASGITest."
_READ_BODY = "asgi.tests.MaxMemorySizeASGITests."
_UPLOAD = "requests_tests.test_data_upload_settings.DataUploadMaxMemorySizeGetTests."

DEVIATIONS = (
    Deviation(
        "A stream of the other kind streams",
        "Django reads an async iterator to its end under WSGI, and a sync one under ASGI, and warns of it. Here either"
        " is sent part by part, and there is nothing to warn of.",
        r"Warning not triggered",
        (
            "handlers.tests.HandlerRequestTests.test_async_streaming",
            "handlers.tests.AsyncHandlerRequestTests.test_sync_streaming",
        ),
        tuple(MODES),
    ),
    Deviation(
        "Files are read in blocks of 64 KiB",
        "Django's blocks have 4 KiB under WSGI, of which a large file has very many; its ASGI handler takes 64 KiB.",
        r"65536 != 4096|\d+ != 4096",
        (
            "wsgi.tests.WSGITest.test_file_wrapper",
            "view_tests.tests.test_static.StaticHelperTest.test_chunked",
            "view_tests.tests.test_static.StaticTests.test_chunked",
        ),
    ),
    Deviation(
        "A query string that is not UTF-8 is no bad request",
        "Django's ASGI handler answers 400, its WSGI handler lets the view see U+FFFD. A project sees the same on both"
        " kinds of server here, and that is what Django does on WSGI servers.",
        r"200 != 400",
        (_ASGI + "test_non_unicode_query_string",),
    ),
    Deviation(
        "A client that leaves at once may still be answered",
        "A request without a body is run without a look at what the server says of its client; that begins when a"
        " tenth of a second has not been enough. So a short answer to a client that has already left is made, and given"
        " to the server, which knows.",
        r"TimeoutError not raised",
        (_ASGI + "test_disconnect", _ASGI + "test_disconnect_with_body"),
        unwatched=True,
    ),
    Deviation(
        "An event that the ASGI specification does not know is no error",
        "Where the response takes no time nobody asks for it, and later it would be passed over.",
        r"AssertionError not raised",
        (_ASGI + "test_assert_in_listen_for_disconnect",),
        unwatched=True,
    ),
    Deviation(
        "A connection of an unknown type has an error of its own",
        "Django raises a `ValueError` that says what it can handle, bridge a `ServerProtocolError` with the clause.",
        r"ServerProtocolError: the server opened a connection of the type 'other'; expected http, lifespan",
        (_ASGI + "test_wrong_connection_type",),
    ),
    Deviation(
        "The request body is not read by a method of the handler",
        "`ASGIHandler.read_body()` is internal to Django. The adapter collects bodies, up to a bound in memory.",
        r"has no attribute 'read_body'",
        tuple(
            _READ_BODY + name
            for name in (
                "test_read_body_buffers_all_chunks",
                "test_read_body_multipart_not_limited",
                "test_read_body_no_limit",
            )
        ),
    ),
    Deviation(
        "A request whose constructor raises is the server's to answer",
        "Django's ASGI handler answers 413 where a request class raises `RequestDataTooBig` in its constructor, its"
        " WSGI handler lets that out. The constructor of this one reads nothing; too large a body is noticed, and"
        " answered by Django, where it is read.",
        r"RequestDataTooBig",
        (_ASGI + "test_request_too_big_request_error",),
    ),
    Deviation(
        "The last chunk of a stream ends it",
        "Django sends one more event, which is empty. Here the end goes with the last chunk where both are there.",
        r"TimeoutError",
        (_ASGI + "test_streaming",),
    ),
    Deviation(
        "A body that is shorter than its Content-Length is no body",
        "The tests announce three bytes and send none. Django takes that for an empty body; here reading it raises"
        " `UnreadablePostError`, as for any client that leaves before it has sent everything.",
        r"the request body broke off after 0 of 3 bytes",
        tuple(_UPLOAD + name for name in ("test_empty_content_length", "test_no_limit", "test_size_not_exceeded")),
    ),
    Deviation(
        "A chain that is sync throughout adapts nothing, and logs nothing of it",
        "Django's ASGI handler wraps each sync middleware, and says so at the level DEBUG. Here all of it runs in the"
        " thread of the request.",
        r"Asynchronous handler adapted for middl",
        ("middleware_exceptions.tests.MiddlewareSyncAsyncTests.test_sync_middleware_async",),
        ("handlers",),
    ),
    Deviation(
        "The chain for threads is made first",
        "So what it logs comes before what Django's asynchronous chain logs, which is made when a request needs it.",
        r"MiddlewareNotUsed: .* != 'Asynchronous handler adapted for middl",
        ("middleware_exceptions.tests.MiddlewareNotUsedTests.test_async_and_sync_middleware_chain_async_call",),
    ),
    Deviation(
        "A WSGI server gets an iterable, and not the response object",
        "The test takes what the application returns for an `HttpResponse`. PEP 3333 promises an iterable of bytes, and"
        " this one also puts the thread back as it was.",
        r"cannot be interpreted as an integer|can.t concat|cannot convert",
        ("wsgi.tests.WSGITest.test_get_wsgi_application",),
    ),
    Deviation(
        "On the loop a view is not asked before its request is there",
        "The test announces a body of 77 bytes and sends none, and its view does not look. A view on the loop gets all"
        " of the body or is not called; in a thread it is, and learns of that when it reads.",
        r"TimeoutError",
        (_ASGI + "test_headers",),
        ("on_loop",),
    ),
)
# Those that are not in every version, by the first that has them.
SINCE = {(6, 0): DEVIATIONS[6]._replace(tests=(_ASGI + "test_read_body_thread",))}

NOT_AS_ROOT = {"file_uploads.tests.DirectoryCreationTests.test_readonly_root": "root may write to any directory"}

_HEAD = """\
# Django's own tests

<!-- Printed by `make docs`; a test fails when this page is stale. -->

`make test-django` runs the tests that Django has of its request handling through `bridge.django`: those of the version
that is installed, from its source distribution. `make test-django-6` does so with the newest Django 6, beside the
project's own tests; `make test-django-6 DJANGO="==6.0.*"` with another one.

{packages}

They are run in three ways:

{modes}

Header names are shown to the tests as Django writes them, since bridge sends them in lower case (ASGI HTTP, "Response
Start"), and query strings that a test writes as text are given to the application as bytes.

Of all these tests those below fail, each with the failure that is expected. Any other failure fails the run, and so
does one of these that succeeds.
"""


def expected(mode: str, version: tuple[int, int]) -> dict[str, Deviation]:
    """The tests that fail, by name."""
    later = (deviation for since, deviation in SINCE.items() if version >= since)
    return {
        test: deviation for deviation in (*DEVIATIONS, *later) if mode in deviation.modes for test in deviation.tests
    }


def page() -> str:
    """The text of docs/django_deviations.md."""
    names = ", ".join(f"`{name}`" for name in PACKAGES)
    modes = "\n".join(_filled(f"- **{name}**: {text}", "  ") for name, text in MODES.items())
    head = _HEAD.format(packages=_filled(f"The packages are {names}."), modes=modes)
    return "\n".join([head, *map(_section, DEVIATIONS)])


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _section(deviation: Deviation) -> str:
    tests = [*deviation.tests]
    for later in SINCE.values():
        tests += later.tests if later.title == deviation.title else ()
    return "\n".join((f"## {deviation.title}", "", _filled(deviation.reason), "", *_lines(deviation, tests), ""))


def _lines(deviation: Deviation, tests: list[str]) -> Iterator[str]:
    where = "" if deviation.modes == tuple(MODES) else f" ({', '.join(deviation.modes)})"
    yield from (f"- `{test}`{where}" for test in tests)

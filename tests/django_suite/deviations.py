"""Where `bridge.django` behaves otherwise than Django's tests expect, and why; docs/django_deviations.md is printed
from this.
"""

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

# How the tests are run, with what stands in for Django's own.
MODES = {
    "handlers": "`WSGIHandler`, `ASGIHandler`, `WSGIRequest`, `get_wsgi_application()` and `get_asgi_application()` are"
    " those of `bridge.django`. The sync test client calls the handler as a WSGI server does. The async test client"
    " calls the application as an ASGI server does. What is sent is compared with the response.",
    "on_loop": "The same, but each request to the ASGI application runs on the event loop from its start, as for a view"
    " that is marked with `on_loop`.",
    "middleware": 'Django\'s own handlers and test clients, with `"bridge.django.BridgeMiddleware"` first in'
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
        "Streams of both kinds are sent part by part",
        "Django reads an async iterator to its end under WSGI, and a sync iterator under ASGI, and logs a warning. With"
        " bridge both are sent part by part, so there is no warning.",
        r"Warning not triggered",
        (
            "handlers.tests.HandlerRequestTests.test_async_streaming",
            "handlers.tests.AsyncHandlerRequestTests.test_sync_streaming",
        ),
        tuple(MODES),
    ),
    Deviation(
        "Files are read in blocks of 64 KiB",
        "Under WSGI, Django reads blocks of 4 KiB, so a large file has very many. Its ASGI handler reads 64 KiB.",
        r"65536 != 4096|\d+ != 4096",
        (
            "wsgi.tests.WSGITest.test_file_wrapper",
            "view_tests.tests.test_static.StaticHelperTest.test_chunked",
            "view_tests.tests.test_static.StaticTests.test_chunked",
        ),
    ),
    Deviation(
        "A query string that is not UTF-8 is not a bad request",
        "Django's ASGI handler answers 400. Its WSGI handler puts U+FFFD into the query string. bridge does the latter"
        " on both kinds of server.",
        r"200 != 400",
        (_ASGI + "test_non_unicode_query_string",),
    ),
    Deviation(
        "A client that leaves at once may still be answered",
        "For a request without a body, the adapter begins to watch the client only when the request has taken a tenth"
        " of a second. So a short response to a client that has already left is still made, and passed to the server,"
        " which knows that the client has left.",
        r"TimeoutError not raised",
        (_ASGI + "test_disconnect", _ASGI + "test_disconnect_with_body"),
        unwatched=True,
    ),
    Deviation(
        "An event that the ASGI specification does not know is not an error",
        "If the response is quick, the adapter does not ask for the event. If it takes longer, the adapter ignores the"
        " event.",
        r"AssertionError not raised",
        (_ASGI + "test_assert_in_listen_for_disconnect",),
        unwatched=True,
    ),
    Deviation(
        "A connection of an unknown type raises another error",
        "Django raises a `ValueError` that says what it can handle. bridge raises a `ServerProtocolError` that names"
        " the clause.",
        r"ServerProtocolError: the server opened a connection of the type 'other'; expected http, lifespan",
        (_ASGI + "test_wrong_connection_type",),
    ),
    Deviation(
        "The request body is not read by a method of the handler",
        "`ASGIHandler.read_body()` is internal to Django. The adapter collects bodies, in memory up to a limit.",
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
        "If the constructor of a request raises, the server answers",
        "If a request class raises `RequestDataTooBig` in its constructor, Django's ASGI handler answers 413, and its"
        " WSGI handler raises the error to the server. bridge does the latter. The constructor of its own request class"
        " reads nothing. A body that is too large is noticed when it is read, and then Django answers.",
        r"RequestDataTooBig",
        (_ASGI + "test_request_too_big_request_error",),
    ),
    Deviation(
        "The last chunk of a stream ends it",
        "Django sends one more event, which is empty. bridge sends the end together with the last chunk if it can.",
        r"TimeoutError",
        (_ASGI + "test_streaming",),
    ),
    Deviation(
        "A body that is shorter than its Content-Length is an error",
        "The tests announce three bytes and send none. Django treats this as an empty body. With bridge, reading it"
        " raises `UnreadablePostError`, as for any client that leaves before it has sent everything.",
        r"the request body broke off after 0 of 3 bytes",
        tuple(_UPLOAD + name for name in ("test_empty_content_length", "test_no_limit", "test_size_not_exceeded")),
    ),
    Deviation(
        "A chain that is sync throughout is not adapted, and nothing is logged",
        "Django's ASGI handler wraps each sync middleware, and logs this with level DEBUG. With bridge, the whole chain"
        " runs in the thread of the request.",
        r"Asynchronous handler adapted for middl",
        ("middleware_exceptions.tests.MiddlewareSyncAsyncTests.test_sync_middleware_async",),
        ("handlers",),
    ),
    Deviation(
        "The chain for threads is made first",
        "bridge makes Django's asynchronous chain only when a request needs it. So the log lines of the chain for"
        " threads come first.",
        r"MiddlewareNotUsed: .* != 'Asynchronous handler adapted for middl",
        ("middleware_exceptions.tests.MiddlewareNotUsedTests.test_async_and_sync_middleware_chain_async_call",),
    ),
    Deviation(
        "A WSGI server gets an iterable, not the response object",
        "The test expects the application to return an `HttpResponse`. PEP 3333 promises only an iterable of bytes. The"
        " iterable of bridge also restores the state of the thread.",
        r"cannot be interpreted as an integer|can.t concat|cannot convert",
        ("wsgi.tests.WSGITest.test_get_wsgi_application",),
    ),
    Deviation(
        "A view on the loop is not called before its request is complete",
        "The test announces a body of 77 bytes and sends none, and its view does not read it. A view on the loop is"
        " called only with the whole body. A view in a thread is called before, and gets an error when it reads.",
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

This page is for people who want to know what is different for a Django project with `bridge.django` instead of Django's
own handlers. `make test-django` runs Django's own tests of its request handling through `bridge.django`. Each heading
below is a difference, and the tests under it are those that fail because of it.

`make test-django` takes the tests from the source distribution of the installed Django. `make test-django-6` does this
with the newest Django 6, and also runs the tests of `bridge.django`. `make test-django-6 DJANGO="==6.0.*"` uses another
version.

{packages}

The tests run in three ways:

{modes}

`bridge` sends header names in lower case (ASGI HTTP, "Response Start"), but the tests see them as Django writes them.
Query strings that a test writes as text are passed to the application as bytes.

The run fails if a test fails that is not on this page, or if a test on this page fails in another way or succeeds.
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
    head = _HEAD.format(packages=_filled(f"The tests are those of the packages {names}."), modes=modes)
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

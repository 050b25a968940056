"""`environ["asgi.scope"]`: all of the scope for who asks for it, nothing of it for who prints an environ."""

import collections.abc
import copy
import json
import logging
import pprint
import reprlib
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import WsgiToAsgi
from bridge._wsgi_to_asgi.scope_view import ScopeView
from support.scripted_asgi_server import Environ, get, post, serve
from support.wsgi_apps import reply

SECRET = b"s3cr3t-value"
HEADERS = [(b"cookie", b"session=" + SECRET), (b"authorization", b"Bearer " + SECRET), (b"x-csrftoken", SECRET)]


def view() -> ScopeView:
    return ScopeView({"type": "http", "headers": HEADERS, "path": "/"})


def test_it_is_a_mapping() -> None:
    """What is in the scope can be had as from the scope."""
    scope = {"type": "http", "path": "/", "state": {"a": 1}}
    seen = ScopeView(scope)

    assert isinstance(seen, collections.abc.MutableMapping)
    assert (seen["path"], seen.get("path"), seen.get("none", 5)) == ("/", "/", 5)
    assert ("state" in seen, "none" in seen, len(seen)) == (True, False, 3)
    assert (list(seen), dict(seen), {**seen}) == (list(scope), scope, scope)
    assert seen == scope
    assert seen["state"] is scope["state"]
    with pytest.raises(KeyError, match="none"):
        seen["none"]


def test_what_is_changed_is_changed_in_the_scope() -> None:
    """Middleware on either side can leave the other one a message."""
    scope: dict[str, Any] = {"type": "http", "path": "/"}
    seen = ScopeView(scope)
    seen["user"] = "alice"
    del seen["path"]
    seen.update(more=1)

    assert scope == {"type": "http", "user": "alice", "more": 1}


PRINTERS: list[Callable[[Any], str]] = [
    repr,
    str,
    format,
    ascii,
    pprint.pformat,
    reprlib.repr,
    lambda value: f"{value} {value!r} {value!s}",
    lambda value: "%s %r" % (value, value),  # noqa: UP031  # as logging does
    lambda value: json.dumps(value, default=str),
    lambda value: repr(copy.copy(value)),
    lambda value: repr([value, (value,), {"scope": value}]),
]


@pytest.mark.parametrize("printer", PRINTERS, ids=[str(at) for at in range(len(PRINTERS))])
def test_no_value_is_printed(printer: Callable[[Any], str]) -> None:
    """However it is turned into text, alone or in something else."""
    text = printer(view())

    assert SECRET.decode() not in text
    assert "session" not in text


def test_the_keys_are_printed() -> None:
    """They say what can be had there."""
    assert repr(view()) == "<the ASGI scope: type, headers, path>"


async def environ_with_secrets(adapt: Callable[..., WsgiToAsgi]) -> Environ:
    """An environ as the app sees it, in all the ways in which a body can come."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        environs.append(environ.copy())
        return reply(start_response)

    await serve(adapt(app), *post(b"body", headers=HEADERS, state={"pool": 1}))
    await serve(adapt(app, collect=0), *post(b"body", b"more", headers=HEADERS))
    await serve(adapt(app), *get(headers=HEADERS))
    whole = {f"{at}.{key}": value for at, environ in enumerate(environs) for key, value in environ.items()}
    # The WSGI names of the headers, which everybody knows how to hide.
    return {key: value for key, value in whole.items() if ".HTTP_" not in key}


@pytest.mark.anyio
@pytest.mark.parametrize("printer", PRINTERS[:-2], ids=[str(at) for at in range(len(PRINTERS) - 2)])
async def test_no_header_is_printed_with_the_environ(
    adapt: Callable[..., WsgiToAsgi], printer: Callable[[Any], str]
) -> None:
    """Beside its HTTP_ keys nothing in an environ shows a header."""
    assert SECRET.decode() not in printer(await environ_with_secrets(adapt))


@pytest.mark.anyio
async def test_no_header_is_on_djangos_debug_page(
    adapt: Callable[..., WsgiToAsgi], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django hides cookies and secrets in META, and prints what else is in there as it is."""
    from django.conf import UserSettingsHolder, global_settings
    from django.template.defaultfilters import pprint as django_pprint
    from django.views import debug

    monkeypatch.setattr(debug, "settings", UserSettingsHolder(global_settings))
    meta = await environ_with_secrets(adapt)
    shown = debug.SafeExceptionReporterFilter().get_safe_request_meta(SimpleNamespace(META=meta))
    text = "\n".join(f"{key} {django_pprint(value)}" for key, value in shown.items())

    assert SECRET.decode() not in text
    assert "0.asgi.scope <the ASGI scope" in text


def frames_of(error: BaseException) -> Iterator[tuple[str, dict[str, Any]]]:
    for frame, _line in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, frame.f_locals


@pytest.mark.anyio
async def test_no_header_is_among_the_variables_of_our_frames_in_the_apps_thread(
    adapt: Callable[..., WsgiToAsgi],
) -> None:
    """Debug pages and error reporters print the variables of each frame that an exception has come through."""
    texts: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert record.exc_info
            assert record.exc_info[1] is not None
            for name, variables in frames_of(record.exc_info[1]):
                if "bridge" in name and not name.endswith("test_scope_view.py"):
                    texts.extend(f"{name} {key} {pprint.pformat(value)}" for key, value in variables.items())

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        raise LookupError

    handler = Handler()
    logging.getLogger("bridge").addHandler(handler)
    try:
        await serve(adapt(app), *get(headers=HEADERS), fails=True)
    finally:
        logging.getLogger("bridge").removeHandler(handler)

    assert texts
    assert [text for text in texts if SECRET.decode() in text] == []

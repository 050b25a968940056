"""The servers that `bridge serve` knows: what each is given, and what it is asked for."""

import argparse
from typing import Any

import pytest

from bridge.cli._servers import GRACE_SECONDS, RELOAD_GRACE_SECONDS, SERVERS, grace


def options(**changed: Any) -> argparse.Namespace:
    defaults = {"host": "127.0.0.1", "port": 8000, "uds": None, "workers": None, "reload": False, "log_level": None}
    return argparse.Namespace(**{**defaults, "grace": None, **changed})


@pytest.mark.parametrize(
    ("server", "interface", "wanted"),
    [
        ("uvicorn", "wsgi", "asgi"),
        ("uvicorn", "both", "asgi"),
        ("waitress", "asgi", "wsgi"),
        ("granian", "wsgi", "wsgi"),
        ("granian", "asgi", "asgi"),
        ("granian", "both", "asgi"),
    ],
)
def test_a_server_is_given_what_it_speaks(server: str, interface: Any, wanted: str) -> None:
    """The application's own interface where it speaks that one, or else its first."""
    assert wanted == SERVERS[server].wants(interface)


@pytest.mark.parametrize("server", SERVERS)
def test_threads_are_the_servers_where_it_calls_wsgi_apps(server: str) -> None:
    """Then they are on its command line; behind `WsgiToAsgi` they are the adapter's, and are not."""
    each = SERVERS[server]
    for wanted in each.speaks:
        words = each.command(options(), wanted, 7)
        named = [word for word in words if word == "7" or word.endswith("=7")]
        assert (each.own_threads(wanted), len(named)) in [(True, 1), (False, 0)]


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, GRACE_SECONDS), ({"reload": True}, RELOAD_GRACE_SECONDS), ({"grace": 3}, 3)]
)
def test_requests_get_some_seconds_when_the_server_stops(given: dict[str, Any], seconds: int) -> None:
    """Fewer where a developer waits for the new code; and what was asked for, whatever else was."""
    assert seconds == grace(options(**given))
    assert 3 == grace(options(**given | {"grace": 3}))


@pytest.mark.parametrize("server", SERVERS)
def test_what_a_server_lacks_is_not_on_its_command_line(server: str) -> None:
    """`serve` refuses these options before; each of the others is there."""
    each = SERVERS[server]
    given: dict[str, Any] = {"workers": 12345, "reload": True, "log_level": "debug", "grace": 54321}
    words = each.command(options(**given), each.speaks[0], 7)
    shown = {"workers": "12345", "reload": "--reload", "log_level": "debug", "grace": "54321"}
    assert set(each.lacks) == {name for name, word in shown.items() if word not in words}

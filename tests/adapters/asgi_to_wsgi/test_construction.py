"""What `AsgiToWsgi` takes and refuses: apps, options, and upgrades to WebSocket."""

import threading
from typing import Any

import pytest

from bridge import AsgiToWsgi
from support.asgi_apps import hello, reply
from support.plain_servers import environ_for
from support.scripted_wsgi_server import adapted, ask
from support.waiting import LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class TestConstruction:
    """Not an application, or not an option: told at once, and by name."""

    @pytest.mark.parametrize(
        ("app", "seen"),
        [
            (None, "None"),
            (7, "7"),
            (lambda environ, start_response: [], "two arguments of a WSGI application"),
            (lambda scope: None, "one argument, as ASGI 2 did"),
            (lambda: None, "()"),
            (type("App", (), {}), "class App"),
        ],
    )
    def test_what_is_no_asgi_app_is_a_type_error_that_says_what_it_is(self, app: Any, seen: str) -> None:
        with pytest.raises(TypeError, match="ASGI 3 application") as raised:
            AsgiToWsgi(app)

        assert seen in str(raised.value)

    @pytest.mark.parametrize(
        ("option", "value", "kind"),
        [
            ("lifespan", "maybe", ValueError),
            ("lifespan", None, ValueError),
            ("startup_timeout", 0, ValueError),
            ("startup_timeout", -1.0, ValueError),
            ("startup_timeout", float("inf"), ValueError),
            ("startup_timeout", float("nan"), ValueError),
            ("startup_timeout", None, TypeError),
            ("shutdown_timeout", "30", TypeError),
            ("shutdown_timeout", True, TypeError),
            ("disconnect_grace", 0.0, ValueError),
            ("disconnect_grace", [], TypeError),
            ("loop_factory", "uvloop", TypeError),
            ("loop_factory", lambda name: None, TypeError),
            ("slow_warning", 0, ValueError),
            ("slow_warning", "1", TypeError),
            ("websocket", "yes", ValueError),
            ("websocket", None, ValueError),
            ("max_websockets", 0, ValueError),
            ("max_websockets", 1.5, TypeError),
            ("max_message", 0, ValueError),
            ("max_message", None, TypeError),
            ("ping_interval", 0, ValueError),
            ("ping_timeout", "20", TypeError),
        ],
    )
    def test_a_bad_option_is_an_error_that_names_it(self, option: str, value: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind, match=option):
            AsgiToWsgi(hello, **{option: value})

    def test_options_are_keywords(self) -> None:
        with pytest.raises(TypeError, match="positional"):
            AsgiToWsgi(hello, "off")  # type: ignore[misc]

    def test_slow_warning_may_be_turned_off(self) -> None:
        with adapted(hello, slow_warning=None) as adapter:
            assert b"hello" == ask(adapter).body

    def test_an_object_with_a_call_method_is_an_app(self) -> None:
        class App:
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"object")

        with adapted(App()) as adapter:
            assert b"object" == ask(adapter).body

    def test_nothing_runs_before_the_first_request(self) -> None:
        before = threading.enumerate()

        adapter = AsgiToWsgi(hello)

        assert before == threading.enumerate()
        assert hello is adapter.app
        adapter.close()


class TestWebSocket:
    """A WSGI server cannot hand one over."""

    def test_an_upgrade_is_plain_http_and_warned_of_once(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, scope["type"].encode())

        environ = {"HTTP_UPGRADE": "WebSocket", "HTTP_CONNECTION": "Upgrade", "SERVER_SOFTWARE": "AncientServer/1.0"}
        with adapted(app) as adapter:
            bodies = [ask(adapter, environ_for("GET", "/", **environ)).body for _ in range(3)]

        assert [b"http"] * 3 == bodies
        assert 1 == len(log.having("WARNING", "AncientServer/1.0", "WebSocket"))

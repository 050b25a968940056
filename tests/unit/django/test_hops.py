"""Hops between threads and loops: how they are counted, and what each way of serving a project takes."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from bridge.django import _hops, get_asgi_application, get_wsgi_application
from support.django_clients import Asgi, Plain, Wsgi


class TestCounting:
    """One request each, in its own context."""

    def test_what_nobody_counts_is_nothing(self) -> None:
        context = contextvars.Context()
        context.run(_hops.count, 2)

        assert [] == list(context)

    def test_it_begins_with_what_it_took_to_come_here(self) -> None:
        def count() -> int:
            hops = _hops.begin(2)
            _hops.count(1)
            _hops.count(4)
            return hops.count

        assert 7 == contextvars.copy_context().run(count)

    def test_requests_at_once_do_not_count_for_each_other(self) -> None:
        contexts = [contextvars.copy_context() for _ in range(2)]
        hops = [context.run(_hops.begin) for context in contexts]
        contexts[0].run(_hops.count, 3)
        contexts[1].copy().run(_hops.count, 5)

        assert [3, 5] == [each.count for each in hops]

    def test_the_header(self) -> None:
        """W3C Server Timing, 2: milliseconds."""
        hops = _hops.Hops(4)
        hops.waited = 0.0123456

        assert 'hops;desc="4", hop-wait;dur=12.35' == hops.header()

    def test_ways_of_asgiref_are_there_and_back(self) -> None:
        """And back again where the call fails; what runs there is the function's own."""
        _hops.install()

        async def fails() -> None:
            raise LookupError("planned")

        def sync() -> int:
            with pytest.raises(LookupError, match="planned"):
                async_to_sync(fails)()
            return threading.get_ident()

        async def main() -> tuple[int, float, int]:
            hops = _hops.begin()
            ident = await sync_to_async(sync)()
            return hops.count, hops.waited, ident

        count, waited, ident = contextvars.copy_context().run(asyncio.run, main())

        assert 4 == count
        assert waited > 0
        assert ident != threading.get_ident()


@pytest.mark.usefixtures("bridged")
class TestServerTiming:
    def test_none_without_debug(self, face: Asgi | Wsgi) -> None:
        """It is for development."""
        assert face.ask("/hello").header("server-timing") is None

    @pytest.mark.parametrize(
        ("handler", "view", "hops"),
        [
            (WSGIHandler, "hello", 0),
            (WSGIHandler, "async_hello", 2),
            (WSGIHandler, "async_where", 6),
            # Thirteen sync hooks of the seven classes of startproject, out and back; and a sync view.
            (ASGIHandler, "async_hello", 26),
            (ASGIHandler, "hello", 28),
        ],
    )
    def test_hops_under_djangos_handlers(self, handler: Any, view: str, hops: int) -> None:
        """As counted between Django and asgiref."""
        with override_settings(BRIDGE={"SERVER_TIMING": True}):
            app = Plain(handler())
            face = Wsgi(app) if handler is WSGIHandler else Asgi(app, djangos_own=True)
            said = face.ask(f"/{view}").header("server-timing") or ""
            face.close()

        assert said.startswith(f'hops;desc="{hops}", hop-wait;dur=')

    def test_hops_in_a_thread_of_djangos_asgi_handler(self) -> None:
        """Sync only middleware brings the chain there: out, back for the core of Django, and out to the view."""
        chain = ["bridge.django.BridgeMiddleware", "support.django_project.thread_middleware"]
        with override_settings(BRIDGE={"SERVER_TIMING": True}, MIDDLEWARE=chain):
            face = Asgi(Plain(ASGIHandler()), djangos_own=True)
            said = face.ask("/hello").header("server-timing") or ""
            face.close()

        assert said.startswith('hops;desc="6", hop-wait;dur=')

    @pytest.mark.parametrize(
        ("view", "on_asgi", "on_wsgi"), [("hello", 2, 0), ("async_hello", 4, 2), ("async_where", 8, 6)]
    )
    def test_hops_under_ours(self, view: str, on_asgi: int, on_wsgi: int) -> None:
        """One out and one back on an ASGI server, and the same to the loop for an async view."""
        with override_settings(DEBUG=True):
            for face, hops in (
                (Asgi(get_asgi_application(shutdown_timeout=2.0)), on_asgi),
                (Wsgi(get_wsgi_application()), on_wsgi),
            ):
                said = face.ask(f"/{view}").header("server-timing") or ""
                face.close()
                assert said.startswith(f'hops;desc="{hops}"')

"""Thread-sensitive work, which runs in the server's thread for the request."""

import asyncio
import contextvars
import socket
import threading
from typing import Any

import pytest

from bridge.errors import ClientDisconnected
from support.asgi_apps import chunk, end, read_body, reply, start
from support.patience import PATIENCE
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import Call, Served, adapted, ask
from support.waiting import FOREVER, Flag, Work, bounded, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


class TestThreadSensitive:
    """What asgiref calls so runs in the thread that waits for the request, as in a plain WSGI application."""

    def test_it_runs_in_the_servers_thread(self) -> None:
        from asgiref.sync import sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = {await sync_to_async(threading.get_ident)() for _ in range(3)}
            seen.add(await asyncio.create_task(sync_to_async(threading.get_ident)()))
            await reply(send, repr(seen).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            assert repr({served.thread.ident}).encode() == served.body

    def test_it_can_send_more_than_there_is_room_for(self) -> None:
        """The thread, which would make room, is the one that sends."""
        from asgiref.sync import async_to_sync, sync_to_async

        def send_all(send: Any) -> None:
            async_to_sync(start)(send)
            for number in range(40):
                async_to_sync(send)({"type": "http.response.body", "body": bytes([number]) * 2**15, "more_body": True})
            async_to_sync(end)(send)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(send_all)(send)

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"".join(bytes([number]) * 2**15 for number in range(40)) == served.run().body

    def test_it_can_receive_what_the_thread_has_to_read(self) -> None:
        """The thread that reads the body is the one that waits for it. What is over is told as well."""
        from asgiref.sync import async_to_sync, sync_to_async

        def receive_all(receive: Any) -> bytes:
            body, more = b"", True
            while more:
                event = async_to_sync(receive)()
                body += event["body"]
                more = event["more_body"]
            return body

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, await sync_to_async(receive_all)(receive))

        body = bytes(range(256)) * 2000
        with adapted(app) as adapter, Served(adapter, environ_for("POST", "/", body)) as served:
            assert body == served.run().body

    def test_it_can_receive_in_another_thread_than_the_first(self) -> None:
        """Tornado asks for each piece of the response in any of its threads, and that one does the work then."""
        from asgiref.sync import async_to_sync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"one")
            read: Any = sync_to_async(async_to_sync(read_body))
            await chunk(send, await read(receive))
            await end(send)

        body = bytes(range(256)) * 2000
        with adapted(app) as adapter, Served(adapter, environ_for("POST", "/", body)) as served:
            assert b"one" == served.call().next()
            assert body == bounded(lambda: b"".join(served.iterator))
            served.close()

    @pytest.mark.usefixtures("looks_often")
    def test_it_can_wait_for_the_client_to_leave(self) -> None:
        """The thread that looks after the client is the one that waits."""
        from asgiref.sync import async_to_sync, sync_to_async

        waits, events = Flag(), []

        def wait(receive: Any) -> None:
            events.append(async_to_sync(receive)()["type"])
            waits.set()
            events.append(async_to_sync(receive)()["type"])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(wait)(receive)

        ours, theirs = socket.socketpair()
        with ours, theirs, adapted(app) as adapter:
            environ = environ_for("GET", "/", werkzeug__socket=ours)
            with Served(adapter, environ) as served:
                done = served.begin()
                waits.wait()
                theirs.close()
                with pytest.raises(ClientDisconnected):
                    done()

        assert ["http.request", "http.disconnect"] == events

    def test_a_task_that_it_has_left_behind_receives_as_any_other(self) -> None:
        """The thread has waited for the code that made the task, and waits no more."""
        from asgiref.sync import async_to_sync, sync_to_async

        events: list[str] = []
        tasks: list[asyncio.Task[None]] = []
        let_go = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def listen() -> None:
                events.append((await receive())["type"])
                events.append((await receive())["type"])

            async def spawn() -> None:
                tasks.append(asyncio.create_task(listen()))

            def work() -> None:
                async_to_sync(spawn)()
                let_go.wait()

            working = asyncio.create_task(sync_to_async(work)())
            while not events:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            let_go.set()
            await working
            await reply(send)
            await tasks[0]

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
        assert ["http.request", "http.disconnect"] == events

    def test_it_runs_there_after_the_last_body_event_too(self) -> None:
        """Django's request_finished comes then, and closes the connections of that thread."""
        from asgiref.sync import sync_to_async

        threads: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())
            await reply(send, b"ok")
            await asyncio.sleep(0.01)
            threads.append(await sync_to_async(threading.get_ident)())

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.run().body
            assert [served.thread.ident] * 2 == threads

    def test_it_runs_there_when_the_server_stops_at_content_length(self) -> None:
        """close() without having asked for the end (PEP 3333 demands no more of a server)."""
        from asgiref.sync import sync_to_async

        threads: list[int] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())
            await reply(send, b"ok")
            await asyncio.sleep(0.01)
            threads.append(await sync_to_async(threading.get_ident)())
            over.set()

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.call().next()
            served.close()
            over.wait()
            assert [served.thread.ident] * 2 == threads

    def test_the_chunk_is_out_before_the_thread_stays_for_more(self) -> None:
        from asgiref.sync import sync_to_async

        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")
            await go_on.waited()
            await sync_to_async(int)()

        with adapted(app, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            assert b"ok" == served.call().next()
            go_on.set()
            assert served.next() is None
            served.close()

    def test_the_thread_does_not_stay_for_ever(self) -> None:
        """A background task must not keep a server's thread: after the grace it is let go."""
        from asgiref.sync import sync_to_async

        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")
            await over.waited()

        with adapted(app, disconnect_grace=0.02) as adapter:
            assert b"ok" == ask(adapter).body
            assert not over.is_set()
            over.set()

    def test_a_close_after_the_whole_response_does_not_stay_again(self) -> None:
        """Tornado closes on its loop, where it must not wait at all."""
        from asgiref.sync import sync_to_async

        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")
            await over.waited()

        async def close() -> None:
            Call.close(served)

        with adapted(app, disconnect_grace=0.02) as adapter, Served(adapter) as served:
            assert b"ok" == served.call().rest()
            bounded(lambda: asyncio.run(close()))
            over.set()

    @pytest.mark.parametrize("on_a_loop", [False, True])
    def test_work_that_first_comes_between_the_last_part_and_close(self, on_a_loop: bool) -> None:
        """It runs in the server's thread, unless that runs a loop then (Tornado), where it must not wait."""
        from asgiref.sync import sync_to_async

        taken, submitted, over = Flag(), Flag(), Flag()
        seen: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"x")
            await taken.waited()  # so that the response is an iterator
            await end(send)
            await over.waited()
            work = asyncio.ensure_future(sync_to_async(lambda: seen.append(threading.get_ident()))())
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, submitted.set)
            await work

        async def close() -> None:
            Call.close(served)

        with adapted(app, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            served.call()
            assert served.next() == b"x"
            taken.set()
            served.rest()
            over.set()
            submitted.wait()
            if on_a_loop:
                bounded(lambda: asyncio.run(close()))
            else:
                served.close()
            until(lambda: seen)
            assert (seen == [served.thread.ident]) != on_a_loop

    def test_what_comes_after_the_thread_has_left_runs_elsewhere(self) -> None:
        """Not in the thread, which may be in another request by then; and one after the other."""
        from asgiref.sync import sync_to_async

        gone, over = Flag(), Flag()
        results: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"ok")
            await gone.waited()
            results.extend(await asyncio.gather(*[sync_to_async(threading.get_ident)() for _ in range(5)]))
            over.set()

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.run().body
            gone.set()
            over.wait()
            assert 1 == len(set(results))
            assert served.thread.ident not in results

    def test_its_errors_reach_the_app(self) -> None:
        from asgiref.sync import sync_to_async

        def fails() -> None:
            raise LookupError("of the work")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(LookupError, match="of the work"):
                await sync_to_async(fails)()
            await reply(send, b"caught")

        with adapted(app) as adapter:
            assert b"caught" == ask(adapter).body

    def test_async_code_called_from_it_runs_on_the_loop(self) -> None:
        from asgiref.sync import async_to_sync, sync_to_async

        loops: list[object] = []

        async def inner() -> int:
            loops.append(asyncio.get_running_loop())
            return await sync_to_async(threading.get_ident)()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            ident = await sync_to_async(async_to_sync(inner))()
            await reply(send, str(ident).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            assert str(served.thread.ident).encode() == served.run().body

        assert loops[0] is loops[1]

    def test_contextvars_go_there_and_back(self) -> None:
        from asgiref.sync import sync_to_async

        seen: list[str] = []

        def work() -> None:
            seen.append(user.get())
            user.set("set in the thread")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            user.set("set on the loop")
            await sync_to_async(work)()
            await reply(send, user.get().encode())

        with adapted(app) as adapter:
            assert b"set in the thread" == ask(adapter).body

        assert ["set on the loop"] == seen
        assert "nobody" == user.get("nobody")

    def test_requests_at_once_use_their_own_threads(self) -> None:
        from asgiref.sync import sync_to_async

        together = threading.Barrier(4, timeout=PATIENCE)

        def meet() -> int:
            together.wait()
            return threading.get_ident()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, str(await sync_to_async(meet)()).encode())

        with adapted(app) as adapter:
            requests = [Served(adapter) for _ in range(4)]
            for ended in [served.begin() for served in requests]:
                ended()
            for served in requests:
                assert str(served.thread.ident).encode() == served.rest()
                served.close()
                served.thread.end()

    @pytest.mark.usefixtures("looks_often")
    def test_work_in_progress_ends_before_the_thread_leaves(self) -> None:
        """A transaction must not be left in the middle because the client has left."""
        from asgiref.sync import sync_to_async

        events: list[str] = []
        at_work = Flag()
        client, server = socket.socketpair()

        def transaction() -> None:
            events.append("begin")
            at_work.set()
            left.wait()
            events.append("commit")

        left = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(transaction)()
            await reply(send)

        environ = environ_for("GET", "/", werkzeug__socket=server)
        with client, server, adapted(app) as adapter, Served(adapter, environ) as served:
            ended = served.begin()
            at_work.wait()
            client.close()
            left.set()
            ended()
            served.close()

        assert ["begin", "commit"] == events

    def test_a_server_thread_within_async_to_sync_does_not_wait_for_itself(self) -> None:
        """asgiref would send the work to the outer call's thread, which is the one that waits for the response."""
        from asgiref.sync import async_to_sync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")

        with adapted(app) as adapter:

            def request() -> bytes:
                body = adapter(environ_for("GET", "/"), lambda *_: None)
                return b"".join(body)

            async def outer() -> bytes:
                return await sync_to_async(request)()

            assert b"ok" == Work(lambda: async_to_sync(outer)()).result()

    def test_it_leaves_no_trace_in_the_servers_thread(self) -> None:
        """Another application may use that thread next, and its async code has nothing to do with our loop."""
        from asgiref.sync import async_to_sync, sync_to_async

        loops: list[asyncio.AbstractEventLoop] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await sync_to_async(int)()
            await reply(send)

        async def running_loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            assert served.thread.run(async_to_sync(running_loop)) is not loops[0]

    def test_a_second_close_changes_nothing_in_the_thread(self) -> None:
        """The thread may be at something else by then, with thread-locals of its own."""
        from asgiref.sync import SyncToAsync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await start(send)
            await asyncio.sleep(0)
            await end(send)

        def set_of_somebody_else() -> None:
            SyncToAsync.threadlocal.main_event_loop = "of somebody else"

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            served.thread.run(set_of_somebody_else)
            served.close()
            assert "of somebody else" == served.thread.run(lambda: SyncToAsync.threadlocal.main_event_loop)

    def test_a_close_in_another_thread_changes_nothing_there(self) -> None:
        """Tornado closes a response on its loop, and has called the application in a thread."""
        from asgiref.sync import SyncToAsync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await start(send)
            await end(send)

        def close() -> object:
            SyncToAsync.threadlocal.main_event_loop = "of somebody else"
            Call.close(served)
            return getattr(SyncToAsync.threadlocal, "main_event_loop", None)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            assert "of somebody else" == Work(close).result()

    def test_django_runs_signals_and_view_in_the_servers_thread(self) -> None:
        """Its ASGI handler makes a thread per request elsewhere; persistent database connections need this one."""
        lines = run_script(DJANGO)

        assert ["started True", "middleware True", "view True", "finished True", "200 OK", "b'from the view'"] == lines[
            :6
        ]
        assert ["finished True", "200 OK", "b'streamed'"] == lines[-3:]

    def test_sync_endpoints_of_starlette_share_few_threads(self) -> None:
        """anyio makes and ends a thread for each, unless the loop is run through a root task."""
        lines = run_script(STARLETTE)

        assert "300 served" == lines[0]
        assert int(lines[1]) < 20, "a new thread for nearly each"


DJANGO = """
import threading
import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True,
    MIDDLEWARE=["__main__.middleware", "django.middleware.common.CommonMiddleware"],
)
django.setup()
from django.core import signals
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from bridge import AsgiToWsgi, WsgiToAsgi
from support.scripted_wsgi_server import Served, environ_for

def tell(what):
    print(what, threading.get_ident() == served.thread.ident)

def middleware(get_response):
    def run(request):
        tell("middleware")
        return get_response(request)
    return run

def view(request):
    tell("view")
    return HttpResponse(b"from the view")

async def stream(request):
    async def pieces():
        yield b"stre"
        yield b"amed"
    return StreamingHttpResponse(pieces())

urlpatterns = [path("", view), path("stream", stream)]
signals.request_started.connect(lambda **_: tell("started"), weak=False)
signals.request_finished.connect(lambda **_: tell("finished"), weak=False)
with AsgiToWsgi(get_asgi_application()) as adapter:
    for where in "/", "/stream":
        with Served(adapter, environ_for("GET", where)) as served:
            served.run()
            print(served.status)
            print(served.body)
"""


STARLETTE = """
import threading
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from bridge import AsgiToWsgi, WsgiToAsgi
from support.scripted_wsgi_server import ask, environ_for

seen = set()
def endpoint(request):
    seen.add(threading.get_native_id())
    return PlainTextResponse("ok")

with AsgiToWsgi(Starlette(routes=[Route("/", endpoint)])) as adapter:
    served = sum(ask(adapter).body == b"ok" for _ in range(300))
print(served, "served")
print(len(seen))
"""

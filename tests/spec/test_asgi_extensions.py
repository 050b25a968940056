"""The ASGI extensions: path send, early hints, trailers, TLS; see `test_asgi.py` for the classes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ApplicationProtocolError
from spec.harness import (
    MISSING,
    Call,
    Environ,
    Event,
    Scope,
    ask,
    environ_of,
    fetch,
    get,
    scope_of,
    serve,
    wsgi,
    wsgi_environ,
)
from support.asgi_apps import END, START, part, sending
from support.waiting import Flag, LogWatch, bounded


class TestPathSendServer:
    """ASGI Extensions, Path Send."""

    @staticmethod
    def wrapper(file: Any, size: int = 8192) -> Iterator[bytes]:
        """A `wsgi.file_wrapper` of the plainest kind."""
        with file:
            yield from iter(lambda: file.read(size), b"")

    def test_it_is_offered_where_the_server_wraps_files(self) -> None:
        """An empty dict under its name, where there is a `wsgi.file_wrapper` and the project asks for it."""
        scope = scope_of(wsgi_environ(wsgi__file_wrapper=self.wrapper), pathsend=True)
        assert {} == scope["extensions"]["http.response.pathsend"]

    def test_the_file_is_sent(self, tmp_path: Path) -> None:
        """One event after the start sends the file and ends the response."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100_000)
        start = {**START, "headers": [(b"content-length", b"100000")]}
        call = fetch(
            sending(start, {"type": "http.response.pathsend", "path": str(path)}),
            wsgi_environ(wsgi__file_wrapper=self.wrapper),
            pathsend=True,
        )

        assert (200, b"x" * 100_000, True) == (call.code, call.body, call.complete)

    def test_it_does_not_mix_with_body_events(self, tmp_path: Path) -> None:
        """After a body event it is an error; what comes after it is ignored."""
        path = tmp_path / "file"
        path.write_bytes(b"file")
        event = {"type": "http.response.pathsend", "path": str(path)}
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await send(START)
            if scope["path"] == "/after":
                await send(part(b"body"))
                try:
                    await send(event)
                except ApplicationProtocolError as error:
                    raised.append(error)
            else:
                await send(event)
            await send({**END, "body": b""})

        with wsgi(app, pathsend=True) as adapter:
            after = ask(adapter, wsgi_environ(path="/after", wsgi__file_wrapper=self.wrapper))
            alone = ask(adapter, wsgi_environ(wsgi__file_wrapper=self.wrapper))

        assert (1, b"body", b"file") == (len(raised), after.body, alone.body)

    def test_a_file_that_cannot_be_opened_is_an_error(self, tmp_path: Path, log: LogWatch) -> None:
        """The server can answer 500: nothing was sent when it turns out."""
        event = {"type": "http.response.pathsend", "path": str(tmp_path / "nothing")}
        call = fetch(sending(START, event), wsgi_environ(wsgi__file_wrapper=self.wrapper), fails=True, pathsend=True)

        assert not call.complete
        log.wait_for("nothing", level=40)

    def test_a_head_request_sends_no_file(self, tmp_path: Path) -> None:
        """The headers go out, the file stays."""
        path = tmp_path / "file"
        path.write_bytes(b"file")
        event = {"type": "http.response.pathsend", "path": str(path)}
        call = fetch(
            sending({**START, "headers": [(b"content-length", b"4")]}, event),
            wsgi_environ("HEAD", wsgi__file_wrapper=self.wrapper),
            pathsend=True,
        )

        assert (["4"], b"") == (call.header("content-length"), call.body)


class TestEarlyHintServer:
    """ASGI Extensions, Early Hints."""

    @staticmethod
    def hinting(*before: Event, middle: Any = ()) -> Any:
        """An app that sends hints at several places."""
        return sending(*before, START, *middle, {**END, "body": b"x"})

    def test_it_is_offered_where_the_server_sends_hints(self) -> None:
        """An empty dict under its name, where there is a `wsgi.early_hints`."""
        assert (
            {}
            == scope_of(wsgi_environ(wsgi__early_hints=lambda headers: None))["extensions"]["http.response.early_hint"]
        )

    def test_links_become_link_headers(self) -> None:
        """Each event, and there may be several, is one call of the server's with its links, in the server's thread."""
        hints: list[Any] = []
        threads: set[int] = set()

        def early_hints(headers: Any) -> None:
            threads.add(threading.get_ident())
            hints.append([(name.lower(), value) for name, value in headers])

        first = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]}
        second = {"type": "http.response.early_hint", "links": [b"</c.png>; rel=preload"]}
        call_threads: list[int] = []

        with wsgi(sending(START, first, second, {**END, "body": b"x"})) as adapter:

            def story() -> bytes:
                call_threads.append(threading.get_ident())
                call = Call(adapter, wsgi_environ(wsgi__early_hints=early_hints))
                call.run()
                return call.body

            assert b"x" == bounded(story)

        assert [
            [("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")],
            [("link", "</c.png>; rel=preload")],
        ] == hints
        assert set(call_threads) == threads

    def test_a_hint_within_the_body_is_no_error(self) -> None:
        """It may be sent until the last body event; once the headers have left, the server may ignore it."""
        hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
        call = fetch(
            sending(START, part(b"a"), hint, {**END, "body": b"b"}),
            wsgi_environ(wsgi__early_hints=lambda headers: None),
        )

        assert b"ab" == call.body

    def test_a_link_that_breaks_the_head_does_not_get_out(self) -> None:
        """Control characters in a link are an error of the application."""
        hints: list[Any] = []
        hint = {"type": "http.response.early_hint", "links": [b"</a>\r\nset-cookie: x"]}
        fetch(sending(START, hint, END), wsgi_environ(wsgi__early_hints=hints.append), fails=True)

        assert [] == hints


class TestTlsServer:
    """ASGI TLS Extension."""

    def test_without_tls_it_is_not_there(self) -> None:
        """A server is forbidden to offer it on a plain connection."""
        assert "tls" not in scope_of().get("extensions", {})

    def test_its_entries_have_their_types(self) -> None:
        """Mandatory entries are there, and each is what the extension says or None."""
        environ = wsgi_environ(
            wsgi__url_scheme="https",
            HTTPS="on",
            SSL_PROTOCOL="TLSv1.3",
            SSL_CIPHER="TLS_AES_128_GCM_SHA256",
            SSL_CLIENT_S_DN="CN=alice",
        )
        tls = scope_of(environ)["extensions"]["tls"]

        assert {"server_cert", "tls_version", "cipher_suite"} <= tls.keys()
        assert 0x0304 == tls["tls_version"]
        assert tls["server_cert"] is None or isinstance(tls["server_cert"], str)
        assert tls["cipher_suite"] is None or isinstance(tls["cipher_suite"], int)
        assert all(isinstance(certificate, str) for certificate in tls.get("client_cert_chain", ()))
        assert tls.get("client_cert_name") in (None, "CN=alice")

    def test_a_client_certificate_is_the_first_of_the_chain(self) -> None:
        """The PEM text that the server has, with its name beside it."""
        pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
        environ = wsgi_environ(
            wsgi__url_scheme="https", SSL_PROTOCOL="TLSv1.2", SSL_CLIENT_CERT=pem, SSL_CLIENT_S_DN="CN=alice"
        )
        tls = scope_of(environ)["extensions"]["tls"]

        assert pem == next(iter(tls["client_cert_chain"]))
        assert (0x0303, "CN=alice") == (tls["tls_version"], tls["client_cert_name"])


class TestTrailersServer:
    """ASGI Extensions, HTTP Trailers."""

    def test_trailers_are_not_offered_and_refused(self) -> None:
        """WSGI has no trailers: the event is an error where it could still be part of the response."""
        raised: list[BaseException] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            assert "http.response.trailers" not in scope.get("extensions", {})
            await send(START)
            await send(part(b"x"))
            try:
                await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
            except ApplicationProtocolError as error:
                raised.append(error)
            await send(END)

        assert b"x" == fetch(app).body
        assert 1 == len(raised)

    def test_a_start_that_announces_trailers_does_not_hang(self) -> None:
        """The response ends with its body although trailers were announced; nobody waits for them."""
        done = Flag()

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            try:
                await send({**START, "trailers": True})
                await send({**END, "body": b"x"})
                await send({"type": "http.response.trailers", "headers": []})
            finally:
                done.set()

        with wsgi(app) as adapter:
            call = Call(adapter, wsgi_environ())

            def story() -> None:
                try:
                    call.run()
                except ApplicationProtocolError as error:
                    call.error = error

            bounded(story)
            done.wait()

        assert call.complete or call.error is not None


class TestPathSendApplication:
    """ASGI Extensions, Path Send."""

    @staticmethod
    def file_app(path: Path, *headers: tuple[str, str]) -> Any:
        """A WSGI app that returns the file in the server's wrapper."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "image/png"), *headers])
            return environ["wsgi.file_wrapper"](path.open("rb"))

        return app

    def test_a_whole_file_is_left_to_the_server(self, tmp_path: Path) -> None:
        """One event with the absolute path after a start with Content-Length, and no body event beside it."""
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100_000)
        exchange = serve(self.file_app(path), get(extensions={"http.response.pathsend": {}}), pathsend=True)

        assert ["http.response.start", "http.response.pathsend"] == [event["type"] for event in exchange.sent]
        assert str(path) == exchange.sent[1]["path"]
        assert [b"100000"] == exchange.header(b"content-length")
        assert [b"image/png"] == exchange.header(b"content-type")

    @pytest.mark.parametrize("extensions", [{}, None, MISSING])
    def test_it_is_not_used_unless_it_is_offered(self, tmp_path: Path, extensions: Any) -> None:
        """Without the entry in the scope the file is sent as a body."""
        path = tmp_path / "file"
        path.write_bytes(b"data")

        assert b"data" == serve(self.file_app(path), get(extensions=extensions), pathsend=True).body

    def test_a_part_of_a_file_is_sent_as_a_body(self, tmp_path: Path) -> None:
        """The extension knows no range, so a Content-Length below the size goes the plain way."""
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        app = self.file_app(path, ("Content-Length", "4"))
        exchange = serve(app, get(extensions={"http.response.pathsend": {}}), pathsend=True)

        assert b"0123" == exchange.body


class TestTlsApplication:
    """ASGI TLS Extension."""

    def test_what_the_extension_knows_is_in_the_environ(self) -> None:
        """Version, cipher and the client's certificate, under the names of Apache's variables."""
        pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
        tls = {
            "server_cert": None,
            "client_cert_chain": [pem],
            "client_cert_name": "CN=alice",
            "client_cert_error": None,
            "tls_version": 0x0303,
            "cipher_suite": 0x1301,
        }
        environ = environ_of(get(scheme="https", extensions={"tls": tls}))

        assert ("on", "TLSv1.2", pem, "CN=alice") == tuple(
            environ[key] for key in ("HTTPS", "SSL_PROTOCOL", "SSL_CLIENT_CERT", "SSL_CLIENT_S_DN")
        )

    def test_the_smallest_form_is_enough(self) -> None:
        """The optional entries may be missing, the mandatory ones None."""
        tls = {"server_cert": None, "tls_version": None, "cipher_suite": None}
        environ = environ_of(get(scheme="https", extensions={"tls": tls}))

        assert "on" == environ["HTTPS"]
        assert [] == [key for key, value in environ.items() if key.startswith("SSL_") and type(value) is not str]

    def test_without_tls_there_is_none_in_the_environ(self) -> None:
        """A plain connection has no SSL_ variables."""
        assert [] == [key for key in environ_of() if key.startswith(("SSL_", "HTTPS"))]

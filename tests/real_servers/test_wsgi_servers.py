"""An ASGI app behind `AsgiToWsgi` on WSGI servers."""

import pytest

import servers
from real_servers.cases import Cases
from real_servers.hard_cases import HardCases
from real_servers.kinds import HELLO, WSGI, Kind
from real_servers.stop_cases import StopCases


@pytest.fixture(scope="module", params=[kind.as_parameter() for kind in WSGI])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each WSGI server in turn."""
    return request.param


class TestWsgiServers(Cases, HardCases, StopCases):
    """An ASGI app on WSGI servers."""

    broken_upload = "ClientLeft"

    def test_an_answer_does_not_wait_for_the_upload(self, server: servers.Server, kind: Kind) -> None:
        """An app that answers before it has read the body is not held up by a client that is slow to send it."""
        if not kind.streams_uploads:
            return
        with server.connect() as connection:
            connection.head("POST", "/answers-early", {"Content-Length": 1000})
            connection.send(b"x" * 10)

            assert b"no need to read on\n" == connection.response("POST").read()

    def test_background_work_outlives_its_response(self, server: servers.Server, kind: Kind, token: str) -> None:
        """The client has all of the response before the work ends; others are served meanwhile."""
        with server.connect() as connection:
            assert b"accepted\n" == connection.ask("GET", f"/background?token={token}").read()
        self.served(server)
        assert [] == server.signals.told(f"{token}-done")
        server.signals.tell(f"{token}-go")

        def done() -> bool:
            if kind.stands_still:
                self.served(server)
            return bool(server.signals.told(f"{token}-done"))

        server.wait_for(done, "the work is done")

    def test_a_worker_process_is_not_the_one_that_imported(self, server: servers.Server, kind: Kind) -> None:
        """With --preload the adapter is made in the master, and serves in its child."""
        assert kind.forks is (server.pid() != server.process.pid)
        assert (200, HELLO) == server.get("/hello")

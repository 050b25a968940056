"""Streams of either kind, on servers of either kind."""

import pytest

from support import django_project
from support.django_clients import Asgi, Wsgi
from support.waiting import until

BOTH = pytest.mark.parametrize("prefix", ["", "async_"])

pytestmark = pytest.mark.usefixtures("bridged")


class TestStreams:
    @BOTH
    def test_parts_come_one_by_one(self, face: Asgi | Wsgi, prefix: str) -> None:
        """From an iterator of either kind, which is closed when the client leaves."""
        with face.open(f"/{prefix}endless") as opened:
            assert opened.next()
            opened.leave()
            until(lambda: "closed" in dict(django_project.events))

    @BOTH
    def test_whole_streams(self, face: Asgi | Wsgi, prefix: str) -> None:
        """Nothing is lost, and Django warns of nothing."""
        assert b"".join(b"%d\n" % number for number in range(300)) == face.ask(f"/{prefix}stream?parts=300").body

    @BOTH
    def test_files(self, face: Asgi | Wsgi, prefix: str) -> None:
        """A `FileResponse` is not read into memory first."""
        with open(django_project.__file__, "rb") as source:
            assert source.read() == face.ask(f"/{prefix}file").body

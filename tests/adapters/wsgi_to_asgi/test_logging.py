"""What is logged, and what is not."""

import logging

import pytest

from support.scripted_asgi_server import Adapt, get, opened, post, serve
from support.waiting import LogWatch, eventually
from support.wsgi_apps import Gate, hello


@pytest.mark.anyio
async def test_a_slow_request_is_logged_once_with_its_stack(adapt: Adapt, log: LogWatch) -> None:
    """Above `slow_warning` seconds one line says where its thread is."""
    app = Gate()
    adapter = adapt(app, slow_warning=0.001)
    async with opened(adapter, *get("/held/1", query_string=b"token=secret")):
        await app.entered.waited()
        await eventually(lambda: len(log.at(logging.WARNING)) == 1)
        # The second one is seen later than the first, which by then would have been logged again.
        async with opened(adapter, *get("/held/2")):
            await eventually(lambda: len(log.at(logging.WARNING)) >= 2)
            app.go.set()
    lines = log.at(logging.WARNING)

    assert len(lines) == 2
    assert lines[0].startswith("WARNING GET '/held/1' has taken ")
    assert "secret" not in lines[0]
    assert lines[1].startswith("WARNING GET '/held/2' has taken ")
    assert "bridge-wsgi-1" in lines[0]
    assert "wsgi_apps.py" in lines[0]
    assert "bridge-wsgi-2" in lines[1]


@pytest.mark.anyio
async def test_slow_requests_need_not_be_logged(adapt: Adapt, log: LogWatch) -> None:
    """With `slow_warning=None` nothing is said."""
    app = Gate()
    loud, quiet = adapt(Gate(), slow_warning=0.001), adapt(app, slow_warning=None)
    async with opened(quiet, *get("/held")), opened(loud, *get("/held")):
        await app.entered.waited()
        await eventually(lambda: log.at(logging.WARNING))
        app.go.set()
        loud.app.go.set()  # type: ignore[attr-defined]

    assert len(log.at(logging.WARNING)) == 1


@pytest.mark.anyio
async def test_requests_that_are_well_are_not_logged(adapt: Adapt, log: LogWatch) -> None:
    """A warning means something."""
    adapter = adapt(hello)
    await serve(adapter, *get())
    await serve(adapter, *post(b"body"))

    assert log.at(logging.INFO) == []

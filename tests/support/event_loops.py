"""The kinds of event loop that a test is run on; `anyio_backend` in `conftest.py` has all of them."""

import asyncio

import pytest
import uvloop

# For tests marked `anyio` of what only asyncio has.
on_asyncio = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"debug": True}), id="asyncio-debug"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ],
    indirect=True,
)
# For tests that run loops themselves.
loop_factories = pytest.mark.parametrize(
    "new_loop",
    [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")],
)

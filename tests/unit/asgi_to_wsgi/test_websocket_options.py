"""`WebSocketOptions`: what is refused, and how many WebSockets there may be."""

import math
from typing import Any

import pytest

from bridge._asgi_to_wsgi.websocket_options import WebSocketOptions


@pytest.mark.parametrize(
    ("max_websockets", "threads", "expected"),
    [(None, None, math.inf), (None, 8, 7), (None, 1, 1), (None, 0, 1), (20, 8, 20), (1, None, 1)],
)
def test_one_thread_stays_free_unless_it_is_told_otherwise(
    max_websockets: int | None, threads: int | None, expected: float
) -> None:
    assert expected == WebSocketOptions(max_websockets=max_websockets).limit(threads)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"websocket": "maybe"}, ValueError),
        ({"max_websockets": 0}, ValueError),
        ({"max_message": 0}, ValueError),
        ({"max_message": "1"}, TypeError),
        ({"ping_interval": -1.0}, ValueError),
        ({"ping_timeout": math.nan}, ValueError),
    ],
)
def test_wrong_options(wrong: dict[str, Any], error: type[Exception]) -> None:
    """The message names the option."""
    with pytest.raises(error, match=next(iter(wrong))):
        WebSocketOptions(**wrong)

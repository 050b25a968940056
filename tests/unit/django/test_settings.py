"""`settings.BRIDGE`: what is wrong is said, with what to write instead."""

import asyncio
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from bridge.django import BridgeMiddleware, _settings, get_asgi_application, get_wsgi_application
from support import django_project  # noqa: F401  # sets Django up


def test_nothing_said() -> None:
    """The defaults."""
    chosen = _settings.read()

    assert (frozenset(), False, None) == (chosen.on_loop, chosen.server_timing, chosen.loop_factory)


def test_all_said() -> None:
    """Each key is taken; a factory may be a dotted path."""
    given = {"ON_LOOP": ["shop.views.feed"], "SERVER_TIMING": True, "LOOP_FACTORY": "asyncio.new_event_loop"}
    with override_settings(BRIDGE=given):
        chosen = _settings.read()

    assert {"shop.views.feed"} == chosen.on_loop
    assert chosen.server_timing is True
    assert asyncio.new_event_loop is chosen.loop_factory


def test_server_timing_follows_debug() -> None:
    """It is for development."""
    with override_settings(DEBUG=True):
        assert _settings.read().server_timing is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["ON_LOOP"], "BRIDGE must be a dict"),
        ({"ONLOOP": []}, "has no key 'ONLOOP'; did you mean 'ON_LOOP'?"),
        ({"THREADS": 4}, "has no key 'THREADS'. Its keys are ON_LOOP, SERVER_TIMING, LOOP_FACTORY"),
        ({"ON_LOOP": "shop.views.feed"}, "such as 'shop.views.feed', not 'shop.views.feed'"),
        ({"ON_LOOP": [*["shop.views.feed"] * 9, "feed"]}, "such as 'shop.views.feed', and must not contain 'feed'"),
        ({"SERVER_TIMING": "yes"}, "must be True or False, not 'yes'"),
        ({"LOOP_FACTORY": 1}, "must be a callable or its dotted path"),
        ({"LOOP_FACTORY": "nowhere.at.all"}, "BRIDGE['LOOP_FACTORY'] names 'nowhere.at.all', which cannot be imported"),
    ],
)
@pytest.mark.parametrize(
    "reader", [get_asgi_application, get_wsgi_application, lambda: BridgeMiddleware(lambda _: None)]
)
def test_what_is_wrong(given: Any, said: str, reader: Any) -> None:
    """At start-up, by each who reads it."""
    with override_settings(BRIDGE=given), pytest.raises(ImproperlyConfigured) as raised:
        reader()

    assert said in str(raised.value)

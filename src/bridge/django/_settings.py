"""`settings.BRIDGE`: one dict, each key checked."""

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from bridge._concurrency.private_loop import LoopFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `settings.BRIDGE` says.

    * `ON_LOOP` (dotted paths of async views): on an ASGI server, their requests run through Django's own async chain,
    on the event loop, and hold no thread while they wait. The same as the decorator `on_loop`.
    * `SERVER_TIMING` (bool; default: `DEBUG`): `BridgeMiddleware` adds a `Server-Timing` header with the thread hops.
    * `LOOP_FACTORY` (dotted path or callable): makes the private event loop on a WSGI server, for example
      `uvloop.new_event_loop`.
    """

    on_loop: frozenset[str]
    server_timing: bool
    loop_factory: LoopFactory | None


def read() -> Settings:
    """The values of `settings.BRIDGE`. Raises `ImproperlyConfigured`, which says what to write instead."""
    given = getattr(settings, "BRIDGE", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"BRIDGE must be a dict such as {{'ON_LOOP': []}}, not {given!r:.80}")
    for key in given:
        if key not in _CHECKS:
            near = difflib.get_close_matches(str(key).upper(), _CHECKS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise ImproperlyConfigured(f"BRIDGE has no key {key!r}{meant} Its keys are {', '.join(_CHECKS)}.")
    return Settings(
        on_loop=_CHECKS["ON_LOOP"](given.get("ON_LOOP", ())),
        server_timing=_CHECKS["SERVER_TIMING"](given.get("SERVER_TIMING", settings.DEBUG)),
        loop_factory=_CHECKS["LOOP_FACTORY"](given.get("LOOP_FACTORY")),
    )


def _dotted_paths(value: Any) -> frozenset[str]:
    expected = "BRIDGE['ON_LOOP'] must be a list of dotted paths of views such as 'shop.views.feed'"
    if not isinstance(value, Collection) or isinstance(value, str | bytes):
        raise ImproperlyConfigured(f"{expected}, not {value!r:.80}")
    for path in value:
        if not _is_dotted(path):
            raise ImproperlyConfigured(f"{expected}, and must not contain {path!r:.80}")
    return frozenset(value)


def _is_dotted(value: Any) -> bool:
    return isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split("."))


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ImproperlyConfigured(f"BRIDGE['SERVER_TIMING'] must be True or False, not {value!r:.80}")


def _factory(value: Any) -> LoopFactory | None:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            said = f"BRIDGE['LOOP_FACTORY'] names {value!r}, which cannot be imported: {error}"
            raise ImproperlyConfigured(said) from error
    if value is None or callable(value):
        return cast("LoopFactory | None", value)
    raise ImproperlyConfigured(
        f"BRIDGE['LOOP_FACTORY'] must be a callable or its dotted path, such as 'uvloop.new_event_loop',"
        f" not {value!r:.80}"
    )


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "ON_LOOP": _dotted_paths,
    "SERVER_TIMING": _flag,
    "LOOP_FACTORY": _factory,
}

"""Checks the arguments of a constructor: whether the application has the right interface, and the options are in
range.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from asgiref.sync import iscoroutinefunction


def wsgi_app(app: Any) -> None:
    """Raise `TypeError` unless `app` can be called as `app(environ, start_response)` and is not async."""
    if not fits(app, 2):
        raise TypeError(f"expected a WSGI application, app(environ, start_response), got {seen(app)}")
    if is_async(app):
        raise TypeError(f"expected a WSGI application, which is not async, got {seen(app)}")


def asgi_app(app: Any) -> None:
    """Raise `TypeError` unless `app` can be called as `app(scope, receive, send)`."""
    if not fits(app, 3):
        raise TypeError(f"expected an ASGI 3 application, async app(scope, receive, send), got {seen(app)}")


def hook(name: str, function: Any) -> None:
    """Raise `TypeError` unless `function` is None or can be called with the lifespan state, or with nothing."""
    if function is not None and not fits(function, 0) and not fits(function, 1):
        raise TypeError(f"{name} must be None or a callable that takes the state or nothing, got {function!r:.80}")


def takes_argument(function: Callable[..., Any]) -> bool:
    """Whether to call a hook with the lifespan state."""
    return not fits(function, 0)


def count(name: str, value: Any, *, least: int) -> None:
    """Raise unless `value` is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r:.80}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")


def seconds(name: str, value: Any) -> None:
    """Raise unless `value` is a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {value!r:.80}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds and finite, got {value}")


def flag(name: str, value: Any) -> None:
    """Raise unless `value` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r:.80}")


def choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r:.80}")


def factory(name: str, function: Any) -> None:
    """Raise `TypeError` unless `function` is None or can be called with nothing."""
    if function is not None and not fits(function, 0):
        raise TypeError(f"{name} must be None or a callable that takes nothing, got {function!r:.80}")


# The most positional arguments of anything that is checked here: a hook takes none or one, WSGI two, ASGI three.
_COUNTS: Final = range(4)


def fits(app: Any, arguments: int) -> bool:
    """Whether `app` can be called with this number of positional arguments, and no others."""
    return callable(app) and arguments in _fitting(app)


def _fitting(app: Any) -> set[int]:
    """The numbers of positional arguments with which `app` can be called.

    A decorator often accepts any arguments, and says with `functools.wraps` whose arguments it passes on. But the
    wrapped function may have the other interface. Then the decorator's own signature counts.
    """
    own = _binding(app, follow_wrapped=False)
    return own & _binding(app, follow_wrapped=True) or own


def _binding(app: Any, *, follow_wrapped: bool) -> set[int]:
    signature = _signature(app, follow_wrapped=follow_wrapped)
    if signature is None:
        return set(_COUNTS)  # a C function without a signature
    found = set()
    for count in _COUNTS:
        with suppress(TypeError):
            signature.bind(*range(count))
            found.add(count)
    return found


def _signature(app: Any, *, follow_wrapped: bool = True) -> inspect.Signature | None:
    """The arguments of `app`, if they can be found out."""
    with suppress(TypeError, ValueError):
        return inspect.signature(app, follow_wrapped=follow_wrapped)
    # An object whose `__call__` is a descriptor, such as a slot, and may differ between instances.
    with suppress(TypeError, ValueError, AttributeError):
        return inspect.signature(app.__call__, follow_wrapped=follow_wrapped)
    return None


def parameters(app: Any) -> list[str]:
    """The names of the parameters of `app`. Empty if they cannot be found out."""
    signature = _signature(app)
    return [] if signature is None else list(signature.parameters)


def is_async(app: Any) -> bool:
    """Whether calling `app` returns an awaitable, as far as this can be known without calling it."""
    while isinstance(app, functools.partial):
        app = app.func
    call = getattr(app, "__call__", None)  # noqa: B004
    return any(kind(each) for kind in (iscoroutinefunction, inspect.isasyncgenfunction) for each in (app, call))


def seen(app: Any) -> str:
    """What `app` is, for the end of an error message."""
    if inspect.isclass(app):
        what = f"the class {app.__qualname__}"
    else:
        what = (
            f"{app!r:.80}" if not callable(app) else f"{type(app).__name__} {getattr(app, '__qualname__', '')}".strip()
        )
    if not callable(app):
        return f"{what}, which cannot be called"
    # The second count includes `self`.
    if inspect.isclass(app) and not (fits(app, 1) and fits(app.__call__, 3) and is_async(app.__call__)):
        return f"{what}; did you mean an instance of it?"
    if fits(app, 3) and not fits(app, 2):
        return f"{what}, which takes the three arguments of an ASGI application"
    if fits(app, 2) and not fits(app, 3):
        return f"{what}, which takes the two arguments of a WSGI application" + (
            ", but is async" if is_async(app) else ""
        )
    if fits(app, 1) and not fits(app, 3):
        return f"{what}, which takes one argument, as ASGI 2 did (asgiref.compatibility adapts that)"
    signature = _signature(app)
    return what if signature is None else f"{what}{signature}"

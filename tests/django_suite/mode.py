"""Runs Django's `runtests.py` in one mode: `python -m django_suite.mode MODE RUNTESTS LABEL...`, in its folder."""

import runpy
import sys

from django.core.handlers import base

from django_suite import handlers
from django_suite.runner import Runner


class _WithBridgeMiddleware:
    """Django's settings as its handlers read them, with `BridgeMiddleware` put first."""

    def __getattr__(self, name: str) -> object:
        from django.conf import settings

        value = getattr(settings, name)
        return ["bridge.django.BridgeMiddleware", *value] if name == "MIDDLEWARE" else value


def _always(handler: handlers.LoopHandler, _environ: object) -> bool:
    if handler._middleware_chain is None:
        handler.load_middleware(is_async=True)
    return True


def put_in_place(mode: str) -> None:
    """Before the tests are imported, which take what they need by name."""
    if mode == "middleware":
        base.settings = _WithBridgeMiddleware()  # type: ignore[attr-defined]
        return
    handlers.put_in_place()
    from django_suite import clients  # imports Django's, which is to find our handlers

    clients.put_in_place()
    if mode == "on_loop":
        handlers.LoopHandler.takes = _always  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    Runner.mode, runtests, *labels = sys.argv[1:]
    put_in_place(Runner.mode)
    sys.argv = [runtests, "--settings", "django_suite.settings", "--parallel", "1", "--noinput", *labels]
    runpy.run_path(runtests, run_name="__main__")

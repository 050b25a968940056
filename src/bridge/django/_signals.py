"""Who has something to do at the start and the end of a request: only Django, or also the project?"""

import weakref
from typing import Any, Final

from django.core import signals
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.db import close_old_connections, reset_queries
from django.dispatch import Signal
from django.http.response import HttpResponseBase

# What Django itself does at the start and the end of each request: it takes no time, and none of it concerns a thread
# in which the request has done nothing.
_OWN: Final = {
    signals.request_started: frozenset((close_old_connections, reset_queries)),
    signals.request_finished: frozenset((close_old_connections, close_caches, reset_urlconf)),
}


def only_django_listens(signal: Signal) -> bool:
    """Whether a project has no receivers of its own for `request_started` or `request_finished`."""
    own = _OWN[signal]
    return all(_function(receiver) in own for _, receiver, *_ in signal.receivers)


def closes_at_once(response: Any) -> bool:
    """Whether only Django has something to do when `response` is closed; a project's own code may take its time."""
    return (
        getattr(response.close, "__func__", None) is HttpResponseBase.close
        and len(response._resource_closers) <= 1  # that of the request
        and only_django_listens(signals.request_finished)
    )


def _function(receiver: Any) -> object:
    return receiver() if isinstance(receiver, weakref.ReferenceType) else receiver

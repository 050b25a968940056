"""A report as text and as JSON."""

import json
from dataclasses import replace

from bridge.django._report.cost import report
from bridge.django._report.project import Listeners, Middleware, Project, Route
from bridge.django._report.selection import Hidden
from bridge.django._report.tables import as_json, as_text

MIXIN = Middleware(path="a.Mixin", can_sync=True, can_async=True, mixin_hooks=("process_request",))
PROJECT = Project(
    middleware=(MIXIN, Middleware(path="a.Unused", can_sync=True, can_async=False, used=False)),
    routes=(
        Route(route="", name="home", view=print, path="a.home", is_async=False, on_loop=False),
        Route(route="feed/", name="", view=print, path="a.feed", is_async=True, on_loop=True),
    ),
    asgi="django",
    wsgi="bridge",
)


class TestText:
    def test_the_whole(self) -> None:
        """Each part, with columns that line up."""
        lines = as_text(report(PROJECT), Hidden()).splitlines()
        assert lines[0] == "ASGI application: Django's own. WSGI application: bridge.django."
        assert lines[4:7] == [
            "  sync  async  kind  middleware",
            "     0      2  both  a.Mixin  (in a thread: process_request)",
            "     0      0  sync  a.Unused  (not used: MiddlewareNotUsed)",
        ]
        assert lines[9:12] == [
            "  django-wsgi  django-asgi  bridge-wsgi  bridge-asgi  kind            view    URL pattern",
            "            0            8            0            2  sync            a.home  /  [home]",
            "            2            6            2            4  async, on_loop  a.feed  /feed/",
        ]
        assert lines[14:17] == [
            "WHAT TO CHANGE FIRST: each change assumes those before it",
            "1. asgi.py: import get_asgi_application from bridge.django instead of django.core.asgi",
            "   saves up to 6 hops a request, on 2 of 2 URL patterns",
        ]

    def test_an_empty_project(self) -> None:
        """No middleware, no URL pattern, nothing to change."""
        text = as_text(report(Project(middleware=(), routes=())), Hidden())
        assert "ASGI application: not found. WSGI application: not found." in text
        assert "Nothing: with these entry points" in text

    def test_listeners_are_named(self) -> None:
        """Since they are counted."""
        text = as_text(report(replace(PROJECT, finished=Listeners(project=True))), Hidden())
        assert "The project's own receivers of request_finished are counted." in text


class TestJson:
    def test_the_whole(self) -> None:
        """All that the text has, as plain data."""
        shown = json.loads(json.dumps(as_json(report(PROJECT), Hidden(admin=2))))
        assert set(shown) == {
            "django",
            "entry_points",
            "middleware",
            "url_patterns",
            "left_out",
            "template_response",
            "changes",
        }
        assert shown["middleware"][0] == {
            "path": "a.Mixin",
            "kind": "both",
            "used": True,
            "thread_hooks": ["process_request"],
            "hops": {"sync_chain": 0, "async_chain": 2},
        }
        assert shown["url_patterns"][1] == {
            "route": "feed/",
            "name": "",
            "view": "a.feed",
            "kind": "async",
            "on_loop": True,
            "hops": {"django-wsgi": 2, "django-asgi": 6, "bridge-wsgi": 2, "bridge-asgi": 4},
        }
        assert shown["left_out"] == {"admin": 2, "others": 0}
        assert shown["changes"][0]["url_patterns"] == 2

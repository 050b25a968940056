"""The hops that the report tells of are those that the real handlers make, and what it advises saves them."""

import random
from dataclasses import replace
from typing import Any

import pytest

from bridge.django._report.cost import HANDLERS, above, chain, hops, report
from bridge.django._report.project import Listeners, Middleware, Project, Route
from support import django_report

# Some start processes that import Django.
pytestmark = pytest.mark.timeout(240)

STARTPROJECT = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
OURS = "bridge.django.BridgeMiddleware"
KINDS = (
    "SyncOnly",
    "SyncOnlyWithView",
    "async_only",
    "both",
    "Native",
    "NativeWithView",
    "Mixin",
    "MixinWithCall",
    "NotUsed",
)
NAMED = tuple(f"report_project.middleware.{name}" for name in KINDS)

SYNC = Middleware(path="sync", can_sync=True, can_async=False)
ASYNC = Middleware(path="async", can_sync=False, can_async=True, native=True)
BOTH = Middleware(path="both", can_sync=True, can_async=True, native=True)
MIXIN = Middleware(path="mixin", can_sync=True, can_async=True, mixin_hooks=("process_request", "process_response"))


def stacks() -> list[list[str]]:
    """Those that have a name, and some drawn blindly, always the same."""
    draw = random.Random(3)
    named = [STARTPROJECT, [], [OURS, *STARTPROJECT], *([one] for one in NAMED)]
    return named + [draw.choices([*NAMED, OURS], k=draw.randint(2, 5)) for _ in range(12)]


def differences(cases: list[dict[str, Any]]) -> list[object]:
    """Where the report says something else than was counted."""
    found: list[object] = []
    for case, result in zip(cases, django_report.count(cases), strict=True):
        assert result["report"]["url_patterns"]
        for pattern in result["report"]["url_patterns"]:
            counted = result["counted"][pattern["route"]]
            assert set(HANDLERS) == set(counted)
            real = {handler: counted[handler]["hops"] for handler in HANDLERS}
            if real != pattern["hops"]:
                found.append((case, pattern["route"], {"said": pattern["hops"], "counted": real}))
    return found


def project(*middleware: Middleware, is_async: bool = True, on_loop: bool = False, **other: Any) -> Project:
    route = Route(route="a/", name="", view=print, path="views.a", is_async=is_async, on_loop=on_loop)
    return Project(middleware=middleware, routes=(route,), **other)


def cost(project: Project) -> list[int]:
    route = project.routes[0]
    found = hops(project, is_async=route.is_async, on_loop=route.on_loop)
    return [found[handler] for handler in HANDLERS]


class TestAgainstTheHandlers:
    def test_each_stack_costs_what_the_report_says(self) -> None:
        """Sync and async views, functions and classes, and one on the loop; under all four handlers."""
        assert [] == differences([{"settings": {"MIDDLEWARE": stack}} for stack in stacks()])

    def test_receivers_of_signals_are_counted(self) -> None:
        """Of either kind and signal, around chains that need a thread and that need none."""
        listeners = [
            [(signal, kind)] for signal in ("request_started", "request_finished") for kind in ("sync", "async")
        ]
        both = [("request_started", "sync"), ("request_finished", "async")]
        cases = [
            {"settings": {"MIDDLEWARE": stack}, "listeners": names}
            for stack in ([], [NAMED[KINDS.index("Mixin")]])
            for names in (*listeners, both)
        ]
        assert [] == differences(cases)

    def test_a_template_response_costs_more(self) -> None:
        """As much as the report says, where its middleware is."""
        middleware = [NAMED[KINDS.index(name)] for name in ("Mixin", "NativeWithView")]
        urls = "report_project.template_urls"
        (result,) = django_report.count([{"settings": {"MIDDLEWARE": middleware, "ROOT_URLCONF": urls}}])
        more = result["report"]["template_response"]
        assert more == {"sync_chain": 2, "async_chain": 4}
        for pattern in result["report"]["url_patterns"]:
            counted = result["counted"][pattern["route"]]
            for handler in HANDLERS:
                kind = "async_chain" if handler == "django-asgi" else "sync_chain"
                assert counted[handler]["hops"] - pattern["hops"][handler] == more[kind]

    def test_server_timing_agrees(self) -> None:
        """The header has what there was until the first middleware has ended: all but what comes after, or on a loop,
        before it: signals and close().
        """
        options = {"BRIDGE": {"SERVER_TIMING": True}, "MIDDLEWARE": [OURS, *STARTPROJECT]}
        (result,) = django_report.count([{"settings": options}])
        for pattern in result["report"]["url_patterns"]:
            for handler, counted in result["counted"][pattern["route"]].items():
                around = {"django-asgi": 4, "bridge-asgi": 2 if pattern["on_loop"] else 0}.get(handler, 0)
                said = pattern["hops"][handler] - around
                assert counted["timing"].startswith(f'hops;desc="{said}"'), (pattern, handler, counted)

    def test_startproject_under_django(self) -> None:
        """The number that is worth a change, and that the documents name."""
        patterns = {one["view"]: one["hops"] for one in django_report.report()["url_patterns"]}
        assert [32, 2] == [patterns["report_project.views.plain"][name] for name in ("django-asgi", "bridge-asgi")]
        assert [30, 4] == [patterns["report_project.views.waiting"][name] for name in ("django-asgi", "bridge-asgi")]


class TestChain:
    @pytest.mark.parametrize(
        ("middleware", "in_thread", "on_loop"),
        [
            ((), (), ()),
            ((SYNC,), (0,), (4,)),
            ((ASYNC,), (4,), (0,)),
            ((BOTH, MIXIN), (0, 0), (0, 4)),
            # What is around the one that is sync only is sync as well, and costs nothing of its own.
            ((MIXIN, SYNC, MIXIN), (0, 0, 0), (0, 4, 4)),
            # What is around the one that is async only is async as well, with its hooks in a thread.
            ((MIXIN, ASYNC, MIXIN), (4, 4, 0), (4, 0, 4)),
            ((ASYNC, SYNC), (4, 0), (0, 4)),
            ((SYNC, ASYNC), (0, 4), (4, 0)),
            ((replace(SYNC, used=False),), (0,), (0,)),
            ((replace(BOTH, view_hook=True),), (2,), (0,)),
            ((replace(BOTH, view_hook=False),), (0,), (2,)),
        ],
    )
    def test_who_is_charged(
        self, middleware: tuple[Middleware, ...], in_thread: tuple[int, ...], on_loop: tuple[int, ...]
    ) -> None:
        """The one for which there has to be an adapter."""
        assert chain(middleware, is_async=False) == in_thread
        assert chain(middleware, is_async=True) == on_loop


class TestHops:
    def test_no_thread_where_none_is_needed(self) -> None:
        """An async view in a chain that is async throughout."""
        assert cost(project(BOTH)) == [2, 4, 2, 0]
        assert cost(project(BOTH, is_async=False)) == [0, 6, 0, 2]

    def test_on_loop_is_django_s_chain(self) -> None:
        """With its hops; and the thread that was taken for them is taken for the end, too."""
        assert cost(project(MIXIN)) == [2, 8, 2, 4]
        assert cost(project(MIXIN, on_loop=True)) == [2, 8, 2, 6]

    def test_listeners_take_a_thread(self) -> None:
        """Also for a request that would need none."""
        listening = Listeners(project=True)
        assert cost(project(BOTH, finished=listening))[3] == 2
        assert cost(project(BOTH, started=listening))[3] == 4


class TestChanges:
    def test_the_entry_point_comes_first(self) -> None:
        """One line, which leaves the middleware nothing to save."""
        (change,) = report(project(MIXIN, SYNC, is_async=False, asgi="django", wsgi="django")).changes
        assert change.text.startswith("asgi.py: import get_asgi_application from bridge.django")
        # Signals and close(), the hooks, the one that is sync only around the view: 4 + 4, but the view is in a thread.
        assert (change.most, change.total, change.routes) == (8 + 0, 8, 1)

    def test_then_what_saves_most(self) -> None:
        """Each is worked out on top of those before it."""
        least = replace(MIXIN, path="least", mixin_hooks=("process_response",))
        changes = report(project(least, MIXIN, asgi="other")).changes
        assert [(change.text.partition(":")[0], change.most) for change in changes] == [("mixin", 4), ("least", 2)]

    def test_what_only_uncovers_the_next_is_no_change_of_its_own(self) -> None:
        """Around what is sync only, hooks cost nothing; without it they do."""
        (change,) = report(project(MIXIN, SYNC, BOTH)).changes
        assert change.text.startswith("2 middleware that need a thread")

    def test_all_together_where_one_alone_saves_nothing(self) -> None:
        """Async views need no thread only when nothing does."""
        (change,) = report(project(MIXIN, MIXIN, asgi="bridge", wsgi="bridge")).changes
        assert change.text.startswith("2 middleware that need a thread")
        assert (change.most, change.total) == (4, 4)

    def test_servers_that_there_are_not_count_for_nothing(self) -> None:
        """An async hook costs sync requests on a WSGI server, which is no reason against it without one."""
        hooked = replace(MIXIN, view_hook=False)
        assert not report(project(hooked, hooked, asgi="bridge", wsgi="bridge")).changes
        (change,) = report(project(hooked, hooked, asgi="bridge")).changes
        assert (change.most, change.total) == (4, 4)
        assert not report(project(SYNC, wsgi="bridge")).changes

    def test_no_advice_that_costs(self) -> None:
        """Async only middleware around sync hooks is cheaper in Django's async chain."""
        changes = report(project(ASYNC, MIXIN, MIXIN, ASYNC, is_async=False, asgi="django", wsgi="django")).changes
        assert changes
        assert not changes[0].text.startswith("asgi.py")

    def test_nothing_to_change(self) -> None:
        """No advice that saves nothing."""
        assert report(project(SYNC, MIXIN, is_async=False, asgi="bridge", wsgi="bridge")).changes == ()

    def test_what_is_not_used_still_counts_as_sync(self) -> None:
        """Which it says."""
        unused = replace(MIXIN, mixin_hooks=(), used=False)
        (change,) = report(project(BOTH, unused, asgi="bridge", wsgi="bridge")).changes
        assert change.text.startswith("mixin: not used")

    def test_advice_saves_what_it_says(self) -> None:
        """Applied one after the other, the changes lead from the first sum of hops to the last."""
        drawn = random.Random(5)
        for _ in range(200):
            kinds = drawn.choices([SYNC, ASYNC, BOTH, MIXIN, replace(MIXIN, view_hook=False)], k=drawn.randint(0, 5))
            made = report(project(*kinds, is_async=drawn.random() < 0.5, asgi="django", wsgi="django"))
            before = made.hops[0]["django-asgi"] + made.hops[0]["django-wsgi"]
            assert sum(change.total for change in made.changes) <= before
            assert all(change.total > 0 and change.most > 0 and change.routes == 1 for change in made.changes)


class TestAbove:
    def test_who_is_above(self) -> None:
        """Only under the handlers asked for, and only above, not at the limit."""
        made = report(project(MIXIN))
        assert [(handler, count) for _, handler, count in above(made, 2, ["bridge-wsgi", "bridge-asgi"])] == [
            ("bridge-asgi", 4)
        ]
        assert above(made, 4, ["bridge-wsgi", "bridge-asgi"]) == []

"""The system checks, as `manage.py check` shows them: what sets each off, what does not, and what to write instead."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import django_report

# Each starts processes that import Django.
pytestmark = pytest.mark.timeout(240)

OURS = "bridge.django.BridgeMiddleware"
HERE = "report_project.middleware."
URLS = "report_project."
SYNC = URLS + "sync_urls"
BRIDGED = {
    "WSGI_APPLICATION": "report_project.bridge_wsgi.application",
    "ASGI_APPLICATION": "report_project.bridge_asgi.application",
}


Check = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def check() -> Iterator[Check]:
    """What the checks have to say of some settings; one process for all of the module."""
    with django_report.checker() as ask:
        yield ask


def ids(said: list[dict[str, Any]]) -> list[str]:
    return [one["id"].removeprefix("bridge.") for one in said]


def whole(said: list[dict[str, Any]]) -> str:
    return "\n".join(f"{one['text']} {one['hint']}" for one in said)


class TestAsTyped:
    def test_manage_py_check(self) -> None:
        """The id, the message and the hint; an error ends with exit code 1, a warning does not."""
        ran = django_report.manage("check", "--tag", "bridge", MIDDLEWARE=[HERE + "Gone"], ROOT_URLCONF=SYNC)
        assert ran.returncode == 1
        assert "(bridge.E006) MIDDLEWARE names 'report_project.middleware.Gone'" in ran.stderr
        assert "HINT: Write the dotted path" in ran.stderr
        ran = django_report.manage("check", "--tag", "bridge", MIDDLEWARE=[HERE + "both", OURS], ROOT_URLCONF=SYNC)
        assert ran.returncode == 0
        assert "(bridge.W003)" in ran.stderr


class TestQuiet:
    @pytest.mark.parametrize(
        "settings",
        [
            # startproject as it is, with sync views.
            {"ROOT_URLCONF": SYNC},
            {**BRIDGED, "ROOT_URLCONF": URLS + "streams_urls"},
            {**BRIDGED, "ROOT_URLCONF": URLS + "atomic_urls"},
            {"MIDDLEWARE": [OURS, HERE + "both"], "ROOT_URLCONF": URLS + "streams_urls"},
            {**BRIDGED, "BRIDGE": {"ON_LOOP": ["report_project.views.Waiting"]}, "MIDDLEWARE": [OURS]},
            {**BRIDGED, "ROOT_URLCONF": SYNC, "MIDDLEWARE": [HERE + "SyncOnly"], "ATOMIC_REQUESTS": True},
        ],
    )
    def test_nothing_to_say(self, check: Check, settings: dict[str, Any]) -> None:
        """Of projects that are well."""
        assert check(**settings) == []


class TestE001:
    def test_async_views_with_atomic_requests(self, check: Check) -> None:
        """Functions and classes; not sync ones, and not one that has said that it is none."""
        said = check(**BRIDGED, ATOMIC_REQUESTS=True, ROOT_URLCONF=URLS + "atomic_urls", MIDDLEWARE=[])
        assert ids(said) == ["E001", "E001"]
        assert "The async view report_project.views.waiting has ATOMIC_REQUESTS (of 'default')" in whole(said)
        assert "report_project.views.Waiting" in whole(said)
        assert "@transaction.non_atomic_requests" in whole(said)


class TestE002:
    @pytest.mark.parametrize(
        ("bridge", "said"),
        [
            ({"ONLOOP": []}, "BRIDGE has no key 'ONLOOP'; did you mean 'ON_LOOP'? Its keys are ON_LOOP, "),
            ({"SERVER_TIMING": "yes"}, "BRIDGE['SERVER_TIMING'] must be True or False, not 'yes'"),
            (["ON_LOOP"], "BRIDGE must be a dict such as"),
            ({"LOOP_FACTORY": "no.such.factory"}, "which cannot be imported: No module named 'no'"),
        ],
    )
    def test_wrong_settings(self, check: Check, bridge: object, said: str) -> None:
        """The same sentence as the exception at the start of a server."""
        shown = check(ROOT_URLCONF=SYNC, BRIDGE=bridge)
        assert ids(shown) == ["E002"]
        assert said in whole(shown)


class TestOnLoop:
    @pytest.mark.parametrize(
        ("path", "code", "said"),
        [
            ("report_project.views.gone", "E003", "does not exist"),
            ("no_such_module.view", "E003", "No module named 'no_such_module'"),
            ("report_project.views.plain", "E004", "a sync view"),
            ("report_project.views.sync_stream", "E004", "not an async view"),
            ("report_project.views.Plain", "E004", "a sync view"),
            ("report_project.views.Feed", "W005", "no URL pattern leads to a view with this path"),
            ("report_project.urls.waiting", "W005", "Write 'report_project.views.waiting', where it is defined."),
            ("report_project.urls.urlpatterns", "E004", "not an async view"),
        ],
    )
    def test_names_of_no_async_view(self, check: Check, path: str, code: str, said: str) -> None:
        """Which would change nothing, silently."""
        shown = check(**BRIDGED, MIDDLEWARE=[OURS], BRIDGE={"ON_LOOP": [path, "report_project.views.Waiting"]})
        assert ids(shown) == [code]
        assert said in whole(shown)


class TestMissing:
    def test_w007_a_sync_wrapper_hides_the_mark(self, check: Check) -> None:
        shown = check(**{**BRIDGED, "ROOT_URLCONF": URLS + "wrapped_urls"}, MIDDLEWARE=[OURS])
        assert ids(shown) == ["W007"]
        assert "hidden is marked with on_loop, but the view that 'hidden/' leads to is sync." in whole(shown)

    def test_a_name_reaches_through_a_decorator_without_wraps(self, check: Check) -> None:
        named = {"ON_LOOP": ["report_project.wrapped_urls.named"]}
        shown = check(**{**BRIDGED, "ROOT_URLCONF": URLS + "wrapped_urls"}, MIDDLEWARE=[OURS], BRIDGE=named)
        assert ids(shown) == ["W007"]

    def test_e004_a_name_within_a_sync_wrapper(self, check: Check) -> None:
        named = {"ON_LOOP": ["report_project.wrapped_urls.hidden"]}
        shown = check(**{**BRIDGED, "ROOT_URLCONF": URLS + "wrapped_urls"}, MIDDLEWARE=[OURS], BRIDGE=named)
        assert ids(shown) == ["E004", "W007"]

    def test_e005_no_urlconf(self, check: Check) -> None:
        """What to write; and the other checks do not stumble over it."""
        shown = check(ROOT_URLCONF="UNSET", BRIDGE={"ON_LOOP": ["report_project.views.waiting"]})
        assert sorted(ids(shown)) == ["E005", "W005"]
        assert "ROOT_URLCONF = 'mysite.urls'" in whole(shown)

    def test_e006_no_such_middleware(self, check: Check) -> None:
        """With the reason; and the others are checked all the same."""
        shown = check(MIDDLEWARE=[HERE + "Gone", HERE + "SyncOnly"], **BRIDGED)
        assert sorted(ids(shown)) == ["E006", "W002"]
        assert "MIDDLEWARE names 'report_project.middleware.Gone', which cannot be imported" in whole(shown)

    def test_no_settings_at_all(self) -> None:
        """Django's own exception, at once, where the application is made; it says what to define."""
        program = "from bridge.django import get_{0}_application; get_{0}_application()"
        for kind in ("asgi", "wsgi"):
            ran = django_report.without_settings(program.format(kind))
            assert "ImproperlyConfigured" in ran.stderr.splitlines()[-1]
            assert "DJANGO_SETTINGS_MODULE" in ran.stderr.splitlines()[-1]


class TestW001:
    def test_streams_of_the_wrong_kind(self, check: Check) -> None:
        """An async iterator behind Django's WSGI handler; a sync one in an async view behind its ASGI handler."""
        shown = check(ROOT_URLCONF=URLS + "streams_urls", MIDDLEWARE=[])
        found = dict(
            re.findall(r"The view report_project\.views\.(\w+) returns a stream with an? (\w+) iterator", whole(shown))
        )
        assert found == {
            "async_stream": "async",
            "async_stream_of_a_sync_view": "async",
            "Feed": "async",
            "sync_stream_of_an_async_view": "sync",
            "download": "sync",
        }
        assert "Behind report_project.wsgi.application, Django reads it to its end" in whole(shown)
        assert "bridge.django.get_asgi_application in place of django.core.asgi.get_asgi_application" in whole(shown)

    def test_with_an_asgi_application_that_is_said_to_be_one(self, check: Check) -> None:
        """Sync views are concerned as well; and async iterators are not, where no WSGI application is Django's."""
        shown = check(
            ROOT_URLCONF=URLS + "streams_urls",
            MIDDLEWARE=[],
            WSGI_APPLICATION=None,
            ASGI_APPLICATION="report_project.asgi.application",
        )
        found = set(re.findall(r"The view report_project\.views\.(\w+) returns", whole(shown)))
        assert found == {"sync_stream", "sync_stream_of_an_async_view", "download"}


class TestMiddleware:
    def test_w002_sync_only_around_async_views(self, check: Check) -> None:
        """One message for each; none where all views are sync."""
        shown = check(**BRIDGED, MIDDLEWARE=[OURS, HERE + "SyncOnly", HERE + "both"])
        assert ids(shown) == ["W002"]
        assert "The middleware report_project.middleware.SyncOnly is only sync, around 3 async views" in whole(shown)
        assert "sync_and_async_middleware" in whole(shown)

    def test_i001_hooks_in_threads(self, check: Check) -> None:
        """With Django's own asgi.py, or a view that runs in its chain: the hops, as they are counted in the report."""
        shown = check(MIDDLEWARE=[OURS, HERE + "Mixin", HERE + "MixinWithCall"])
        assert ids(shown) == ["I001"]
        assert (
            "cost an async request 6 hops: report_project.middleware.Mixin (process_request, process_view, "
            in whole(shown)
        )
        (one, other) = (
            pattern["hops"]["django-asgi"]
            for middleware in ([OURS, HERE + "Mixin", HERE + "MixinWithCall"], [OURS])
            for pattern in django_report.report(MIDDLEWARE=middleware)["url_patterns"]
            if pattern["route"] == "waiting/"
        )
        assert one - other == 6

    def test_i001_with_our_own_entry_point(self, check: Check) -> None:
        """Only views that run in Django's chain are concerned, and the advice is another one."""
        stack = [OURS, HERE + "Mixin"]
        assert check(**BRIDGED, MIDDLEWARE=stack, ROOT_URLCONF=URLS + "atomic_urls") == []
        shown = check(**BRIDGED, MIDDLEWARE=stack)
        assert ids(shown) == ["I001"]
        assert "remove on_loop from views that do not wait for long" in whole(shown)

    def test_w003_not_first(self, check: Check) -> None:
        """It says what it misses there."""
        shown = check(ROOT_URLCONF=SYNC, MIDDLEWARE=[HERE + "both", OURS])
        assert ids(shown) == ["W003"]
        assert "neither the streams nor the hops of report_project.middleware.both" in whole(shown)
        assert "Put 'bridge.django.BridgeMiddleware' first in MIDDLEWARE, once." in whole(shown)

    def test_a_class_made_of_ours(self, check: Check) -> None:
        """Is as good: where it stands first nothing is missing, and elsewhere it is named."""
        own = HERE + "OwnBridge"
        streams = {"ROOT_URLCONF": URLS + "streams_urls", "BRIDGE": {"SERVER_TIMING": True}}
        assert check(**streams, MIDDLEWARE=[own]) == []
        shown = check(ROOT_URLCONF=SYNC, MIDDLEWARE=[HERE + "both", own])
        assert ids(shown) == ["W003"]
        assert f"{own} is not first in MIDDLEWARE" in whole(shown)
        assert f"Put {own!r} first in MIDDLEWARE, once." in whole(shown)
        assert ids(check(ROOT_URLCONF=SYNC, MIDDLEWARE=[own, OURS])) == ["W003"]

    def test_w003_twice(self, check: Check) -> None:
        """Once is enough."""
        assert ids(check(ROOT_URLCONF=SYNC, MIDDLEWARE=[OURS, OURS])) == ["W003"]

    def test_w004_missing_around_async_views(self, check: Check) -> None:
        """Behind Django's WSGI handler, where each would make a loop."""
        shown = check(MIDDLEWARE=[])
        assert ids(shown) == ["W004"]
        assert "Behind report_project.wsgi.application, Django makes an event loop and a thread" in whole(shown)

    def test_w004_missing_for_the_header(self, check: Check) -> None:
        """SERVER_TIMING is its work."""
        shown = check(ROOT_URLCONF=SYNC, BRIDGE={"SERVER_TIMING": True})
        assert ids(shown) == ["W004"]
        assert "BRIDGE['SERVER_TIMING'] is True" in whole(shown)

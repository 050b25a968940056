"""What a project is made of: taken from its settings, its middleware and its URL patterns."""

from typing import Any

import pytest

from support import django_report

# Each starts processes that import Django.
pytestmark = pytest.mark.timeout(240)

HERE = "report_project.middleware."


def middleware(**settings: Any) -> dict[str, Any]:
    """What the report says of each, by the last part of its name."""
    return {one["path"].rpartition(".")[2]: one for one in django_report.report(**settings)["middleware"]}


class TestMiddleware:
    def test_modes_and_hooks(self) -> None:
        """Of classes and factories, with what Django's own mixin does in a thread."""
        names = ("SyncOnly", "async_only", "both", "NativeWithView", "Mixin", "MixinWithCall", "NotUsed")
        found = middleware(MIDDLEWARE=[HERE + name for name in names])
        kinds = {name: (one["kind"], one["thread_hooks"]) for name, one in found.items()}
        assert kinds == {
            "SyncOnly": ("sync", []),
            "async_only": ("async", []),
            "both": ("both", []),
            "NativeWithView": ("both", []),
            "Mixin": ("both", ["process_request", "process_view", "process_template_response"]),
            "MixinWithCall": ("both", ["process_view", "process_template_response"]),
            "NotUsed": ("both", []),
        }
        assert [name for name, one in found.items() if not one["used"]] == ["NotUsed"]

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("report_project.middleware.Gone", "'report_project.middleware.Gone', which cannot be imported"),
            ("report_project.middleware.nothing", "a factory that returned None"),
            ("report_project.middleware.Neither", "neither sync_capable nor async_capable to True"),
        ],
    )
    def test_what_no_server_could_start_with(self, path: str, said: str) -> None:
        """One line that names it, and no table."""
        ran = django_report.manage("bridge_report", MIDDLEWARE=[path])
        assert ran.returncode == 1
        assert ran.stdout == ""
        assert ran.stderr.startswith("CommandError: MIDDLEWARE names")
        assert said in ran.stderr
        assert "Traceback" not in ran.stderr


class TestRoutes:
    def test_each_pattern_is_there(self) -> None:
        """Included ones with what is before them, in Django's order; classes by their own name."""
        found = django_report.report()["url_patterns"]
        assert [(one["route"], one["name"], one["view"].rpartition(".")[2], one["kind"]) for one in found] == [
            ("plain/", "plain", "plain", "sync"),
            ("waiting/", "", "waiting", "async"),
            ("marked/", "", "marked", "async"),
            ("in/class/", "inner:class", "Plain", "sync"),
            ("^async-class/$", "", "Waiting", "async"),
        ]

    def test_on_loop(self) -> None:
        """By the decorator, or by name; a sync view never."""
        views = [f"report_project.views.{name}" for name in ("Waiting", "plain")]
        found = django_report.report(BRIDGE={"ON_LOOP": views})["url_patterns"]
        assert [one["view"].rpartition(".")[2] for one in found if one["on_loop"]] == ["marked", "Waiting"]

    def test_no_urlconf(self) -> None:
        """What to write."""
        ran = django_report.manage("bridge_report", ROOT_URLCONF="UNSET")
        assert ran.returncode == 1
        assert "ROOT_URLCONF is not set: write the module of the URL patterns" in ran.stderr

"""Which URL patterns a report is about."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.test import override_settings
from django.urls import path, re_path

from bridge.django._report.project import Route
from bridge.django._report.selection import Hidden, select
from support import django_project


class Urls:
    urlpatterns = [
        path("shop/", django_project.hello),
        path("shop/<int:number>/", django_project.hello),
        re_path(r"^old/$", django_project.hello),
        path("admin/login/", django_project.hello),
    ]


ROUTES = [
    Route(
        route=route,
        name="",
        view=django_project.hello,
        path="hello",
        is_async=False,
        on_loop=False,
        is_admin=route.startswith("admin"),
    )
    for route in ("shop/", "shop/<int:number>/", "^old/$", "admin/login/")
]


@pytest.mark.parametrize(
    ("paths", "excluded", "shown", "hidden"),
    [
        ((), (), [0, 1, 2], Hidden(admin=1)),
        (("/shop/",), (), [0, 1], Hidden(others=2)),
        (("/shop/17/",), (), [1], Hidden(others=3)),
        (("/old/",), (), [2], Hidden(others=3)),
        (("/admin/",), (), [3], Hidden(others=3)),
        (("/old", "/admin"), ("/admin/login/",), [2], Hidden(others=3)),
        ((), ("/shop/",), [2], Hidden(admin=1, others=2)),
        (("/",), (), [0, 1, 2, 3], Hidden()),
    ],
)
def test_what_is_shown(paths: Sequence[str], excluded: Sequence[str], shown: list[int], hidden: Any) -> None:
    with override_settings(ROOT_URLCONF=Urls):
        assert (tuple(ROUTES[index] for index in shown), hidden) == select(ROUTES, paths, excluded)


def test_a_path_of_nothing() -> None:
    with (
        override_settings(ROOT_URLCONF=Urls),
        pytest.raises(LookupError, match="no URL pattern begins with '/shopping'"),
    ):
        select(ROUTES, ["/shopping"], [])


def test_what_a_report_says_of_the_rest() -> None:
    assert [] == list(Hidden().lines())
    assert [
        "12 URL patterns of Django's admin are left out; --path with its prefix shows them.",
        "3 URL patterns are left out by --path or --exclude.",
    ] == list(Hidden(admin=12, others=3).lines())

"""Which URL patterns a report is about: all except those of Django's admin, unless others are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.urls import Resolver404, resolve

from bridge.django._report.project import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """How many URL patterns are left out: those of the admin, and others, by `--path` and `--exclude`."""

    admin: int = 0
    others: int = 0

    def lines(self) -> Iterator[str]:
        """What a report says of them."""
        if self.admin:
            yield f"{self.admin} URL patterns of Django's admin are left out; --path with its prefix shows them."
        if self.others:
            yield f"{self.others} URL patterns are left out by --path or --exclude."


def select(routes: Sequence[Route], paths: Sequence[str], excluded: Sequence[str]) -> tuple[tuple[Route, ...], Hidden]:
    """The routes that `paths` name, or all except the admin's if it is empty, without those that `excluded` names.

    A path names the routes that begin with it, and the one that handles a request to it. Raises `LookupError` for a
    path that does not name a route.
    """
    wanted = [_named(routes, path) for path in paths]
    unwanted = [_named(routes, path) for path in excluded]
    shown, admin, others = [], 0, 0
    for index, route in enumerate(routes):
        if any(index in each for each in unwanted) or (wanted and not any(index in each for each in wanted)):
            others += 1
        elif route.is_admin and not wanted:
            admin += 1
        else:
            shown.append(route)
    return tuple(shown), Hidden(admin=admin, others=others)


def _named(routes: Sequence[Route], path: str) -> set[int]:
    found = {index for index, route in enumerate(routes) if _text(route).startswith(path)}
    try:
        match = resolve(path)
    except Resolver404:
        match = None
    if match is not None:
        found |= {index for index, route in enumerate(routes) if route.route == match.route}
    if not found:
        raise LookupError(f"no URL pattern begins with {path!r}, and none leads there")
    return found


def _text(route: Route) -> str:
    """The route as a path. A regular expression begins with `^`, which is removed."""
    return "/" + route.route.replace("^", "")

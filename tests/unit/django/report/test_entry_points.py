"""Whose application an entry point exports, read from its source."""

from pathlib import Path
from typing import Any

import pytest
from django.test.utils import override_settings

from bridge.django._report import entry_points
from support import django_project


@pytest.fixture(scope="module", autouse=True)
def site() -> None:
    django_project.configure()


SOURCES = {
    "from django.core.asgi import get_asgi_application": "django",
    "from django.core.handlers.wsgi import WSGIHandler": "django",
    "import django.core.asgi": "django",
    "from django.core import wsgi": "django",
    "from bridge.django import get_asgi_application": "bridge",
    "from bridge import django": "bridge",
    "from django.core.asgi import get_asgi_application\nfrom bridge.django import on_loop": "bridge",
    # The adapter around Django's own handler is neither of the two whose hops are known.
    "from bridge import WsgiToAsgi\nfrom django.core.wsgi import get_wsgi_application": "other",
    "from somewhere import application": "other",
    "from django.core.wsgi import": "other",
}


class TestEntry:
    @pytest.mark.parametrize("source", list(SOURCES))
    def test_by_its_imports(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The module is not run."""
        (tmp_path / "entry_of_a_test.py").write_text(f"{source}\nraise SystemExit('it was run')\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert entry_points.entry("entry_of_a_test.application") == SOURCES[source]

    @pytest.mark.parametrize(
        "path", [None, "", "application", "no_such_module.application", "no_such.wsgi.app", "sys.x"]
    )
    def test_nothing_there(self, path: str | None) -> None:
        """No module, or none with a source."""
        assert entry_points.entry(path) is None


class TestAsgiPath:
    @pytest.mark.parametrize(
        ("settings", "path"),
        [
            ({"ASGI_APPLICATION": "a.routing.application", "WSGI_APPLICATION": "a.wsgi.app"}, "a.routing.application"),
            ({"WSGI_APPLICATION": "a.b.wsgi.application"}, "a.b.asgi.application"),
            ({"WSGI_APPLICATION": None, "ROOT_URLCONF": "a.urls"}, "a.asgi.application"),
            ({"WSGI_APPLICATION": None, "ROOT_URLCONF": "urls"}, None),
            ({"WSGI_APPLICATION": "wsgi.application", "ROOT_URLCONF": "urls"}, None),
        ],
    )
    def test_where_it_is_looked_for(self, settings: dict[str, Any], path: str | None) -> None:
        """The setting, else beside wsgi.py, else beside the URL patterns."""
        with override_settings(**settings):
            assert entry_points.asgi_path() == path

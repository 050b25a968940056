"""`manage.py bridge_report`, as it is typed."""

import json
import re

import pytest

from support import django_report

# Each starts processes that import Django.
pytestmark = pytest.mark.timeout(240)


class TestOutput:
    def test_tables(self) -> None:
        """For people, with what to change first."""
        ran = django_report.manage("bridge_report")
        assert (ran.returncode, ran.stderr) == (0, "")
        titles = re.findall(r"^[A-Z][A-Z ]{9,}", ran.stdout, re.MULTILINE)
        assert titles == ["MIDDLEWARE", "URL PATTERNS", "WHAT TO CHANGE FIRST"]

    def test_json_and_nothing_else(self) -> None:
        """Also where the limit is exceeded: what is wrong goes to stderr."""
        ran = django_report.manage("bridge_report", "--json", "--max-hops", "0")
        assert ran.returncode == 1
        assert json.loads(ran.stdout)["entry_points"] == {"asgi": "django", "wsgi": "django"}
        assert ran.stderr.startswith("CommandError: more than 0 hops a request:")

    def test_an_entry_point_of_ours(self) -> None:
        """Is seen, and no longer advised."""
        ran = django_report.report(
            WSGI_APPLICATION="report_project.bridge_wsgi.application",
            ASGI_APPLICATION="report_project.bridge_asgi.application",
        )
        assert ran["entry_points"] == {"asgi": "bridge", "wsgi": "bridge"}
        assert not any(change["change"].startswith("asgi.py") for change in ran["changes"])


class TestSelection:
    def test_some_paths(self) -> None:
        """Tables, advice and limit are about those."""
        ran = django_report.manage("bridge_report", "--path", "/marked", "--max-hops", "4")
        assert "/marked/" in ran.stdout
        assert "/waiting/" not in ran.stdout
        assert re.search(r"^\d+ URL patterns are left out by --path or --exclude\.$", ran.stdout, re.MULTILINE)
        assert ran.stderr.splitlines()[1:] == ["  28 under bridge-asgi: report_project.views.marked, 'marked/'"]

    def test_all_but_some(self) -> None:
        ran = django_report.manage("bridge_report", "--json", "--exclude", "/marked/", "--max-hops", "4")
        told = json.loads(ran.stdout)
        assert (0, "") == (ran.returncode, ran.stderr)
        assert "marked/" not in [each["route"] for each in told["url_patterns"]]
        assert {"admin": 0, "others": 1} == told["left_out"]

    def test_the_admin_is_left_out_and_a_line_says_so(self) -> None:
        apps = ["bridge.django", "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes"]
        apps += ["django.contrib.sessions", "django.contrib.messages"]
        admin = {"ROOT_URLCONF": "report_project.admin_urls", "INSTALLED_APPS": apps}
        ran = django_report.manage("bridge_report", **admin)
        assert "/shop/" in ran.stdout
        assert "/back-office/" not in ran.stdout
        assert re.search(r"^\d+ URL patterns of Django's admin are left out; --path ", ran.stdout, re.MULTILINE)
        assert "/back-office/login/" in django_report.manage("bridge_report", "--path", "/back-office/", **admin).stdout

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("--path", "/nowhere"), "no URL pattern begins with '/nowhere', and none leads there"),
            (("--exclude", "marked"), "a path starts with a slash, got 'marked'"),
        ],
    )
    def test_a_path_of_nothing_is_an_error(self, arguments: tuple[str, ...], problem: str) -> None:
        ran = django_report.manage("bridge_report", *arguments)
        assert 0 != ran.returncode
        assert problem in ran.stderr


class TestMaxHops:
    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("--max-hops", "2"), 0),
            (("--max-hops", "1"), 1),
            (("--max-hops", "0", "--handler", "bridge-wsgi"), 0),
            (("--max-hops", "31", "--handler", "django-asgi"), 1),
            (("--max-hops", "32", "--handler", "django-asgi", "--handler", "bridge-asgi"), 0),
        ],
    )
    def test_exit_code(self, arguments: tuple[str, ...], code: int) -> None:
        """1 above the limit, under the handlers asked for; those of bridge if none are."""
        ran = django_report.manage("bridge_report", *arguments, ROOT_URLCONF="report_project.sync_urls")
        assert (ran.returncode, bool(ran.stderr)) == (code, bool(code))

    def test_it_says_which(self) -> None:
        """The URL pattern, the view, the handler and the count."""
        ran = django_report.manage("bridge_report", "--max-hops", "4")
        assert ran.stderr.splitlines()[1:] == ["  28 under bridge-asgi: report_project.views.marked, 'marked/'"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--max-hops", "-1"), "expected a number of hops, 0 or more, got '-1'"),
            (("--max-hops", "few"), "expected a number of hops, 0 or more, got 'few'"),
            (("--handler", "bridge-asgi"), "use --max-hops N as well"),
            (("--max-hops", "1", "--handler", "asgi"), "invalid choice: 'asgi'"),
        ],
    )
    def test_wrong_options(self, arguments: tuple[str, ...], said: str) -> None:
        """What was seen and what is expected; no report."""
        ran = django_report.manage("bridge_report", *arguments)
        assert ran.returncode
        assert ran.stdout == ""
        assert said in ran.stderr


class TestBadSettings:
    def test_bridge(self) -> None:
        """A wrong BRIDGE is one line."""
        ran = django_report.manage("bridge_report", BRIDGE={"ON_LOOPS": []})
        assert ran.returncode == 1
        assert ran.stderr.startswith("CommandError: BRIDGE has no key 'ON_LOOPS'; did you mean 'ON_LOOP'?")

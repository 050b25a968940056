"""The fixtures of the cases: one server for all that leave it running, one of their own for those that stop it."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

import servers
from real_servers.http2_kinds import HTTP2_ASGI
from real_servers.kinds import ASGI, ASGI_APP, WSGI_APP, Kind
from real_servers.matrix import PAGE, Matrix
from servers import connection


def app_for(kind: Kind) -> str:
    return WSGI_APP if kind in (*ASGI, *HTTP2_ASGI) else ASGI_APP


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One server for all cases that leave it running."""
    with kind.run(tmp_path_factory.mktemp(str(kind)), app_for(kind)) as running:
        yield running


@pytest.fixture
def launch(kind: Kind, tmp_path: Path) -> Callable[..., servers.Running]:
    """Start a server for one test, in a directory of its own each time."""
    numbers = itertools.count()

    def start(threads: int = 4) -> servers.Running:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        return kind.run(directory, app_for(kind).replace("threads=4", f"threads={threads}"))

    return start


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to fail need not be waited for as long as what has to work."""
    if request.node.get_closest_marker("xfail") is not None:
        monkeypatch.setattr(connection, "PATIENCE", 5.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kind = getattr(getattr(item, "callspec", None), "params", {}).get("kind")
        if isinstance(kind, Kind):
            item.user_properties += [("server", str(kind)), ("case", names_of(item, kind)[0])]
            for name in names_of(item, kind):
                if name in kind.cannot:
                    item.add_marker(pytest.mark.xfail(reason=kind.cannot[name]))
                if (reason := kind.why_not_run(name)) is not None:
                    item.add_marker(pytest.mark.xfail(reason=reason, run=False))


class _ByServer(LoadScopeScheduling):  # type: ignore[misc]
    """What `--dist loadgroup` should do: pytest-xdist 3.8 writes the group where pytest 9.2 no longer looks for it."""

    def _split_scope(self, nodeid: str) -> str:
        first = re.search(r"\[(\w+)", nodeid)
        return first[1] if first else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """The cases of one kind of server go to one process, which starts it once."""
    return _ByServer(config, log) if config.getvalue("dist") == "loadgroup" else None


def names_of(item: pytest.Item, kind: Kind) -> list[str]:
    """What a kind may call a case: with and without its parameters."""
    name = getattr(item, "originalname", item.name).removeprefix("test_")
    parameters = item.callspec.id.replace(str(kind), "", 1).strip("-")  # type: ignore[attr-defined]
    return [name, f"{name}[{parameters}]"]


matrix = Matrix()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Runs in the process that sees all reports, also those of other processes."""
    facts = dict(report.user_properties)
    if "server" in facts and (report.when == "call" or report.outcome != "passed"):
        reason = getattr(report, "wasxfail", None) if report.outcome == "skipped" else None
        matrix.add(str(facts["server"]), str(facts["case"]), report.outcome, reason)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if complete and os.environ.get("BRIDGE_WRITE_MATRIX") and not hasattr(session.config, "workerinput"):
        PAGE.write_text(matrix.page(), encoding="utf-8")

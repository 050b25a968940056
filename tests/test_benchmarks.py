"""The harness of the benchmarks: who is measured on which Python, and where the figures of a run are put."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks import apps, catalogue, embedding, peers, publish, pythons, report, rounds, servers
from benchmarks.child import SampleError
from benchmarks.settings import QUICK, Settings

from support.patience import PROCESS_PATIENCE

BLOCKED = "beside-blocked"
PAGE = """\
Before.
<!-- figures: written by `make bench ARGS="--publish JSON"` -->
with one
<!-- end of the figures -->
Between.
<!-- figures without a lock: written by `make bench ARGS="--publish JSON"` -->
without one
<!-- end of the figures -->
After.
"""


@pytest.fixture(name="others", autouse=True)
def others_fixture(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The Pythons that are measured beside this one: none yet."""
    others: dict[str, str] = {}
    monkeypatch.setattr(peers, "PYTHONS", others)
    return others


def row(name: str) -> catalogue.Row:
    return next(each for each in catalogue.ROWS if each.name == name)


def facts(**more: Any) -> dict[str, Any]:
    return report.circumstances(QUICK, 1, quick=True) | more


class TestOtherPythons:
    """`bridge` on other interpreters, as peers of what runs on this one."""

    def test_an_interpreter_is_known_by_its_version(self, others: dict[str, str]) -> None:
        assert pythons.description() == pythons.add(sys.executable)
        assert {pythons.name(): sys.executable} == others

    @pytest.mark.parametrize("version", ["3.14", "3.14t"])
    def test_its_subject_is_bridge_there(self, others: dict[str, str], version: str) -> None:
        others |= {"3.14": "/python3.14", "3.14t": "/python3.14t"}

        subject = peers.on(version)
        assert (f"/python{version}", "bridge") == peers.in_process_of_its_own(subject)[:2]
        assert (f"/python{version}", "django:bridge") == peers.in_process_of_its_own(f"django:{subject}")[:2]

    def test_all_others_run_on_this_one(self, others: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        others["3.14"] = "/python3.14"
        monkeypatch.setenv(peers.AGAINST_SOURCES, "/sources")

        assert (sys.executable, "a2wsgi") == peers.in_process_of_its_own("a2wsgi")[:2]
        python, name, environment = peers.in_process_of_its_own(peers.AGAINST)
        assert (sys.executable, "bridge") == (python, name)
        assert environment["PYTHONPATH"].startswith("/sources")

    def test_one_that_is_not_there_is_named(self) -> None:
        with pytest.raises(SampleError, match="/no/python cannot be run: No such file"):
            pythons.add("/no/python")

    def test_one_without_the_packages_is_named(self, tmp_path: Path) -> None:
        bare = tmp_path / "python"
        bare.write_text("#!/bin/sh\necho 'No module named uvicorn' >&2; exit 1\n")
        bare.chmod(0o755)

        with pytest.raises(SampleError, match=f"{bare} lacks something .*\n.*No module named uvicorn"):
            pythons.add(str(bare))


class TestRounds:
    def test_others_are_measured_where_bridge_is_in_each_round(self) -> None:
        """They are columns of the same table, in the order in which they are taken."""
        order: list[str] = []

        def sample(subject: str, settings: object) -> dict[str, float]:
            order.append(subject)
            return {"rate": 100.0 if subject == "bridge" else 50.0}

        def case(*subjects: str) -> catalogue.Case:
            measure = catalogue.Measure(f"of {subjects}", subjects, sample)
            return catalogue.Case("hello", measure, "rate", "a second", more_is_better=True)

        rows = [catalogue.Row("row", "A row", (case("bridge", "waitress"), case("waitress")))]
        samples: rounds.Samples = {}
        others = [peers.on("3.14"), peers.AGAINST]
        rounds.take(rows, QUICK, 2, samples, subjects=None, others=others, progress=lambda line: None)

        taken = ["bridge", "waitress", *others]
        assert [*taken, *taken, "waitress", "waitress"] == order
        first, second = report.judge(rows, samples)[0].outcomes
        assert taken == [figure.subject for figure in first.figures]
        assert ["waitress"] == [figure.subject for figure in second.figures]
        assert 2 == first.ratio(peers.on("3.14"))
        assert "bridge, Python 3.14 " in report.table(report.judge(rows, samples))

    def test_one_that_fails_on_another_python_ends_the_run(self) -> None:
        def sample(subject: str, settings: object) -> dict[str, float]:
            if subject != "bridge":
                raise SampleError("no answer")
            return {}

        measure = catalogue.Measure("ours", ("bridge",), sample)
        rows = [catalogue.Row("row", "A row", (catalogue.Case("case", measure, "rate", "a second"),))]
        with pytest.raises(SampleError, match="no answer"):
            rounds.take(rows, QUICK, 1, {}, subjects=None, others=[peers.on("3.14")], progress=lambda line: None)


class TestPublish:
    @pytest.mark.parametrize("lock", [True, False])
    def test_a_run_without_a_lock_has_a_place_of_its_own(self, lock: bool) -> None:
        cases = row(BLOCKED).cases
        samples: rounds.Samples = {
            (cases[0].measure, subject): [{case.metric: value for case in cases}]
            for subject, value in (("bridge", 12_000.0), ("waitress", 6_000.0), (peers.on("3.11"), 3_000.0))
        }
        run = facts(lock=lock, python="CPython 3.14.9", also_on=["CPython 3.11.7"])
        saved = report.as_json(run, report.judge([row(BLOCKED)], samples))
        page = publish.put(PAGE, saved, publish.read(saved))

        assert ("with one" not in page, "without one" not in page) == (lock, not lock)
        assert page.startswith("Before.\n")
        assert "\nBetween.\n" in page
        assert page.endswith("\nAfter.\n")
        assert "CPython 3.14.9 (bridge also on CPython 3.11.7)" in page
        assert "| bridge | 12,000 | |\n| Waitress | 6,000 | 2x |\n| bridge, Python 3.11 | 3,000 | 4x |\n" in page

    def test_the_page_has_both_places(self) -> None:
        page = publish.PAGE.read_text(encoding="utf-8")
        for lock in (True, False):
            assert "Versions: " in publish.put(page, facts(lock=lock), [])

    def test_a_page_without_a_place_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no place for the figures, between <!-- figures without a lock"):
            publish.put("Nothing.\n", facts(lock=False), [])


class TestServers:
    def test_requests_at_once_share_the_processors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All 32 are answered, and what they compute is what the server has used."""
        for patience in ("_START_SECONDS", "_ANSWER_SECONDS", "_STOP_SECONDS"):
            monkeypatch.setattr(servers, patience, PROCESS_PATIENCE)
        taken = servers.all_cores(servers.WAITRESS, Settings(load_seconds=0.1))

        # The processor time of a process is counted in hundredths of a second.
        computed = servers.CONNECTIONS * apps.COMPUTE_LONG_SECONDS
        assert taken["all"] / 1000 * taken["cores"] >= 0.95 * computed
        assert taken["cores"] <= 1.05 * (os.cpu_count() or 1)


class TestApps:
    def test_what_computes_takes_the_processor_that_long(self) -> None:
        """Of the thread's own time, so that one that has to wait for a processor computes as much."""
        before = time.thread_time()
        apps.wsgi_site({"PATH_INFO": "/compute-long"}, lambda status, headers: None)

        assert time.thread_time() - before >= apps.COMPUTE_LONG_SECONDS

    @pytest.mark.parametrize("subject", ["bridge", "native"])
    def test_a_wsgi_server_runs_either_site(self, subject: str) -> None:
        code = f"""
from benchmarks import apps, harness, peers
harness.call_wsgi(peers.wsgi_site({subject!r}), harness.make_environ(), apps.HELLO)"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PROCESS_PATIENCE)


class TestEmbedding:
    """uWSGI, and Apache with mod_wsgi."""

    def test_where_they_cannot_be_installed_the_run_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        script = tmp_path / "apache.sh"
        script.write_text("#!/bin/sh\necho 'Please type: sudo apt-get install apache2' >&2; exit 1\n")
        script.chmod(0o755)
        monkeypatch.setattr(embedding, "SCRIPT", script)

        with pytest.raises(SampleError, match=f"`{script} .*a2wsgi==.*` failed.*leave out the row wsgi-servers"):
            embedding.environment()
        assert "sudo apt-get install apache2" in capfd.readouterr().err

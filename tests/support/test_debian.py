"""What the chosen tests need is installed, and nothing else; a test that needs more than it says fails."""

from pathlib import Path

import pytest

from support import debian

# Stands for the script that installs: it says what it was asked for, and makes that, unless it cannot.
SCRIPT = """\
#!/bin/sh
echo "$*" >>{directory}/asked
[ -e {directory}/refuses ] || touch {directory}/"$1"
"""


@pytest.fixture(name="machine")
def machine_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages are files in a directory."""
    script = tmp_path / "install"
    script.write_text(SCRIPT.format(directory=tmp_path))
    script.chmod(0o755)
    monkeypatch.setattr(debian, "INSTALL", script)
    monkeypatch.setattr(debian, "PLACES", {name: f"{tmp_path}/{name}" for name in ("tea", "milk")})
    monkeypatch.setattr(debian, "marked", {"tea"})
    monkeypatch.setenv("BRIDGE_INSTALL", "1")
    return tmp_path


def asked(machine: Path) -> list[str]:
    path = machine / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_what_is_missing_is_installed_once(machine: Path) -> None:
    for _ in range(2):
        debian.install(["tea", "tea"])

    assert ["tea"] == asked(machine)
    assert machine / "tea" == debian.find("tea")


def test_nothing_is_installed_that_nobody_needs(machine: Path) -> None:
    debian.install([])

    assert [] == asked(machine)


def test_without_the_verb_nothing_is_installed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRIDGE_INSTALL")
    debian.install(["tea"])

    assert [] == asked(machine)
    with pytest.raises(AssertionError, match=r"scripts/install_debian\.sh tea installs it"):
        debian.find("tea")


def test_one_who_may_not_install_is_told_by_the_test(machine: Path) -> None:
    (machine / "refuses").touch()
    debian.install(["tea"])

    assert ["tea"] == asked(machine)
    with pytest.raises(AssertionError, match="there is no tea"):
        debian.find("tea")


def test_a_test_says_what_it_needs(machine: Path) -> None:
    with pytest.raises(AssertionError, match="a test that needs milk is marked"):
        debian.find("milk")

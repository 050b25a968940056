"""What the scripts leave on a machine: no service that runs or starts at boot, and nothing after `make clean`."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

from support.paths import ROOT
from support.patience import PROCESS_PATIENCE

LOAD = [sys.executable, str(ROOT / "scripts" / "load.py")]
# Prints the processes that the script has started.
CHILDREN = "import os, psutil; print(*(each.pid for each in psutil.Process(os.getppid()).children()), flush=True)"
POLICY = "usr/sbin/policy-rc.d"
WANTS = "etc/systemd/system/multi-user.target.wants"
# Stands for apt-get: a package that starts its service where it may, and enables it in both ways.
APT_GET = """\
#!/bin/sh
[ "$1" = install ] || exit 0
root=$BRIDGE_DEBIAN_ROOT
rc=0
[ -x "$root/usr/sbin/policy-rc.d" ] && { "$root/usr/sbin/policy-rc.d" apache2 start || rc=$?; }
[ "$rc" = 101 ] || touch "$root/started"
ln -sf /lib/apache2.service "$root/etc/systemd/system/multi-user.target.wants/apache2.service"
ln -sf ../init.d/apache2 "$root/etc/rc2.d/S01apache2"
exit ${APT_STATUS:-0}
"""
# Stand for what disables a service.
HELPER = """\
#!/bin/sh
[ "$DPKG_MAINTSCRIPT_PACKAGE" ] || { echo "$0 was not called from dpkg. Exiting." >&2; exit 1; }
[ "$1" = disable ] && rm "$BRIDGE_DEBIAN_ROOT/etc/systemd/system/multi-user.target.wants/$2"
"""
UPDATE_RC = '#!/bin/sh\n[ "$2" = disable ] && rm "$BRIDGE_DEBIAN_ROOT/etc/rc2.d/S01$1"\n'


@pytest.fixture(name="system")
def system_fixture(tmp_path: Path) -> Path:
    """A system with one service of its own, and commands that stand for Debian's."""
    for directory in ("bin", "usr/sbin", WANTS, "etc/rc2.d"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / WANTS / "cron.service").symlink_to("/lib/cron.service")
    (tmp_path / "etc/rc2.d/S01cron").symlink_to("../init.d/cron")
    commands = {"apt-get": APT_GET, "deb-systemd-helper": HELPER, "update-rc.d": UPDATE_RC, "id": "#!/bin/sh\necho 0\n"}
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def install(system: Path, **environment: str) -> int:
    own = {"BRIDGE_DEBIAN_ROOT": str(system), "PATH": f"{system / 'bin'}:{os.environ['PATH']}", **environment}
    command = [str(ROOT / "scripts" / "install_debian.sh"), "apache2"]
    return subprocess.run(command, env=os.environ | own, timeout=PROCESS_PATIENCE, check=False).returncode


def enabled(system: Path) -> set[str]:
    return {path.name for directory in (WANTS, "etc/rc2.d") for path in (system / directory).iterdir()}


class TestLoad:
    """A command on a busy machine."""

    def test_the_status_is_that_of_the_command_and_nobody_stays(self) -> None:
        command = [sys.executable, "-c", f"{CHILDREN}; raise SystemExit(3)"]
        done = subprocess.run(
            [*LOAD, "--workers", "2", *command], capture_output=True, text=True, timeout=PROCESS_PATIENCE
        )

        assert (3, "") == (done.returncode, done.stderr)
        said, pids = done.stdout.splitlines()
        assert said.endswith("2 busy processes")
        assert 3 == len(pids.split()), "two that are busy, and the command"
        assert [] == [pid for pid in pids.split() if psutil.pid_exists(int(pid))]

    def test_one_that_is_killed_leaves_no_load(self) -> None:
        command = [sys.executable, "-c", f"{CHILDREN}; input()"]
        with subprocess.Popen([*LOAD, "--workers", "2", *command], stdin=PIPE, stdout=PIPE, text=True) as load:
            assert load.stdin
            assert load.stdout
            load.stdout.readline()
            workers = [psutil.Process(int(pid)) for pid in load.stdout.readline().split()[:2]]
            load.kill()
            gone, _ = psutil.wait_procs(workers, timeout=PROCESS_PATIENCE)
            load.stdin.close()

        assert set(workers) == set(gone)


class TestInstallDebian:
    def test_no_service_is_started_or_enabled(self, system: Path) -> None:
        """Those that were there stay as they were, and so does the policy of the machine: there was none."""
        assert 0 == install(system)
        assert not (system / "started").exists()
        assert {"cron.service", "S01cron"} == enabled(system)
        assert not (system / POLICY).exists()

    def test_one_that_was_enabled_before_stays_so(self, system: Path) -> None:
        (system / WANTS / "apache2.service").symlink_to("/lib/apache2.service")
        (system / "etc/rc2.d/S01apache2").symlink_to("../init.d/apache2")

        assert 0 == install(system)
        assert {"cron.service", "S01cron", "apache2.service", "S01apache2"} == enabled(system)

    def test_a_policy_of_the_machine_stays(self, system: Path) -> None:
        (system / POLICY).write_text("#!/bin/sh\nexit 101\n")
        (system / POLICY).chmod(0o755)

        assert 0 == install(system)
        assert (system / POLICY).exists()

    def test_an_installation_that_fails_leaves_no_policy(self, system: Path) -> None:
        assert 100 == install(system, APT_STATUS="100")
        assert not (system / POLICY).exists()


class TestClean:
    def test_what_apache_has_used_can_be_removed(self, tmp_path: Path) -> None:
        """The environment with the copy of the project and its database, and the lock beside it."""
        venv = tmp_path / "venv"
        (venv / "lookout" / "var").mkdir(parents=True)
        (tmp_path / "venv.lock").touch()
        script = [str(ROOT / "scripts" / "apache.sh"), "--remove"]
        subprocess.run(script, env=os.environ | {"BRIDGE_APACHE_VENV": str(venv)}, timeout=PROCESS_PATIENCE, check=True)

        assert [] == list(tmp_path.iterdir())

    def test_make_clean_does_so(self) -> None:
        told = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "scripts/apache.sh --remove" in told.stdout

"""The example `examples/django_async` under one of its servers, started as its make verbs do."""

import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.example_process import Site
from support.paths import ROOT
from support.processes import free_port

PROJECT = ROOT / "examples" / "django_async"
# What each server says when it serves, and its exit status after SIGTERM.
READY = {"uvicorn": "Uvicorn running on", "gunicorn": "Booting worker", "mod_wsgi": "resuming normal operations"}
STATUS = {"uvicorn": -signal.SIGTERM, "gunicorn": 0, "mod_wsgi": 0}
MOD_WSGI = pytest.param("mod_wsgi", marks=pytest.mark.apache)
SERVERS = ["uvicorn", "gunicorn", MOD_WSGI]
WSGI = ["gunicorn", MOD_WSGI]
WEBSOCKETS = ["uvicorn", "gunicorn"]


class Lookout:
    """A port, a database, and a server for them, which may be started again and again."""

    def __init__(self, server: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.server = server
        self.database = directory / "var" / "db.sqlite3"
        self._temporary = directory / "tmp"
        self._temporary.mkdir()
        self._temporary.chmod(0o777)
        self._environment = {"LOOKOUT_VAR": str(directory / "var"), "LOOKOUT_SITE": str(directory), **environment}
        self.port = free_port()

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[Site]:
        """The server, until the end of the block or `Site.stop`; nothing may be left of it then."""
        command = [str(PROJECT / "serve.py"), self.server, "--port", str(self.port), *arguments]
        site = Site(command, PROJECT, self._environment, temporary=self._temporary, ready=READY[self.server])
        site.url = f"http://127.0.0.1:{self.port}"
        with site:
            yield site
        assert not site.leaves_processes(), "".join(site.output)
        assert [] == list(self._temporary.iterdir())


@contextmanager
def lookout(server: str, environment: Mapping[str, str]) -> Iterator[Lookout]:
    """A place for the example, with these settings; it goes at the end."""
    # Not where tests have their files: Apache's user has to be able to read it, and pytest lets nobody else in.
    directory = Path(tempfile.mkdtemp(prefix="bridge-lookout-", dir="/var/tmp"))
    try:
        directory.chmod(0o755)
        yield Lookout(server, directory, environment)
    finally:
        shutil.rmtree(directory)

"""Apache httpd with mod_wsgi, from the virtual environment that scripts/apache.sh makes.

Apache serves as a user who may not read the directories of tests, so each server has one of its own in /var/tmp.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.pages import read_pages
from servers.process import Running, Server, free_port, grace, placed, start, threads, write_site
from support.paths import ROOT

USER = "www-data"
# What a distribution's configuration has around the part that is on the page.
CONFIGURATION = """
ServerRoot {directory}
DefaultRuntimeDir {directory}/run
PidFile {directory}/run/httpd.pid
ErrorLog {directory}/run/error.log
LogLevel warn wsgi:info
ServerName 127.0.0.1
Listen {host}:{port}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
{module}
WSGISocketPrefix {directory}/run/wsgi
StartServers 1
ServerLimit 1
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {threads}
MinSpareThreads 1
MaxSpareThreads {threads}
GracefulShutdownTimeout {grace}
Include {directory}/site.conf
"""


@contextmanager
def _apache(name: str, app: str, most: int, daemon: str = "", alias: str = "/") -> Iterator[Server]:
    environment = Path(subprocess.check_output([ROOT / "scripts" / "apache.sh"], text=True).strip())
    module = subprocess.check_output([environment / "bin" / "mod_wsgi-express", "module-config"], text=True)
    directory = Path(tempfile.mkdtemp(prefix="bridge-test-", dir="/var/tmp"))
    try:
        directory.chmod(0o755)
        write_site(directory, app)
        (directory / "support").mkdir()
        for shared in ("apps.py", "patience.py", "signals.py", "websocket_apps.py"):
            shutil.copy(ROOT / "tests" / "support" / shared, directory / "support")
        for writable in ("run", "signals", "tmp"):
            (directory / writable).chmod(0o777)
        address = ("127.0.0.1", free_port())
        site = placed(read_pages()[name].files["site.conf"], directory, address)
        site = site.replace("WSGIDaemonProcess mysite", f"WSGIDaemonProcess mysite {daemon}")
        site = site.replace("WSGIScriptAlias /", f"WSGIScriptAlias {alias}", 1)
        (directory / "site.conf").write_text(site)
        configuration = CONFIGURATION.format(
            directory=directory,
            host=address[0],
            port=address[1],
            user=f"User {USER}\nGroup {USER}" if os.getuid() == 0 else "",
            module=module,
            threads=most,
            grace=grace(),
        )
        (directory / "httpd.conf").write_text(configuration)
        command = ["/usr/sbin/apache2", "-f", str(directory / "httpd.conf"), "-DFOREGROUND"]
        # What it serves is what it can read: the copies in the environment and in the directory.
        unset, logs = {"PYTHONPATH": ""}, [directory / "run" / "error.log"]
        probe = f"{alias.rstrip('/')}/hello"
        with start(name, directory, command, address, environment=unset, more_logs=logs, probe=probe) as server:
            yield server
    finally:
        shutil.rmtree(directory)


def apache_daemon(directory: Path, app: str, daemon: str = "", alias: str = "/") -> Running:
    """`daemon` are further options of WSGIDaemonProcess; the app is below `alias`."""
    return _apache("apache_daemon", app, most=64, daemon=daemon, alias=alias)


def apache_daemon_subinterpreter(directory: Path, app: str) -> Running:
    return _apache("apache_daemon_subinterpreter", app, most=64)


def apache_embedded(directory: Path, app: str) -> Running:
    return _apache("apache_embedded", app, most=max(8, threads()))


def apache_embedded_subinterpreter(directory: Path, app: str) -> Running:
    return _apache("apache_embedded_subinterpreter", app, most=max(8, threads()))

"""The servers that embed Python, uWSGI and Apache with mod_wsgi: what they need, and how they are started.

Both have to be compiled for the Python that they embed. That is the system's own, in the virtual environment that
`scripts/apache.sh` makes, so that all they need can be installed wherever that script can.
"""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.child import SampleError

THREADS = 32
SCRIPT = Path(__file__).parent.parent / "scripts" / "apache.sh"
_PACKAGES = ("benchmarks", "bridge")
_APACHE = "/usr/sbin/apache2"
_SITE = "from benchmarks import peers\n\napplication = peers.wsgi_site({subject!r})\n"
# One daemon process runs the app. Of the rest Apache only gets as many threads as there are connections, and more.
_CONFIGURATION = """
ServerRoot {directory}
DefaultRuntimeDir {directory}/run
PidFile {directory}/run/httpd.pid
ErrorLog /dev/stderr
LogLevel warn
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
{module}
WSGISocketPrefix {directory}/run/wsgi
StartServers 1
ServerLimit 1
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 64
MaxKeepAliveRequests 0
WSGIDaemonProcess site processes=1 threads={threads} python-path={directory}
WSGIScriptAlias / {directory}/site.wsgi process-group=site application-group=%{{GLOBAL}}
<Directory {directory}>
    Require all granted
</Directory>
"""


def environment() -> Path:
    """The virtual environment with both servers and the peers, made where it is not there, which takes a minute.

    Raises `SampleError` where it cannot be made; the script has then said why, and what to type.
    """
    # pip's cache may have a uWSGI that embeds another Python of the same version.
    packages = [f"a2wsgi=={importlib.metadata.version('a2wsgi')}", "uwsgi>=2.0.31"]
    command = [str(SCRIPT), "--no-cache-dir", *packages]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SampleError(
            f"uWSGI and Apache with mod_wsgi are not installed, and `{shlex.join(command)}` failed, as it says above; "
            "do what it says, or leave out the row wsgi-servers with --only"
        )
    return Path(done.stdout.strip())


def versions() -> dict[str, str]:
    """The version of each of them, and of the Python that they embed."""
    code = """
import importlib.metadata, platform
print(importlib.metadata.version("uwsgi"), importlib.metadata.version("mod_wsgi"), platform.python_version())"""
    said = subprocess.check_output([environment() / "bin" / "python", "-c", code], text=True)
    uwsgi, mod_wsgi, python = said.split()
    return {"uWSGI": uwsgi, "mod_wsgi": mod_wsgi, "both on CPython": python}


def run_uwsgi(subject: str, port: int) -> None:
    """uWSGI in place of this process: one worker with threads."""
    uwsgi = str(environment() / "bin" / "uwsgi")
    command = [uwsgi, "--http-socket", f"127.0.0.1:{port}", "--master", "--die-on-term", "--lazy-apps"]
    command += ["--enable-threads", "--threads", str(THREADS), "--need-app", "--disable-logging"]
    # It closes each connection after its response, and does not say so.
    command += ["--add-header", "Connection: close", "--eval", _SITE.format(subject=subject)]
    paths = os.pathsep.join(str(_sources(package).parent) for package in _PACKAGES)
    os.execve(uwsgi, command, os.environ | {"PYTHONPATH": paths})


def run_mod_wsgi(subject: str, port: int) -> None:
    """Apache as a child, until SIGTERM: one daemon process with threads."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    module = subprocess.check_output([environment() / "bin" / "mod_wsgi-express", "module-config"], text=True)
    # Whom Apache serves as may read neither this checkout nor where temporary files usually are.
    with tempfile.TemporaryDirectory(prefix="bridge-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        for package in _PACKAGES:
            shutil.copytree(_sources(package), directory / package)
        (directory / "site.wsgi").write_text(_SITE.format(subject=subject))
        (directory / "run").mkdir()
        subprocess.run(["chmod", "-R", "a+rX", str(directory)], check=True)
        (directory / "run").chmod(0o777)
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        (directory / "httpd.conf").write_text(
            _CONFIGURATION.format(directory=directory, port=port, user=user, module=module, threads=THREADS)
        )
        command = [_APACHE, "-f", str(directory / "httpd.conf"), "-DFOREGROUND"]
        apache = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""})
        try:
            sys.exit(apache.wait())
        finally:
            apache.terminate()
            apache.wait()


def _sources(package: str) -> Path:
    """The directory of a package, as this process would import it: also of another commit of `bridge`."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SampleError(f"there is no package {package} here")
    return Path(found.origin).parent

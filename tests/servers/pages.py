"""The set-ups of docs/servers/: what a page tells its reader to type is what the tests run.

A code block says behind its fence which set-ups it belongs to:

    ```console server=NAME              the command line, behind "$ "
    ```ini server=NAME,NAME file=FILE   a file in the directory that the command is run in

A page speaks of `mysite.wsgi:application` or `mysite.asgi:application`, listens on 127.0.0.1:8000 or on a socket below
/run/mysite, and keeps what else it has to name below /srv/mysite.
"""

import re
import shlex
from dataclasses import dataclass, field

from support.paths import ROOT

PAGES = ROOT / "docs" / "servers"

_BLOCK = re.compile(r"^```(\w+) server=([\w,]+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class SetUp:
    """A server as its page sets it up."""

    page: str
    command: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        return shlex.split(self.command)


def read_pages() -> dict[str, SetUp]:
    """Each set-up by its name."""
    found: dict[str, SetUp] = {}
    for page in sorted(PAGES.glob("*.md")):
        for language, names, file, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for name in names.split(","):
                setup = found.setdefault(name, SetUp(page.name))
                assert setup.page == page.name, f"{name} is on {setup.page} and on {page.name}"
                if file:
                    setup.files[file] = text
                else:
                    assert language == "console", f"{page.name}: {name}: a command is in a console block"
                    assert not setup.command, f"{page.name}: two command lines for {name}"
                    setup.command = _one_command(text)
    return found


def _one_command(text: str) -> str:
    lines = text.replace("\\\n", " ").splitlines()
    assert len(lines) == 1, f"one command in a block: {text}"
    assert lines[0].startswith("$ "), f"a command begins with '$ ': {text}"
    return lines[0].removeprefix("$ ")

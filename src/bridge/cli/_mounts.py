"""`bridge mounts`: what is mounted where, as a table."""

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from bridge._tables import aligned
from bridge.cli._end import put
from bridge.cli._load import describe, load
from bridge.mounts import AsgiMounts, Mount, Mounts, WsgiMounts

_HEAD: Final = ("prefix", "app", "interface", "on an ASGI server", "on a WSGI server")


def show_mounts(spec: str) -> int:
    """Print the table. Returns the exit status."""
    site, interface = load(spec)
    if not isinstance(site, Mounts | AsgiMounts | WsgiMounts):
        raise SystemExit(f"bridge: expected a bridge.Mounts, but {spec} is {describe(site)}, which speaks {interface}")
    put(sys.stdout, "".join(f"{line}\n" for line in aligned([_HEAD, *_rows(site.mounts, "")])))
    return 0


def _rows(mounts: Iterable[Mount], above: str) -> Iterator[tuple[str, ...]]:
    for mount in sorted(mounts, key=lambda mount: mount.prefix):
        prefix = above + mount.prefix
        runs = ("natively" if side is not None else "adapted" for side in (mount.asgi, mount.wsgi))
        yield (prefix or "/", describe(mount.app), mount.interface, *runs)
        if isinstance(mount.app, Mounts | AsgiMounts | WsgiMounts):
            yield from _rows(mount.app.mounts, prefix)

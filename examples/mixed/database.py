"""The one database of both applications: SQLite, with a connection for each operation."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VAR = Path(os.environ.get("SHED_VAR", Path(__file__).parent / "var"))
TOOLS = ("Hammer drill", "Hedge trimmer", "Ladder, 6 m", "Tile cutter", "Wallpaper steamer")


@contextmanager
def connection() -> Iterator[sqlite3.Connection]:
    """A connection whose changes are committed at the end."""
    opened = sqlite3.connect(VAR / "shed.sqlite3", timeout=10)
    opened.row_factory = sqlite3.Row
    try:
        with opened:
            yield opened
    finally:
        opened.close()


def prepare() -> None:
    """Make the table and fill it, unless that was done before."""
    VAR.mkdir(exist_ok=True)
    with connection() as db:
        db.execute("CREATE TABLE IF NOT EXISTS tool (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, borrower TEXT)")
        db.executemany("INSERT OR IGNORE INTO tool (name) VALUES (?)", [(name,) for name in TOOLS])


def tools() -> list[dict[str, object]]:
    """All tools, and who has each of them."""
    with connection() as db:
        return [dict(row) for row in db.execute("SELECT id, name, borrower FROM tool ORDER BY name")]


def lend(tool: int, borrower: str) -> bool:
    """Lend a tool. Returns False if it is not there."""
    with connection() as db:
        done = db.execute("UPDATE tool SET borrower = ? WHERE id = ? AND borrower IS NULL", (borrower, tool))
        return done.rowcount == 1


def take_back(tool: int, borrower: str) -> bool:
    """Take a tool back. Returns False if `borrower` does not have it."""
    with connection() as db:
        done = db.execute("UPDATE tool SET borrower = NULL WHERE id = ? AND borrower = ?", (tool, borrower))
        return done.rowcount == 1

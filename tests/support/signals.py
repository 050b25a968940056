"""What a test and its server, which is another process, tell each other."""

import asyncio
import time
from pathlib import Path

from support.patience import PATIENCE


class Signals:
    """What test and server tell each other: named lines of text in a directory."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def tell(self, name: str, line: object = "") -> None:
        """Append a line; one write, so that readers never see half of it."""
        with (self.directory / f"{name}.signal").open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())

    def told(self, name: str) -> list[str]:
        """The lines so far."""
        path = self.directory / f"{name}.signal"
        return path.read_text().splitlines() if path.exists() else []

    def wait(self, name: str, patience: float = PATIENCE) -> None:
        """Return once `name` has been told."""
        deadline = time.monotonic() + patience
        while not self.told(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody told {name}")
            time.sleep(0.005)

    async def waited(self, name: str) -> None:
        """`wait`, on a loop."""
        async with asyncio.timeout(PATIENCE):
            while not self.told(name):
                await asyncio.sleep(0.005)

"""Takes the pictures of the examples that the documentation shows, docs/images/screenshot-*.png: run it when they look
otherwise.

    .venv/bin/python scripts/example_pictures.py
"""

import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from support.browser import Browser  # noqa: E402  # needs the path
from support.example_process import Site  # noqa: E402

EXAMPLES = {"django_sync": [], "django_async": ["uvicorn"], "mixed": []}
WIDTH, HEIGHT = 1000, 640  # CSS pixels


def main() -> None:
    """Serve each example with a database of its own, and take its first page."""
    for name, words in EXAMPLES.items():
        directory = ROOT / "examples" / name
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            environment = {"PYTHONPATH": str(ROOT / "src")}
            command = [str(directory / "serve.py"), *words, "--port", port]
            with (
                Site(command, directory, environment, temporary=Path(temporary)) as site,
                Browser(Path(temporary)) as browser,
            ):
                browser.open(site.url, WIDTH, HEIGHT)
                browser.run("document.fonts.ready.then(() => true)")
                browser.screenshot(ROOT / "docs" / "images" / f"screenshot-{name}.png")
                print(f"docs/images/screenshot-{name}.png written")


if __name__ == "__main__":
    main()

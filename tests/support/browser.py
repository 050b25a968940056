"""A real browser for the tests: headless Chromium, driven over the Chrome DevTools Protocol.

The protocol runs over a pair of pipes (`--remote-debugging-pipe`: each message is JSON and ends with a zero byte), so
that there is no port to be found, and a browser whose test has died ends with its pipe.
"""

import base64
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from support import debian
from support.patience import PROCESS_PATIENCE

FLAGS: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
    "about:blank",
)
# What the browser wants at 3 and 4 stands at the numbers that come first.
AT_3_AND_4: Final = 'in=$1 out=$2; shift 2; exec "$@" 3</dev/fd/"$in" 4>/dev/fd/"$out"'

# A promise of the value of an expression, once it is there and true.
SOON: Final = """new Promise((resolve) => {
    const look = () => { const value = (%s); if (value) { observer.disconnect(); resolve(value); } };
    const observer = new MutationObserver(look);
    observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
    look();
})"""

TOO_WIDE: Final = """(() => {
    const wide = document.documentElement.clientWidth, scrolls = (one) => {
        for (let up = one; up; up = up.parentElement)
            if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) return true;
    };
    const found = [...document.body.querySelectorAll('*')].filter(
        (one) => one.getBoundingClientRect().right > wide + 0.5 && !scrolls(one));
    const page = document.documentElement.scrollWidth;
    const whole = page > wide ? [`the page: ${page} of ${wide}`] : [];
    return [...whole, ...found.map((one) => one.outerHTML.slice(0, 80))];
})()"""
FAINT: Final = """(() => {
    const parts = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const part = (one) => one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.map(part);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (one) => {
        for (let up = one; up; up = up.parentElement) {
            const colour = parts(getComputedStyle(up).backgroundColor);
            if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
        }
        return [255, 255, 255];
    };
    const texts = [...document.body.querySelectorAll('*')].filter((one) => one.checkVisibility()
        && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
    return texts.map((one) => {
        const own = parts(getComputedStyle(one).color).slice(0, 3);
        const [a, b] = [light(own), light(behind(one))].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), one.textContent.trim().slice(0, 40)];
    }).filter(([ratio]) => ratio < 4.5).map(([ratio, text]) => `${ratio.toFixed(2)}: ${text}`);
})()"""
UNNAMED: Final = """(() => {
    const named = (one) => one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim() || one.title;
    const found = [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')].filter(
        (one) => !named(one));
    found.push(...[...document.images].filter((one) => !one.hasAttribute('alt')));
    return [...(document.documentElement.lang ? [] : ['no lang']), ...found.map((one) => one.outerHTML.slice(0, 80))];
})()"""


class Browser:
    """One browser with one page. `complaints` is what the page has thrown or the browser has logged as an error."""

    def __init__(self, directory: Path) -> None:
        program = str(debian.find("chromium-headless-shell"))
        self.complaints: list[str] = []
        self._log = directory / "browser.log"
        self._events: list[dict[str, Any]] = []
        self._received = b""
        self._number = 0
        ours = [*os.pipe()], [*os.pipe()]
        (theirs_in, self._out), (self._in, theirs_out) = ours
        # Beyond the numbers that the shell assigns.
        passed = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
        flags = [*FLAGS, f"--user-data-dir={directory / 'profile'}"]
        if not os.geteuid():
            flags.insert(0, "--no-sandbox")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", AT_3_AND_4, "sh", *map(str, passed), program, *flags],
                pass_fds=passed,
                env=os.environ | {"TMPDIR": str(directory), "HOME": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for end in (theirs_in, theirs_out, *passed):
            os.close(end)
        self._session: str | None = None

    def __enter__(self) -> "Browser":
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._out)
        try:
            self._process.wait(PROCESS_PATIENCE)
        finally:
            os.close(self._in)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it may have left in its session
            self._process.wait()

    # -- the page

    def open(self, url: str, width: int = 1200, height: int = 760, *, phone: bool = False) -> None:
        """Show a page, and wait until all of it is there. A phone has more pixels, and no mouse."""
        scale = 1.5 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.loading(lambda: self.call("Page.navigate", url=url))

    def loading(self, act: Callable[[], object]) -> None:
        """Do something that makes the browser load a page, and wait until all of it is there."""
        self._events.clear()
        act()
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive(time.monotonic() + PROCESS_PATIENCE)

    def prefer(self, scheme: str) -> None:
        """Have pages that are opened from now on be asked for in "light" or "dark" colours."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="screen", features=features)

    def too_wide(self) -> list[str]:
        """What makes the page wider than its window; not what is in an element that scrolls by itself."""
        found: list[str] = self.run(TOO_WIDE)
        return found

    def faint(self) -> list[str]:
        """Texts whose contrast is below 4.5 (WCAG 2, 1.4.3), with what it is."""
        found: list[str] = self.run(FAINT)
        return found

    def unnamed(self) -> list[str]:
        """Fields, buttons, links and pictures without a name for those who cannot see them; a page without language."""
        found: list[str] = self.run(UNNAMED)
        return found

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it resolves to. Fails where it throws."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, f"{script}: {done['exceptionDetails']}"
        return done["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression, once it is true; looks again at each change of the page."""
        return self.run(SOON % script)

    def screenshot(self, path: Path) -> None:
        """A picture of what one sees, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    # -- the protocol

    def call(self, method: str, **params: Any) -> Any:
        """Send a command, and wait for its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            command["sessionId"] = self._session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + PROCESS_PATIENCE
        while True:
            message = self._receive(deadline)
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            readable, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._in, 2**16) if readable else b""
            assert data, f"the browser does not answer:\n{self._log.read_text(errors='replace')}"
            self._received += data
        first, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self._events.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, params: Any) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

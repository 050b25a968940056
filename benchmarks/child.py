"""One sample in a process of its own: `python -m benchmarks.child MEASURE SUBJECT SETTINGS` prints it as JSON."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable

from benchmarks import backpressure, django_in_process, footprint, in_process, mixing, peers, streams
from benchmarks.settings import Settings

MEASURES: dict[str, Callable[[str, Settings], dict[str, float]]] = {
    "post-32": in_process.post_32,
    "post-1": in_process.post_1,
    "call-1": in_process.call_1,
    "call-2": in_process.call_2,
    "call-8": in_process.call_8,
    "callers": in_process.callers,
    "bodies": in_process.bodies,
    "headers": in_process.headers,
    "idle": footprint.idle,
    "waiting": footprint.waiting,
    "streaming": footprint.streaming,
    "blocking": in_process.blocking,
    "computing": in_process.computing,
    "stream-wsgi-to-asgi": streams.wsgi_to_asgi,
    "stream-asgi-to-wsgi": streams.asgi_to_wsgi,
    "ahead-wsgi-to-asgi": backpressure.wsgi_to_asgi,
    "ahead-asgi-to-wsgi": backpressure.asgi_to_wsgi,
    "django-in-process": django_in_process.requests,
    "mounts-asgi": mixing.asgi_mounts,
    "mounts-wsgi": mixing.wsgi_mounts,
    "sandwich": mixing.sandwich,
}
TIMEOUT_SECONDS = 60.0


class SampleError(RuntimeError):
    """A sample could not be taken: a wrong answer, a crash, or no end within the time allowed."""


def run(measure: str, subject: str, settings: Settings) -> dict[str, float]:
    """The metrics of one sample, taken in a fresh Python process."""
    python, name, environment = peers.in_process_of_its_own(subject)
    command = [python, "-m", "benchmarks.child", measure, name, json.dumps(dataclasses.asdict(settings))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise SampleError(f"{measure} of {subject}: no end within {TIMEOUT_SECONDS:g} seconds") from error
    if done.returncode != 0:
        raise SampleError(f"{measure} of {subject} failed:\n{done.stderr.strip()}")
    metrics: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return metrics


if __name__ == "__main__":
    _measure, _subject, _settings = sys.argv[1:]
    print(json.dumps(MEASURES[_measure](_subject, Settings(**json.loads(_settings)))))

"""What the processes of a server hold, and whether that grows."""

import json
import statistics
import time
from typing import NamedTuple

from servers import MIB, Server


class Held(NamedTuple):
    """What the processes of a server hold, all together; `objects` are those that the garbage collector knows."""

    processes: int
    threads: int
    descriptors: int
    tasks: int
    objects: int
    mebibytes: float


# How much more of each there may be at the end than in the middle: threads that were needed late, connections that a
# server has not closed yet. One object left behind by one request of twenty is more than that within a minute. Memory
# has a wider bound, since allocators keep what is free in pieces.
SLACK = {"processes": 0, "threads": 3, "descriptors": 4, "tasks": 0, "objects": 40, "mebibytes": 8}
OBJECTS_OF_A_THREAD = 30


def held(server: Server) -> Held:
    family = server.family()
    counts = census(server)
    return Held(
        len(family),
        sum(member.num_threads() for member in family),
        sum(member.num_fds() for member in family),
        sum(tasks for tasks, _ in counts.values()),
        sum(objects for _, objects in counts.values()),
        round(sum(member.memory_info().rss for member in family) / MIB, 1),
    )


def census(server: Server) -> dict[int, tuple[int, int]]:
    """The tasks and objects in each process that serves, as it says itself; the least that it says counts."""
    wanted = {int(line.split()[1]) for line in server.signals.told("lifespan") if line.startswith("startup")}
    found: dict[int, tuple[int, int]] = {}
    for _ in range(200):
        status, body = server.get("/census")
        assert 200 == status
        count = json.loads(body)
        now = (count["tasks"], count["objects"])
        found[count["pid"]] = min(found.get(count["pid"], now), now)
        if wanted <= found.keys():
            return found
    raise AssertionError(f"{server.name}: of {wanted}, only {found.keys()} have answered")


def at_rest(server: Server) -> Held:
    """What is held once that does not become less any more."""
    latest = held(server)
    for _ in range(40):
        time.sleep(0.5)
        before, latest = latest, held(server)
        if before[:4] == latest[:4]:
            break
    return latest


def grown(seen: list[Held]) -> dict[str, float]:
    """What has become more since the middle of the run, by more than its slack: from quarter to quarter."""
    quarter = len(seen) // 4
    middle, last = seen[quarter : 2 * quarter], seen[-quarter:]
    more = {
        name: statistics.median(getattr(each, name) for each in last)
        - statistics.median(getattr(each, name) for each in middle)
        for name in Held._fields
    }
    more["objects"] -= OBJECTS_OF_A_THREAD * max(more["threads"], 0)
    return {name: by for name, by in more.items() if by > SLACK[name]}

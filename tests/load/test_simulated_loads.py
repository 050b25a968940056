"""What the pool makes of loads of several kinds, on a simulated machine: who changes a constant sees here what it does.

The bounds are not targets: they are a little above what the policy reaches, and far from what it did before.
"""

from collections.abc import Callable

import pytest

from support import simulation
from support.simulation import Load, Machine

SECONDS = 1.0
SHORT = 30e-6


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def hello(clients: int = 8) -> Load:
    return Load(clients, computes=SHORT)


def one_path(_number: int) -> str:
    return "/slow"


def many_paths(number: int) -> str:
    return f"/slow/{number}"


def rate(load: Load) -> float:
    return len(load.took) / SECONDS


def wakes(machine: Machine, *loads: Load) -> float:
    return machine.wakes / sum(len(load.took) for load in loads)


def test_one_client(machine: Machine) -> None:
    """One wake-up of the one thread a request."""
    load = hello(1)
    machine.run(load, seconds=SECONDS)

    assert machine.started == 1
    assert wakes(machine, load) <= 1.01
    assert load.percentile(0.99) < 0.25


def test_short_requests(machine: Machine) -> None:
    """One thread serves all that is there, and sleeps once for eight."""
    load = hello()
    machine.run(load, seconds=SECONDS)

    assert machine.started == 1
    assert wakes(machine, load) < 0.15
    assert rate(load) > 11_000


@pytest.mark.parametrize(
    ("path", "least", "most_milliseconds"), [(one_path, 11_000, 1.0), (many_paths, 9_500, 3.0)], ids=["known", "new"]
)
def test_beside_requests_that_sleep(
    machine: Machine, path: Callable[[int], str], least: float, most_milliseconds: float
) -> None:
    """Threads that sleep cost the others little: before paths were known for it, 7,100 a second."""
    load, sleeping = hello(), Load(16, computes=SHORT, blocks=0.1, path=path)
    machine.run(load, sleeping, seconds=SECONDS)

    assert rate(load) > least
    assert load.percentile(0.99) < most_milliseconds
    assert rate(sleeping) > 150
    assert sleeping.percentile(0.5) < 105


def test_beside_requests_that_compute(machine: Machine) -> None:
    """The lock is what both wait for."""
    load, computing = hello(), Load(4, computes=0.003, path=one_path)
    machine.run(load, computing, seconds=SECONDS)

    assert load.percentile(0.99) < 15
    assert rate(load) > 600
    assert rate(computing) > 300
    assert wakes(machine, load, computing) < 0.6


@pytest.mark.parametrize("served", [35e-6, 300e-6])
@pytest.mark.parametrize("blocks", [0.002, 0.02])
def test_a_site_that_computes_again_after_it_has_waited(
    machine: Machine, served: float, blocks: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django, say, whose database was slow for a while. Then one thread serves all, as before: with a thread for each
    request they all wait for the lock, which looks as if they blocked, and a third of the processor goes into switches.
    """
    monkeypatch.setattr(simulation, "SUBMIT_SECONDS", served)
    load = Load(32, computes=0.0005, blocks=blocks)
    before: list[int] = []
    machine.at(0.3, lambda: setattr(load, "blocks", 0.0))
    machine.at(0.6, lambda: before.extend([machine.wakes, len(load.took)]))
    machine.run(load, seconds=SECONDS)

    assert machine.started >= 30
    assert machine.wakes - before[0] < 0.15 * (len(load.took) - before[1])


def test_all_compute_without_the_lock(machine: Machine) -> None:
    """Code in C that releases it (compression, pictures, passwords) uses as many processors as there are."""
    load = Load(8, computes=SHORT, computes_freely=0.01)
    machine.run(load, seconds=SECONDS)

    assert rate(load) > 0.9 * 8 / 0.0102


def test_all_sleep(machine: Machine) -> None:
    """As many threads as there are requests, and soon."""
    load = Load(32, computes=SHORT, blocks=0.05)
    machine.run(load, seconds=SECONDS)

    assert load.percentile(0.5) < 51
    assert max(load.took) < 0.06


def test_more_that_sleep_than_threads(machine: Machine) -> None:
    """All forty threads are used."""
    load = Load(100, computes=SHORT, blocks=0.005)
    machine.run(load, seconds=SECONDS)

    assert machine.started == 40
    assert rate(load) > 0.9 * 40 / 0.0051


def test_each_waits_for_a_moment(machine: Machine) -> None:
    """For a database, say: half a millisecond each, which is too short to be noticed in any one of them."""
    load = Load(32, computes=2 * SHORT, blocks=0.0005)
    machine.run(load, seconds=SECONDS)

    assert rate(load) > 8000
    assert load.percentile(0.99) < 10


def test_a_site(machine: Machine) -> None:
    """Most wait for a moment, some for long, on paths of which each is seen now and then."""
    pages = Load(16, computes=2 * SHORT, blocks=0.0003)
    reports = Load(8, computes=0.0002, blocks=0.02, path=lambda number: f"/reports/{number % 50}")
    machine.run(pages, reports, seconds=SECONDS)

    assert rate(pages) > 7300
    assert pages.percentile(0.95) < 3
    assert reports.percentile(0.95) < 25


@pytest.mark.parametrize("blocks", [0.0, 0.02])
def test_bursts(machine: Machine, blocks: float) -> None:
    """Each two hundred milliseconds, forty requests at once, of which each client then waits for the next."""
    load = Load(40, computes=SHORT, blocks=blocks, pause=0.2)
    machine.run(load, seconds=SECONDS)

    assert max(load.took) < blocks + 0.015
    assert load.percentile(0.5) < 1000 * blocks + 5

"""What tests that run beside each other must not share."""

from concurrent.futures import ThreadPoolExecutor

from support.processes import free_port


def test_no_port_is_given_twice() -> None:
    """Nobody takes the ports here: each of them could be had again. Each call opens the counter, as a process would."""
    with ThreadPoolExecutor(8) as callers:
        given = list(callers.map(lambda _: free_port(), range(1_000)))
    assert 1_000 == len(set(given))

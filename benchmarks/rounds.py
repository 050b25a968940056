"""Takes the samples: every subject once in each round, so that a busy moment of the machine hits all alike."""

from collections.abc import Callable, Sequence

from benchmarks.catalogue import Measure, Row, Sample
from benchmarks.settings import Settings

Samples = dict[tuple[Measure, str], list[Sample]]


def take(
    rows: Sequence[Row],
    settings: Settings,
    rounds: int,
    samples: Samples,
    *,
    subjects: Sequence[str] | None,
    progress: Callable[[str], None],
) -> None:
    """Add the samples of each measure and subject in the order they are taken; only of `subjects` where given.

    The caller owns `samples`, so that it has what was taken before a sample failed.
    """
    for row in rows:
        for measure in row.measures:
            chosen = [each for each in measure.subjects if subjects is None or each in subjects]
            count = min(rounds, measure.most_rounds)
            for number in range(1, count + 1):
                for subject in chosen:
                    progress(f"{measure.name}, round {number} of {count}: {subject}")
                    samples.setdefault((measure, subject), []).append(measure.sample(subject, settings))

"""Takes the samples: every subject once in each round, so that a busy moment of the machine hits all alike."""

from collections.abc import Callable, Sequence

from benchmarks import peers
from benchmarks.catalogue import Measure, Row, Sample
from benchmarks.child import SampleError
from benchmarks.settings import Settings

Samples = dict[tuple[Measure, str], list[Sample]]


def take(
    rows: Sequence[Row],
    settings: Settings,
    rounds: int,
    samples: Samples,
    *,
    subjects: Sequence[str] | None,
    others: Sequence[str],
    progress: Callable[[str], None],
) -> None:
    """Add the samples of each measure and subject in the order they are taken; only of `subjects` where given.

    Wherever `bridge` is measured, the `others` are too: it on other Pythons, and another commit of it, if that can do
    what is measured.

    The caller owns `samples`, so that it has what was taken before a sample failed.
    """
    for row in rows:
        for measure in row.measures:
            chosen = [each for each in measure.subjects if subjects is None or each in subjects]
            if peers.BRIDGE in measure.subjects:
                chosen += others
            count = min(rounds, measure.most_rounds)
            for number in range(1, count + 1):
                for subject in tuple(chosen):
                    progress(f"{measure.name}, round {number} of {count}: {subject}")
                    try:
                        sample = measure.sample(subject, settings)
                    except SampleError as error:
                        if subject != peers.AGAINST:
                            raise
                        progress(f"the other commit cannot do that: {error}")
                        chosen.remove(subject)
                        continue
                    samples.setdefault((measure, subject), []).append(sample)

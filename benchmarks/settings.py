"""How much work one sample does. Two sets: the whole run, and `--quick`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes and durations of one sample; `seconds` are of measuring, without start and warm-up."""

    seconds: float = 0.5
    chunks: int = 10_000
    load_seconds: float = 3.0
    transfer_bytes: int = 2**30


FULL = Settings()
QUICK = Settings(seconds=0.2, chunks=2_000, load_seconds=1.0, transfer_bytes=2**27)

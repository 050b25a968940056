"""What apps fail with."""


class AppError(Exception):
    """What the apps of the tests fail with, where it has to be told from all else."""

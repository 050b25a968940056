"""The command `bridge`."""

from bridge.cli._main import run

__all__ = ["run"]

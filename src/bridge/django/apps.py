"""`"bridge.django"` in `settings.INSTALLED_APPS`: the command `bridge_report` and the system checks."""

from typing import Any

from django.apps import AppConfig
from django.core.checks import register

from bridge.django._report import checks


class BridgeConfig(AppConfig):
    """The app `bridge`. It has no models."""

    name: str = "bridge.django"
    label: str = "bridge"
    verbose_name: Any = "bridge"  # for Django a str, or a promise of one

    def ready(self) -> None:
        """Register the checks, under the tag `bridge`."""
        for check in checks.CHECKS:
            register(check, "bridge")

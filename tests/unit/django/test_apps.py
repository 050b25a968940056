"""`"bridge.django"` in `INSTALLED_APPS`."""

import pytest

from support import django_report

# Each starts processes that import Django.
pytestmark = pytest.mark.timeout(240)


class TestApp:
    def test_it_brings_the_command_and_the_checks(self) -> None:
        """Under the label and the tag `bridge`."""
        asked = "from django.apps import apps; from django.core.checks.registry import registry; "
        shown = "print(apps.get_app_config('bridge').name, 'bridge' in registry.tags_available())"
        assert django_report.manage("shell", "-v0", "-c", asked + shown).stdout.split() == ["bridge.django", "True"]
        assert "bridge_report" in django_report.manage("help", "--commands").stdout.split()

    def test_it_has_no_models_to_migrate(self) -> None:
        """Nothing to make, nothing to run."""
        ran = django_report.manage("makemigrations", "--check", "bridge")
        assert (ran.returncode, ran.stdout.strip()) == (0, "No changes detected in app 'bridge'")

"""Runs the checks of the tag `bridge` for one JSON object of settings a line, and answers with a line of JSON each."""

import json
import sys

import django
from django.conf import settings
from django.core import checks
from django.db import connections
from django.test.utils import override_settings
from django.urls import clear_url_caches


def messages(given):
    clear_url_caches()
    # DATABASES cannot be overridden once Django is set up.
    connections.settings["default"]["ATOMIC_REQUESTS"] = given.pop("ATOMIC_REQUESTS", False)
    with override_settings(**given):
        for name in [name for name, value in given.items() if value == "UNSET"]:
            delattr(settings, name)
        return [
            {"id": one.id, "level": one.level, "text": one.msg, "hint": one.hint}
            for one in checks.run_checks(tags=["bridge"])
        ]


if __name__ == "__main__":
    django.setup()
    for line in sys.stdin:
        print(json.dumps(messages(json.loads(line))), flush=True)

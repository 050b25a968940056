"""Async tests of Django's `TestCase`: a request is in the test's own transaction, and in the test's own thread."""

import json

import pytest

from support.python_process import run_script

SCRIPT = """
import json, sys, threading
from unittest import TestResult, defaultTestLoader

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True, LOGGING_CONFIG=None,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], MIDDLEWARE=MIDDLEWARE,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

import httpx
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import JsonResponse
from django.test import TestCase
from django.test.runner import DiscoverRunner
from django.urls import path
from bridge.django import get_asgi_application, on_loop

def answer(names):
    return JsonResponse({"users": names, "thread": threading.get_ident()})

def sync_view(request):
    return answer([user.username for user in User.objects.all()])

async def async_view(request):
    return answer([user.username async for user in User.objects.all()])

@on_loop
async def view_on_the_loop(request):
    return answer([user.username async for user in User.objects.all()])

def adds(request):
    User.objects.create(username="two")
    return answer([])

VIEWS = (sync_view, async_view, view_on_the_loop)
urlpatterns = [path(view.__name__, view) for view in (*VIEWS, adds)]
seen = {"users": [], "threads": []}

async def ask(*views):
    transport = httpx.ASGITransport(get_asgi_application())
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return [(await client.get("/" + view.__name__)).json() for view in views]

class Test(TestCase):
    async def test_a_rows(self):
        await User.objects.acreate(username="one")
        seen["users"] += [reply["users"] for reply in await ask(*VIEWS, adds)]
        seen["users"].append([user.username async for user in User.objects.order_by("pk")])

    def test_b_thread(self):
        here = threading.get_ident()
        seen["users"].append([user.username for user in User.objects.all()])
        for _ in range(2):
            [reply] = async_to_sync(ask)(sync_view)
            seen["threads"].append(reply["thread"] == here)

runner = DiscoverRunner(verbosity=0)
runner.setup_test_environment()
databases = runner.setup_databases()
result = TestResult()
defaultTestLoader.loadTestsFromTestCase(Test).run(result)
runner.teardown_databases(databases)
seen["errors"] = [text for _, text in (*result.errors, *result.failures)]
print(json.dumps(seen))
"""


@pytest.mark.parametrize(
    "middleware", [[], ["django.middleware.common.CommonMiddleware"]], ids=["no middleware", "middleware"]
)
def test_a_request_is_part_of_the_test(middleware: list[str]) -> None:
    """Its views of each kind see the test's rows, the test sees theirs, and the next test sees neither."""
    [printed] = run_script(SCRIPT.replace("MIDDLEWARE=MIDDLEWARE", f"MIDDLEWARE={middleware}"))
    seen = json.loads(printed)

    assert seen == {
        "users": [["one"], ["one"], ["one"], [], ["one", "two"], []],
        "threads": [True, True],
        "errors": [],
    }

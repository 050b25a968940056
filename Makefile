# Each verb makes .venv and installs what it needs. CONTRIBUTING.md has a line on each.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
UNDER ?= uvicorn
MINUTES ?= 3
RUNS ?= 3
SITE ?= site
SECONDS ?= 60
SESSIONS ?=
DJANGO ?= >=6.0,<7.0
DELAYS ?= start,job,finish,post
ARGS ?=

.PHONY: help run run-async run-gunicorn run-mod-wsgi run-chat run-mixed test test-django test-django-6 test-agents test-hosts test-servers test-pythons test-under-load test-delayed stress soak chaos fuzz check dist bench bench-no-lock docs screenshots site clean
.NOTPARALLEL:

run:  ## The example: a legacy Django project on Uvicorn. make run PORT=8001
	@scripts/setup.sh "$(PYTHON)" example
	@exec .venv/bin/python examples/django_sync/serve.py --host "$(HOST)" --port "$(PORT)"

run-async:  ## The example of an async Django project on Uvicorn.
	@scripts/setup.sh "$(PYTHON)" example-async
	@exec .venv/bin/python examples/django_async/serve.py uvicorn --host "$(HOST)" --port "$(PORT)"

run-gunicorn:  ## The same under Gunicorn.
	@scripts/setup.sh "$(PYTHON)" example-async
	@exec .venv/bin/python examples/django_async/serve.py gunicorn --host "$(HOST)" --port "$(PORT)"

run-mod-wsgi:  ## The same under Apache with mod_wsgi, in a virtual environment that Apache's user can read.
	@exec "$(PYTHON)" examples/django_async/serve.py mod_wsgi --host "$(HOST)" --port "$(PORT)"

run-chat:  ## The chat in it. make run-chat UNDER=gunicorn, or UNDER=mod_wsgi
	@case "$(UNDER)" in \
	uvicorn | gunicorn) scripts/setup.sh "$(PYTHON)" example-async && \
	    exec .venv/bin/python examples/django_async/serve.py "$(UNDER)" --chat --host "$(HOST)" --port "$(PORT)" ;; \
	mod_wsgi) exec "$(PYTHON)" examples/django_async/serve.py mod_wsgi --chat --host "$(HOST)" --port "$(PORT)" ;; \
	*) echo "make run-chat: UNDER=$(UNDER) is none of uvicorn, gunicorn, mod_wsgi" >&2; exit 2 ;; \
	esac

run-mixed:  ## The other example: Flask and FastAPI in one process. make run-mixed UNDER=gunicorn
	@scripts/setup.sh "$(PYTHON)" mixed
	@exec .venv/bin/python examples/mixed/serve.py --host "$(HOST)" --port "$(PORT)" --under "$(UNDER)"

test:  ## All tests. make test ARGS="-k upload"
	@scripts/setup.sh "$(PYTHON)" test
	BRIDGE_INSTALL=1 .venv/bin/python -m pytest -n 2 $(ARGS)

test-django:  ## Django's own tests, through bridge.django. make test-django ARGS="--mode on_loop handlers"
	@scripts/setup.sh "$(PYTHON)" test
	PYTHONPATH=tests .venv/bin/python -m django_suite $(ARGS)

test-django-6:  ## the tests of bridge.django and Django's own tests with the newest Django 6, on Python 3.12 or newer; or DJANGO="==6.0.*".
	@python=$$(scripts/find_python.sh 3.12 "$(PYTHON)") && DJANGO="$(DJANGO)" scripts/setup.sh "$$python" django6
	BRIDGE_INSTALL=1 .venv-django6/bin/python -m pytest -n 2 tests/unit/django tests/adapters/django
	PYTHONPATH=tests .venv-django6/bin/python -m django_suite $(ARGS)

test-agents:  ## What Sentry, Datadog, Elastic APM and OpenTelemetry report of a Django project, beside Django's own handlers.
	@scripts/setup.sh "$(PYTHON)" agents
	.venv-agents/bin/python -m pytest -n 2 -m agents tests/unit/django/test_agents_real.py $(ARGS)

test-hosts:  ## Hosts without a socket (AWS Lambda and the like), the test clients of docs/testing.md, and the recipes of docs/howto.
	@scripts/setup.sh "$(PYTHON)" hosts
	.venv/bin/python -m pytest -n 2 tests/hosts tests/docs/test_testing_page.py tests/docs/test_documents.py -m hosts $(ARGS)

test-servers:  ## Every server, every case; writes docs/servers/matrix.md. make test-servers ARGS="-k uwsgi"
	@scripts/setup.sh "$(PYTHON)" servers
	$(if $(ARGS),,BRIDGE_WRITE_MATRIX=1) .venv/bin/python -m pytest -n 4 --dist loadgroup tests/real_servers -m "servers or not servers" $(ARGS)

test-pythons:  ## The tests on CPython 3.11 to 3.15 and 3.14t, each Django, the oldest asgiref and anyio. make test-pythons SESSIONS="tests-3.14t"
	@scripts/setup.sh "$(PYTHON)" pythons
	BRIDGE_INSTALL=1 .venv/bin/python -m nox $(if $(SESSIONS),-s $(SESSIONS)) $(if $(ARGS),-- $(ARGS))

test-under-load:  ## The tests three times in a row, while the machine is busy with other work. make test-under-load RUNS=1
	@scripts/setup.sh "$(PYTHON)" test
	@for run in $$(seq "$(RUNS)"); do \
	    BRIDGE_INSTALL=1 .venv/bin/python scripts/load.py .venv/bin/python -m pytest -n 2 $(ARGS) || exit; \
	done

test-delayed:  ## The tests while steps between threads and loops are late, those of DELAYS. make test-delayed DELAYS=wake ARGS=tests/adapters
	@scripts/setup.sh "$(PYTHON)" test
	BRIDGE_INSTALL=1 PYTHONPATH=tests .venv/bin/python -m pytest -n 2 -p support.delays --delays "$(DELAYS)" $(ARGS)

stress:  ## Eight threads through everything at once, and hand-overs between two. make stress SECONDS=600
	@scripts/setup.sh "$(PYTHON)" test
	BRIDGE_STRESS_SECONDS="$(SECONDS)" .venv/bin/python -m pytest -s tests/load/test_threads_at_once.py tests/load/test_wake_ups.py \
	    $(ARGS)

soak:  ## Mixed traffic on three servers, each byte checked. make soak MINUTES=30
	@scripts/setup.sh "$(PYTHON)" servers
	BRIDGE_SOAK_MINUTES="$(MINUTES)" .venv/bin/python -m pytest -s tests/soak -m soak $(ARGS)

chaos:  ## Faults in the app, the server and on the wire.
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || scripts/install_debian.sh libfaketime
	@scripts/setup.sh "$(PYTHON)" servers
	.venv/bin/python -m pytest -n 2 tests/chaos -m chaos $(ARGS)

fuzz:  ## Looks for inputs that break an invariant. make fuzz ARGS="--runs 1000000 scope environ"
	@scripts/setup.sh "$(PYTHON)" fuzz
	PYTHONPATH=tests .venv/bin/python -m fuzz $(ARGS)

check:  ## Lint, format and types, the types for macOS too.
	@scripts/setup.sh "$(PYTHON)" check
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy
	.venv/bin/python -m mypy --platform darwin --cache-dir .mypy_cache/darwin
	.venv/bin/python -m pyright
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m pyright --verifytypes bridge --ignoreexternal

dist:  ## Builds the wheel and the sdist into dist/, and tries them as a user gets them. make dist ARGS=--release
	@scripts/setup.sh "$(PYTHON)" dist
	.venv/bin/python scripts/check_dist.py $(ARGS)

bench:  ## Side by side with the peers: a table, and JSON.
	@command -v wrk >/dev/null || scripts/install_debian.sh wrk
	@scripts/setup.sh "$(PYTHON)" bench
	.venv/bin/python -m benchmarks $(ARGS)

bench-no-lock:  ## Beside blocking and computing work on 3.14t, and bridge on 3.14 and on PYTHON in the same rounds.
	@command -v wrk >/dev/null || scripts/install_debian.sh wrk
	@scripts/setup.sh "$(PYTHON)" bench
	@scripts/setup.sh "$(PYTHON)" pythons
	.venv/bin/python -m nox -s bench-3.14 bench-3.14t
	.nox/bench-3-14t/bin/python -m benchmarks --only beside-blocked beside-computing all-cores \
	    --also-on .nox/bench-3-14/bin/python .venv/bin/python --save no-lock $(ARGS)

docs:  ## Writes the generated parts of docs/ anew.
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python scripts/generate_docs.py

screenshots:  ## Writes the pictures in docs/images anew.
	@command -v chromium-headless-shell >/dev/null || scripts/install_debian.sh chromium-headless-shell
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python scripts/screenshots.py

site:  ## The documentation as a site, in site/: built without the network, strictly, and looked at in a browser. SITE=DIRECTORY
	@scripts/setup.sh "$(PYTHON)" docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet --site-dir "$(SITE)"
	@command -v chromium-headless-shell >/dev/null || scripts/install_debian.sh chromium-headless-shell
	BRIDGE_SITE="$(SITE)" .venv/bin/python -m pytest -m site tests/docs/test_site.py $(ARGS)

help:  ## A line on each verb.
	@sed -n 's/^\([a-z0-9-]*\):  ## /\1\t/p' Makefile | expand -t 16

clean:  ## Takes away .venv, all caches and what make run-mod-wsgi has made; var/ of the examples stays.
	rm -rf .nox .venv .venv-django6 .venv-agents .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	scripts/apache.sh --remove
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make run | test | test-servers | soak | chaos | check | bench | docs | clean: each makes .venv and installs what it needs. CONTRIBUTING.md says more.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
MINUTES ?= 3
ARGS ?=

.PHONY: run test test-servers soak chaos check bench docs clean
.NOTPARALLEL:

run:  ## The example: a legacy Django project on Uvicorn. make run PORT=8001
	@scripts/setup.sh "$(PYTHON)" example
	@exec .venv/bin/python scripts/run_example.py --host "$(HOST)" --port "$(PORT)"

test:  ## All tests. make test ARGS="-k upload"
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python -m pytest -n 2 $(ARGS)

test-servers:  ## Every server, every case; writes docs/servers/matrix.md. make test-servers ARGS="-k uwsgi"
	@scripts/setup.sh "$(PYTHON)" servers
	$(if $(ARGS),,BRIDGE_WRITE_MATRIX=1) .venv/bin/python -m pytest -n 4 --dist loadgroup tests/real_servers -m "servers or not servers" $(ARGS)

soak:  ## Mixed traffic on three servers, each byte checked. make soak MINUTES=30
	@scripts/setup.sh "$(PYTHON)" servers
	BRIDGE_SOAK_MINUTES="$(MINUTES)" .venv/bin/python -m pytest tests/soak -m soak $(ARGS)

chaos:  ## Faults in the app, the server and on the wire.
	@scripts/setup.sh "$(PYTHON)" servers
	.venv/bin/python -m pytest -n 2 tests/chaos -m chaos $(ARGS)

check:  ## Lint, format and types.
	@scripts/setup.sh "$(PYTHON)" check
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy
	.venv/bin/python -m pyright

bench:  ## Side by side with the peers: a table, and JSON.
	@command -v wrk >/dev/null || scripts/install-debian.sh wrk
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python -m benchmarks $(ARGS)

docs:  ## Writes the generated parts of docs/ anew.
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python scripts/generate_docs.py

clean:  ## Takes away .venv and all caches; the example's var/ stays.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

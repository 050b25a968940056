# make run | run-mixed | test | check | bench | docs | clean: each makes .venv and installs what it needs.
# CONTRIBUTING.md says more.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
UNDER ?= uvicorn
ARGS ?=

.PHONY: run run-mixed test check bench docs clean
.NOTPARALLEL:

run:  ## The example: a legacy Django project on Uvicorn. make run PORT=8001
	@scripts/setup.sh "$(PYTHON)" example
	@exec .venv/bin/python scripts/run_example.py --host "$(HOST)" --port "$(PORT)"

run-mixed:  ## The other example: Flask and FastAPI in one process. make run-mixed UNDER=gunicorn
	@scripts/setup.sh "$(PYTHON)" mixed
	@exec .venv/bin/python scripts/run_mixed.py --host "$(HOST)" --port "$(PORT)" --under "$(UNDER)"

test:  ## All tests. make test ARGS="-k upload"
	@scripts/setup.sh "$(PYTHON)" test
	.venv/bin/python -m pytest -n 2 $(ARGS)

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

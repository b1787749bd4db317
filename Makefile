# One virtual environment, .venv, made on first use and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BENCH_READY := .venv/.bench

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format bench notebooks clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */|/' | \
		while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(READY)  ## the virtual environment with everything, .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=24"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(BENCH_READY): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	touch $@

demo: $(READY)  ## train on made video, segment held-out clips, print J&F, write runs/demo (minutes)
	$(BIN)/vos-umec demo --out runs/demo

# Two workers with one thread each; a file stays on one worker, so that its shared set-up is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

test: $(READY)  ## every test, configuration and notebook
	$(PYTEST)

test-fast: $(READY)  ## the tests that are not slow, in under two minutes
	$(PYTEST) -m "not slow"

lint: $(READY)  ## formatting, linting, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_READY)  ## speed and memory against plain references and peers; writes docs/performance.md
	$(BIN)/python benchmarks/run.py

notebooks: $(READY)  ## make the notebooks from their sources and run them
	$(BIN)/python notebooks/build.py

clean:  ## remove the environment and all caches; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

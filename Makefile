# One virtual environment, .venv, created on first use and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BENCH_READY := .venv/.bench
# As many test processes as the machine has cores: `make test WORKERS=0` runs all tests in one.
WORKERS ?= auto
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format docs bench soak gpu-check notebooks clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## create the virtual environment .venv with everything for development

$(READY): pyproject.toml constraints.txt
	@echo "making .venv: some minutes without a word, and some 7 GB on Linux, where torch brings CUDA"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=24"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

$(BENCH_READY): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	touch $@

demo: $(READY)  ## train on synthetic videos, segment held-out ones, print J&F, write runs/demo (takes minutes)
	$(BIN)/vos-umec demo --out runs/demo

test: $(READY)  ## run every test, every configuration and the notebooks, in parallel
	$(PYTEST)

test-fast: $(READY)  ## run the tests that are not marked slow, in parallel (under two minutes on two cores)
	$(PYTEST) -m "not slow"

lint: $(READY)  ## check formatting, style and types of all Python code, and look for secrets and weak dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

format: $(READY)  ## format all Python code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## build the site into build/site; a warning or a dead link is an error
	$(BIN)/python -m sphinx -W --keep-going -b html docs build/site

bench: $(BENCH_READY)  ## measure speed and memory against plain references and other packages, write docs/performance.md
	$(BIN)/python benchmarks/run.py

soak: $(READY)  ## inject faults for half an hour: kills, full disks, broken and hostile files, lost processes
	$(BIN)/python benchmarks/soak.py

gpu-check: $(READY)  ## check and time everything on one NVIDIA GPU, in under ten minutes
	$(BIN)/python benchmarks/gpu_check.py

notebooks: $(READY)  ## build the notebooks from their sources and run them
	$(BIN)/python notebooks/build.py

clean:  ## delete the environment and all caches, keep runs/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

# Everything a person or CI does here, one target each. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 500
# Test files run side by side: most of them wait for real processes most of the time.
JOBS ?= 4
MINUTES ?= 3
SEED ?=
CUTS ?= 10
PAIRS ?= 3
SETUP := $(VENV)/.stamp-setup

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check fmt sim chaos power bench bench-pairs lock schemas clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(SETUP)  ## Make .venv with everything in it, from the lock

$(SETUP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("teo needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: $(SETUP)  ## Run real tests on virtual benches through a real Kafka, and show it
	$(BIN)/teo demo

up: $(SETUP)  ## Start everything on this machine: Kafka, API, scheduler, worker
	$(BIN)/teo up

test: $(SETUP)  ## Run all tests
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

sim: $(SETUP)  ## Run the simulation alone: make sim SEEDS=10000
	TEO_SIM_SEEDS=$(SEEDS) $(BIN)/pytest tests/sim

chaos: $(SETUP)  ## Break a real lab on three brokers: make chaos MINUTES=15 [SEED=7]
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

power: $(SETUP)  ## Cut the power of a lab on a disk of its own (root): make power CUTS=10 [SEED=7]
	$(BIN)/python -m tests.power --cuts $(CUTS) $(if $(SEED),--seed $(SEED))

check: $(SETUP)  ## Lint, types, import contracts, schemas
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(SETUP)  ## Format the code
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

bench: $(SETUP)  ## Print the figures (tests/benchmarks)
	$(BIN)/python -m tests.benchmarks

bench-pairs: $(SETUP)  ## Measure the cost of durability alone: make bench-pairs PAIRS=4
	$(BIN)/python -m tests.benchmarks --pairs $(PAIRS)

schemas: $(SETUP)  ## Publish schemas that changed as new versions
	$(BIN)/python -m events.registry

lock: $(SETUP)  ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --all-extras --group dev pyproject.toml --output-file requirements.lock

clean:  ## Remove the environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

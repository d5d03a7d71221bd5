# Everything a user or a developer types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-ascend test-all lint type format ui bench docs lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything, in the versions of constraints.txt

# A set-up that was interrupted leaves no mark and starts again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recexp needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $(READY)

run: $(READY) ## train the default experiment, AttRec on MovieLens-1M (ARGS="k=v ..." adds words)
	$(BIN)/python -m recexp $(ARGS)

test: $(READY) ## fast tests
	$(BIN)/python -m pytest -n 2 --dist loadscope -q $(ARGS)

# Not through xdist: the recordings and the wheel are made once for the session.
test-ascend: $(READY) ## the NPU plug-in against the real torch-npu wheel, which it installs into a folder of its own
	$(BIN)/python -m pytest -q -m 'wheel and not slow' tests/ascend $(ARGS)

test-all: $(READY) ## all tests, the slow ones and those that need the network, too
	$(BIN)/python -m pytest -n 2 --dist loadscope -q -m '' $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(READY) ## mypy, strict
	$(BIN)/mypy

ui: $(READY) ## MLflow's pages for the runs of this folder, on loopback
	$(BIN)/python -m recexp.tracking.ui --root . $(ARGS)

bench: $(READY) ## speed and memory, as ratios in one run
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY) ## build the site into site/
	$(BIN)/mkdocs build --strict --quiet

lock: $(READY) ## write constraints.txt from what is installed
	{ head -n 1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' | grep -v -i '^recexp'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove the environment, caches and built files; runs and downloads stay
	rm -rf $(VENV) .ascend build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

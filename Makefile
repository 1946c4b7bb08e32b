# Needs python3 (3.11 or newer) with venv; everything goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
# Two test processes on two cores; tests that share made-up data or models stay together.
# Bytecode is kept even where the environment says otherwise: without it a tenth of the time goes into compiling.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(shell $(PYTHON) -c 'import os; print(min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))') --dist loadfile

.PHONY: help venv demo test test-unit test-faults test-scale test-browser test-notebook docs check format results clean

help:
	@echo "make demo       train a small model on generated scenes and report (runs/demo)"
	@echo "make test       the whole test suite"
	@echo "make test-unit  the unit tests alone"
	@echo "make test-faults  commands killed, starved and fed with damaged files (up to 20 minutes)"
	@echo "make test-browser   the report and the app in a headless Chromium"
	@echo "make test-scale     object storage with real servers, and two nodes (up to 20 minutes)"
	@echo "make test-notebook  the notebooks in examples/, executed"
	@echo "make docs       the documentation site (site/)"
	@echo "make check      lint, format, types, layers"
	@echo "make format     format and sort imports"
	@echo "make results    write the tables of docs and README from benchmarks/results"
	@echo "make venv       only set up .venv"
	@echo "make clean      remove .venv and caches (keeps runs/)"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up .venv (about 2 minutes)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + " (choose another: make PYTHON=python3.12)" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: $(STAMP)
	@$(BIN)/iccld demo --out runs/demo

# Signals end workers of pytest-xdist in which OpenVINO has computed: these tests have a process of their own.
test: $(STAMP)
	@$(PYTEST) -m 'not signals'
	@$(BIN)/python -m pytest -q -m signals $$(grep -rl --include='*.py' 'mark.signals' tests)

test-unit: $(STAMP)
	@$(PYTEST) -m 'not signals' tests/unit
	@$(BIN)/python -m pytest -q -m signals tests/unit

test-faults: $(STAMP)
	@$(PYTEST) --dist worksteal tests/faults

# Extras beyond .[dev], each installed once.
.venv/.stamp-%: $(STAMP)
	@echo "Installing what $* needs"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[$*]' --constraint constraints.txt
	@touch $@

# The tests of examples/web need onnxruntime-web, which npm installs.
.venv/web: $(STAMP)
	@npm install --silent --ignore-scripts --no-audit --no-fund --prefix .venv/web onnxruntime-web@1.30.0 \
		|| echo "onnxruntime-web was not installed: the tests of examples/web are skipped"

test-browser: .venv/.stamp-browser .venv/web
	@$(BIN)/python tests/browser/find_chromium.py
	@$(BIN)/python -m pytest tests/browser

test-scale: .venv/.stamp-scale
	@$(BIN)/python -m pytest tests/scale

test-notebook: .venv/.stamp-notebook
	@$(BIN)/python -m pytest tests/notebook

docs: .venv/.stamp-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "written: site/index.html"

check: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

results: $(STAMP)
	@$(BIN)/python benchmarks/make_results.py

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

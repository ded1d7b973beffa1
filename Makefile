# Everything a fresh machine needs is Python 3.11 or newer; each target makes what it needs and is safe to run again.
#   make demo    generated scenes, a nano model trained and evaluated, report.html; no network after the installation
#   make test    the quick tests        make test-slow   those that take long         make parity   official golden cases
#   make check   style, types, import contracts, spelling                             make bench    against peers, quickly
#   make bench-full   the measurements of docs/performance.md, an hour and more; writes benchmarks/results
# PYTHON=... chooses the interpreter, WORKERS=... the number of test processes, CONSTRAINTS=constraints.txt known versions.

.DELETE_ON_ERROR:
.PHONY: install demo test test-slow parity check bench bench-full clean

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
WORKERS ?= 2
CONSTRAINTS ?=
PIP := $(RUN) pip --disable-pip-version-check install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# Several test processes share the cores: one thread each, or they fight.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses $(WORKERS)

# The newest interpreter that can make a virtual environment (version managers leave shims that cannot run).
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.14 python3.13 python3.12 python3.11 python3 python3.15; do \
	$$name -c '$(USABLE)' >/dev/null 2>&1 && echo $$name && break; done)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or newer with venv and ensurepip, found none; install one or say PYTHON=..." >&2; exit 2; }
	@$(RUN) pip --version >/dev/null 2>&1 || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing smidgen with its test and dev extras (torch is large: minutes on a slow line)"
	$(PIP) --editable '.[test,dev]'
	@touch $@

$(VENV)/.peers: $(VENV)/.installed
	$(PIP) --editable '.[bench]'
	@touch $@

demo: install
	$(RUN) smidgen demo

test: install
	$(PYTEST)

test-slow: install
	$(PYTEST) -m slow

parity: install
	$(PYTEST) tests/parity

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# One thread each, and its idle ones asleep: ratios of one thread's CPU time are what is compared.
BENCH := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python

bench: $(VENV)/.peers
	@failed=; for script in benchmarks/*.py; do echo "== $$script"; \
		$(BENCH) "$$script" $(if $(FULL),,--quick) || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

bench-full:
	@$(MAKE) bench FULL=1

clean:
	rm -rf build dist demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find smidgen tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

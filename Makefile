# Everything starts here. The environment makes itself: see scripts/bootstrap.
#   make PIP_EXTRA_ARGS="..."   further arguments for pip (README: the CPU build of torch)
#   make PYTHON=python3.12      another interpreter for the environment

SHELL := /bin/sh
PYTHON ?= python3
PIP_EXTRA_ARGS ?=
RUN := .venv/bin
DEMO := demo-output

# Several OpenMP threads on small matrices are 10 to 200 times slower than one.
export OMP_NUM_THREADS := 1
export PYTHON PIP_EXTRA_ARGS

.DEFAULT_GOAL := help
.PHONY: help .venv demo checks fast servers test faults bench clean

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z.]+:.*## / {printf "  make %-8s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/.ready ## the environment, made anew when what it stands on changed

.venv/.ready: pyproject.toml constraints.txt scripts/bootstrap
	@scripts/bootstrap
	@touch $@

demo: .venv/.ready ## train on two healthy actuators, then watch two others over real servers
	@$(RUN)/watchkeeper demo --out $(DEMO)

checks: .venv/.ready
	@$(RUN)/ruff format --check --quiet .
	@$(RUN)/ruff check --quiet .
	@$(RUN)/mypy
	@$(RUN)/lint-imports >/dev/null || $(RUN)/lint-imports

fast: checks ## format, lint, types, imports and the quick tests: under a minute
	@$(RUN)/python -m pytest -m "not slow and not broker and not gpu" -x -q

servers: ## what the tests need beside Python: brokers, databases, node modules
	@scripts/test-servers

# One process a core, the tests of a file together: they share what is slow to make.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Line and branch coverage of the pure core by its own tests; the other rooms are judged by what their tests prove.
# They run without it: whoever watches lines makes all Python two to four times slower.
test: checks servers ## all of it
	@$(RUN)/python -m pytest $(PARALLEL) tests/monitor/core --cov=monitor/core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95
	@$(RUN)/python -m pytest $(PARALLEL) --ignore=tests/monitor/core

# One unit after the other, for their times count. What has passed for this very program is not run again;
# FAULTS=continue: nor what has passed for an older one. Figures: docs/reliability.md.
FAULTS ?= full
faults: .venv/.ready servers ## the fault suite in full: hours, and it can be stopped and goes on
	@WATCHKEEPER_FAULTS=$(FAULTS) $(RUN)/python -m pytest tests/faults -v -m fault

bench: .venv/.ready ## run every benchmark that needs no data of its own
	@set -e; for script in $$(grep -LE "_detection|_pictures" benchmarks/[!_]*.py); do echo "== $$script"; $(RUN)/python $$script; done

clean: ## remove the environment and everything made
	rm -rf .venv tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info $(DEMO) fault-outcomes
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

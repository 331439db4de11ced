# Everything here sets itself up in .venv, on a machine that has Python 3.11 or later, and asks nothing.

export PIP_ROOT_USER_ACTION = ignore
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1
# empty is unset: without bytecode every program and every process of the tests compiles all it imports again
export PYTHONDONTWRITEBYTECODE =

SHELL = /bin/sh
IN = .venv/bin
PIP = $(IN)/python -m pip install --quiet --quiet --editable

.PHONY: help demo up down status test test-all chaos lint bench clean

help:
	@echo "make demo     everything against the built-in exchange simulator: no account, no internet"
	@echo "make up       everything against the real exchanges"
	@echo "make down     stop everything"
	@echo "make status   what runs"
	@echo "make test     the tests but the long ones, on servers that they start themselves: up to four minutes"
	@echo "make test-all all tests, as every change must pass them: up to a quarter of an hour"
	@echo "make chaos    five minutes of kills and faults, then every row compared (a minute of it is in make test-all)"
	@echo "make lint     style and types"
	@echo "make bench    the benchmarks"
	@echo "make clean    remove what make has made; the data in var stay"

demo: .venv/.runs
	@$(IN)/fademoe demo

up: .venv/.runs
	@$(IN)/fademoe up

down: .venv/.runs
	@$(IN)/fademoe down

status: .venv/.runs
	@$(IN)/fademoe status

test: .venv/.tests
	$(IN)/python -m pytest -n 8 --dist worksteal -m "not long and not full and not elsewhere"

test-all: .venv/.tests
	@sh .ci/browser
	$(IN)/python -m pytest -n 8 --dist worksteal

chaos: .venv/.tests
	$(IN)/python -m pytest tests/chaos -m full

lint: .venv/.tests
	$(IN)/ruff check .
	$(IN)/ruff format --check .
	$(IN)/mypy

bench: .venv/.runs
	$(IN)/python -m bench

clean:
	@if [ -x $(IN)/fademoe ]; then $(IN)/fademoe down; fi
	rm -rf .venv build .hypothesis *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +

# A stamp is older than setup.cfg after every change of the dependencies: they are installed again.
.venv/.runs: .venv/.made setup.cfg pyproject.toml
	@echo "installing FadeMoe and its servers into .venv"
	@$(PIP) ".[embedded,mcp]"
	@touch $@

.venv/.tests: .venv/.made setup.cfg pyproject.toml
	@echo "installing FadeMoe, its servers and the tools for tests into .venv"
	@$(PIP) ".[embedded,test,lint]"
	@# the bytecode, once: else each of the eight processes of the first run compiles all of it
	@$(IN)/python -m pytest --collect-only --quiet --quiet >/dev/null 2>&1 || true
	@touch $@ .venv/.runs

.venv/.made:
	@sh .ci/venv
	@touch $@

# Everything needs only Python 3.11+ and make; the first target installs the rest into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.PHONY: help setup quickstart test coverage lint lock clean

help:
	@echo "make quickstart   train, attack and compare three defences (a few minutes on two cores)"
	@echo "make test         the whole test suite"
	@echo "make coverage     the same, with the share of lines it runs"
	@echo "make lint         style, types and import contracts"
	@echo "make lock         renew requirements.lock from pyproject.toml"

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"jaxdefense needs Python 3.11 or newer, and $(PYTHON) is {v.major}.{v.minor}; set PYTHON, for example: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)

quickstart: setup
	$(BIN)/python -m experiments.quickstart $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

coverage: setup
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
	  --extra test --extra lint requirements.in pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# All targets first create .venv and install the package and its dependencies there.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin

.PHONY: help demo test test-slow lint docs docs-serve clean

help:
	@echo "make demo       run the six commands on the sample release, in demo/"
	@echo "make test       run the default tests"
	@echo "make test-slow  run the tests that take minutes"
	@echo "make lint       run ruff and mypy --strict"
	@echo "make docs       write the reference pages from the code, and the site to build/site/"
	@echo "make docs-serve show the site at http://127.0.0.1:8000 while you edit its pages"
	@echo "make clean      remove .venv, demo/ and caches"

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dove needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

demo: $(VENV)/installed
	@PATH="$(BIN):$$PATH" sh examples/demo.sh demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/python docs/write_commands.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the site is in build/site/index.html; its search needs a server: make docs-serve"

docs-serve: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) demo build .pytest_cache .mypy_cache .ruff_cache *.egg-info

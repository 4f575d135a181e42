# make demo: set up, train rotation beside straight-through on embedded photographs, write a page.
# make test: set up, pass the tests.      make lint: style, types, direction of imports.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench docs clean

demo: .venv/.core
	$(BIN)/rotvq demo

test: .venv/.dev
	$(BIN)/pytest

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.bench
	$(BIN)/python benchmarks/quantizer.py
	$(BIN)/python benchmarks/training_throughput.py

docs: .venv/.docs
	$(BIN)/mkdocs build --quiet

clean:
	rm -rf .venv demo site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer; got $$($(PYTHON) --version). Use make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	touch $@

.venv/.dev: .venv/.core
	$(INSTALL) -e '.[dev]'
	touch $@

.venv/.bench: .venv/.core
	$(INSTALL) -e '.[bench]'
	touch $@

.venv/.docs: .venv/.core
	$(INSTALL) -e '.[docs]'
	touch $@

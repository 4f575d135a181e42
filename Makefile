# make demo: install, compare the rotation trick with straight-through on bundled photos.
# make test: install, run the tests (minutes).    make lint: style, types, direction of imports.
# make test-all: also the slow tests (kills, several processes, compilers, a browser, whole studies).
# make oldest: run the tests with the oldest versions allowed.
# make bench, kill, soak, fuzz: the long runs behind docs/speed.md and docs/fault-injection.md; OUT=results
# replaces the records of this repository.    make audit: known vulnerabilities.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/records
# One worker per core, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-all oldest lint bench docs kill soak fuzz audit lock clean

demo: .venv/.train
	$(BIN)/rotvq demo

test: .venv/.dev
	$(PYTEST) -m 'not slow'

# By file, so that what a file sets up for all of its tests is set up once.
test-slow: .venv/.dev
	$(PYTEST) --dist loadfile -m slow

test-all: test test-slow

# The oldest versions that pyproject.toml allows; torch comes with CUDA here.
# datasets 3.0 requires the older fsspec.
oldest: .venv/.lock
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 .venv/oldest
	$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --resolution lowest-direct \
	  -e '.[dev]' 'fsspec<=2024.6.1'
	.venv/oldest/bin/pytest -W default

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.bench
	$(BIN)/python benchmarks/quantizer.py --out $(OUT)/benchmarks
	$(BIN)/python benchmarks/training_throughput.py --out $(OUT)/benchmarks
	$(BIN)/python benchmarks/collectives.py --out $(OUT)/benchmarks

kill: .venv/.train
	$(BIN)/python robustness/kill.py --kills 200 --out $(OUT)/robustness

soak: .venv/.train
	$(BIN)/python robustness/soak.py --out $(OUT)/robustness

fuzz: .venv/.fuzz
	$(BIN)/python robustness/fuzz.py --inputs 4000 --out $(OUT)/robustness

# Checks installed packages against the advisories of osv.dev.
audit: .venv/.audit
	$(BIN)/pip-audit --vulnerability-service osv --skip-editable

# torch and its dependencies differ between machines; constraints.txt pins torch.
lock: .venv/.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --constraint constraints.txt --generate-hashes --no-header --no-annotate --quiet \
	  --output-file .venv/all.txt
	$(BIN)/python scripts/without_torch.py < .venv/all.txt > .venv/lock.txt
	mv .venv/lock.txt requirements-dev.lock

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf .venv demo site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer; got $$($(PYTHON) --version). Use make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.train: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[train]'
	touch $@

.venv/.dev: requirements-dev.lock pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements-dev.lock
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/.train

.venv/.bench: .venv/.train
	$(INSTALL) -e '.[train,bench]'
	touch $@

.venv/.fuzz: .venv/.train
	$(INSTALL) -e '.[train,fuzz]'
	touch $@

.venv/.audit: .venv/.dev
	$(INSTALL) pip-audit
	touch $@

.venv/.lock: | $(BIN)/python
	$(INSTALL) uv
	touch $@

.venv/.docs: .venv/.train
	$(INSTALL) -e '.[train,docs]'
	touch $@

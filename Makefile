# Everything here starts from Python >= 3.11 and make: what is missing is installed into $(VENV) first.
#
#   make demo PY=/path/to/python    uses that interpreter as it is and installs nothing
#   make test VENV=/tmp/env         keeps the environment elsewhere

PYTHON ?= python3
VENV ?= .venv
PY ?=
OUT ?= ladd-demo

ifeq ($(PY),)
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
else
RUN := $(PY)
READY :=
endif

.PHONY: help demo test check lint types docs bench study rates env clean

help: ## Say what each target does.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(READY) ## Walk the whole way on real digits: distill, convert, label, check, train, draw; into $(OUT).
	$(RUN) -m ladd_data demo -o $(OUT)

test: $(READY) ## Run the tests.
	$(RUN) -m pytest -n auto --dist loadfile

check: test lint types docs ## Do all that CI does.

lint: $(READY) ## Check format and style.
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .

types: $(READY) ## Check types, strictly.
	$(RUN) -m mypy

docs: $(READY) ## Check that generated pages are fresh and that links and commands in the docs exist.
	$(RUN) docs/generate.py --check
	$(RUN) -m pytest -q tests/test_docs.py

bench: $(READY) ## Run the benchmarks; each prints its table and the machine.
	$(RUN) benchmarks/views.py
	$(RUN) benchmarks/format.py --records 5000 20000
	$(RUN) benchmarks/fuzz.py
	$(RUN) benchmarks/deploy.py
	$(RUN) benchmarks/loaders.py --records 2000 20000 --markdown docs/loaders-benchmark.md

study: $(READY) ## Train the students of docs/study.md and write it anew.
	$(RUN) benchmarks/study.py --markdown docs/study.md

rates: $(READY) ## Measure the ladder of docs/rates.md and write it anew.
	$(RUN) benchmarks/rates.py --markdown docs/rates.md

env: $(READY) ## Only make the environment.

clean: ## Remove the environment and what the demo wrote.
	rm -rf $(VENV) $(OUT)

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

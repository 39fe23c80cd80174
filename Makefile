# Two commands do everything on a machine with Python 3.11 or later:
#   make run     set up .venv, run the default study, write report.html
#   make test    set up .venv, run all tests
# and `make verify` checks every network that the search claims to know from its stored weights.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test verify check schema clean

run: $(VENV)/ready
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/snakemake --report report.html

test: $(VENV)/ready-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

verify: $(VENV)/ready
	$(BIN)/python steps/verify.py results/search/frontier.h5 results/search/beam.h5

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

schema: $(VENV)/ready
	$(BIN)/python steps/sparselimit/study.py

clean:
	rm -rf results logs benchmarks report.html .snakemake

$(VENV)/ready: envs/requirements.txt envs/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.txt -c envs/constraints.txt
	touch $@

$(VENV)/ready-dev: $(VENV)/ready envs/requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements-dev.txt -c envs/constraints.txt
	touch $@

# make demo: the main job on the shipped example. make test: everything a developer needs, then all tests.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TARGET := generic-linux-$(shell uname -m)
EXAMPLE := examples/digits

.PHONY: help install demo test lint format-check bench agreement bench-accuracy bench-doctor bench-attribution faults clean

help:
	@echo "make demo     run the main job on the shipped example: float model in, numbers measured on this host out"
	@echo "make test     set up everything a developer needs, then run all tests"
	@echo "make lint     ruff, mypy, import-linter, codespell, clang-format"
	@echo "make bench    speed and memory against the underlying libraries, tables of external tools; writes build/bench.json"
	@echo "make agreement: what the planner says against what really runs; writes build/agreement.json"
	@echo "make bench-accuracy  INT8 by edgeq and by its peers on the same models; CASES='kws resnet8' takes a part of them"
	@echo "make bench-doctor  faults planted in the real models' samples, and how many of them edgeq doctor finds"
	@echo "make bench-attribution  faults planted in one operator of one step, and how many of them edgeq analyze names"
	@echo "make faults   every fault of the device lab played for real; writes build/faults.json and build/faults.md"
	@echo "make install  only set up: .venv and the Debian packages that tests need"
	@echo "make clean    remove what was built and all caches; .venv stays"
	@echo "PYTHON=python3.12 make ... takes another Python (3.10 to 3.13) for a new .venv"

# One stamp for what the main job needs, one for what a developer needs: either is redone when pyproject.toml changes.
$(BIN)/python:
	@.ci/python $(PYTHON)
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	@touch $@

.venv/.install: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[dev,tensorflow]'
	@touch .venv/.run $@

install: .venv/.install
	@.ci/packages sshd=openssh-server ssh=openssh-client ssh-keygen=openssh-client ip=iproute2 postgres=postgresql

demo: .venv/.run
	$(BIN)/python -m edgeq run $(EXAMPLE)/digits_float.tflite -t $(TARGET) -d local: --data $(EXAMPLE)/dataset.yaml

# Two processes: many tests wait for servers, timers and killed processes. A file's tests stay together.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	@$(MAKE) -s format-check

# The C of the firmware; its style is in firmware_helpers/.clang-format.
format-check:
	find firmware_helpers -name "*.[ch]" -exec $(BIN)/clang-format --dry-run -Werror {} +

bench: .venv/.install
	$(BIN)/python tests/bench/run.py

bench-accuracy: .venv/.install
	$(BIN)/python tests/bench/accuracy.py $(addprefix --case ,$(CASES))

bench-doctor: .venv/.install
	$(BIN)/python tests/bench/doctor.py

bench-attribution: .venv/.install
	$(BIN)/python tests/bench/attribution.py

faults: install
	$(BIN)/python tests/faults/table.py --jobs 4

agreement: .venv/.install
	$(BIN)/python tests/bench/agreement.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find edgeq tests examples -name __pycache__ -type d -prune -exec rm -r {} +

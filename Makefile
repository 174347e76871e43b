# One line a target; .ci/run calls the same ones. Needs Python 3.11 or 3.12, venv and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
export UV_LINK_MODE ?= copy

.PHONY: help install demo test test-slow lint format docs bench clean
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## create .venv with everything that running, testing and the notebooks need

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in [(3, 11), (3, 12)] and f"error: Python {v[0]}.{v[1]} found, 3.11 or 3.12 needed: make install PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet 'uv>=0.5,<1'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	@touch $@

demo: install  ## train, score and separate on synthetic songs, in under five minutes
	$(BIN)/hourglass-sep demo

test: install  ## the fast tests
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'not slow'

test-slow: install  ## the slow ones: whole commands, processes, the built wheel, the notebooks
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m slow

lint: install  ## ruff, mypy, and the rule of who imports whom
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

format: install  ## fix what ruff can fix
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: install  ## pages from docs/ and the docstrings, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: install  ## speed of loader, network, effects, scorer, refinement and separation, measured side by side
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python experiments/bench.py
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python experiments/bench_training.py
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python experiments/bench_effects.py
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python experiments/bench_loader.py
	$(BIN)/python experiments/bench_scoring.py
	$(BIN)/python experiments/bench_refinement.py
	$(BIN)/python experiments/bench_separation.py

clean:  ## remove what runs and builds leave behind (not .venv, not data)
	rm -rf outputs site dist build .pytest_cache .ruff_cache .mypy_cache

# `make demo` and `make test` set up everything they need, in VENV, from nothing but Python 3.11 or later.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= output/demo
# One thread: on a shared machine several threads wait for each other longer than they compute.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint docs clean

$(VENV)/.stamp: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.stamp
	$(BIN)/python datasets/prepare_mini.py
	$(BIN)/python tools/train_net.py --config-file configs/mini/possam.yaml OUTPUT_DIR $(OUT)

test: $(VENV)/.stamp lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) output build *.egg-info

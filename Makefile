# `make demo` and `make test` set up everything they need, in VENV, from nothing but Python 3.10 or later.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OLDEST ?= .venv-oldest
OUT ?= output/demo
JOBS ?= 1
# One thread: on a shared machine several threads wait for each other longer than they compute.
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-long bench test test-oldest lint docs clean

$(VENV)/.stamp: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.stamp
	$(BIN)/python datasets/prepare_mini.py
	$(BIN)/python tools/train_net.py --config-file configs/mini/possam.yaml OUTPUT_DIR $(OUT)

# The same with four times the scenes, larger images and more steps: half an hour on one core.
demo-long: $(VENV)/.stamp
	$(BIN)/python datasets/prepare_mini.py --splits mini_a_train_large mini_b_report
	$(BIN)/python tools/train_net.py --config-file configs/mini/possam_long.yaml OUTPUT_DIR $(OUT)_long

# All systems and ablations of the miniature world over five seeds: hours. JOBS trainings run at the same time.
bench: $(VENV)/.stamp
	$(BIN)/python datasets/prepare_mini.py
	$(BIN)/python datasets/prepare_mini.py --splits mini_a_train_large
	$(BIN)/python tools/benchmark_all.py --jobs $(JOBS) --output output/bench

test: $(VENV)/.stamp lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The first version of every range in requirements.txt, best with the oldest Python: make test-oldest PYTHON=python3.10
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	sed -nE 's/^([A-Za-z_-]+)[>=]=([^,]+).*/\1==\2/p' requirements.txt > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(OLDEST)/oldest.txt \
	  pytest==8.0 pytest-xdist==3.8 hypothesis==6.100 torchmetrics==1.8
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(OLDEST)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(OLDEST) output build *.egg-info

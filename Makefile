# make demo: environment, training, analysis, report.  make test: the whole suite.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test environment

demo: environment
	$(BIN)/python train.py circle --quick --beta 0.5 1.25 --name demo
	$(BIN)/python analyze.py runs/circle/demo

test: environment
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

environment: .venv/installed

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

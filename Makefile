# make demo: environment, training, analysis, report.  make test: the whole suite.
# make bench: the kernel against its peers (hours; BENCH="--quick" for a smoke test).
# make cuda-check: all that there is to check on a GPU.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test environment bench bench-environment cuda-check

demo: environment
	$(BIN)/python train.py circle --quick --beta 0.5 1.25 --name demo
	$(BIN)/python analyze.py runs/circle/demo

test: environment
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

bench: environment bench-environment
	$(BIN)/python -m benchmarks.ntk $(BENCH)

# The GPU's peers are PyTorch's alone: a JAX of that age comes without CUDA.
cuda-check: environment .venv-peers/installed
	$(BIN)/python -m benchmarks.cuda_check

environment: .venv/installed
bench-environment: .venv-peers/installed .venv-jax/installed

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv-peers/installed: benchmarks/ntk_peers/requirements.txt
.venv-jax/installed: benchmarks/ntk_peers/requirements-jax.txt
.venv-peers/installed .venv-jax/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# make demo: environment, training, analysis, report.  make test: the whole suite.
# make bench: the kernel against its peers (hours; BENCH="--quick" for a smoke test).
# make cuda-check: all that there is to check on a GPU.
# make notebooks: each in full, to notebooks/rendered/<name>.html (minutes; ONLY="name name").
# make docs-check: every documented command in full (hours, resumable; DOCS="--only circle").
PYTHON ?= python3
BIN := .venv/bin

ONLY ?= $(basename $(notdir $(wildcard notebooks/*.py)))

.PHONY: demo test environment bench bench-environment cuda-check docs-check notebooks

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

docs-check: environment
	$(BIN)/python tests/docs_check.py $(DOCS)

# A notebook that fails does not stop the others; its log is kept beside the pages, which need no
# network: plotly is in them.
notebooks: environment .venv/notebooks-installed
	@mkdir -p notebooks/rendered; summary=; failed=0; \
	for name in $(ONLY); do \
	  echo "$$name ..."; begun=$$(date +%s); log=notebooks/rendered/$$name.log; said=ok; \
	  $(BIN)/jupytext --quiet --to ipynb --update --set-kernel python3 notebooks/$$name.py \
	    > $$log 2>&1 && \
	  PLOTLY_RENDERER=plotly_mimetype+notebook $(BIN)/jupyter-nbconvert --log-level ERROR \
	    --to html --execute --no-prompt --output-dir notebooks/rendered notebooks/$$name.ipynb \
	    >> $$log 2>&1 || \
	  { said=FAILED; failed=1; tail -n 15 $$log; }; \
	  summary="$$summary$$(printf '%6d s  %-6s  %s' $$(( $$(date +%s) - begun )) $$said $$name)\n"; \
	done; printf "$$summary"; exit $$failed

environment: .venv/installed
bench-environment: .venv-peers/installed .venv-jax/installed

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv/notebooks-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[notebooks]'
	touch $@

.venv-peers/installed: benchmarks/ntk_peers/requirements.txt
.venv-jax/installed: benchmarks/ntk_peers/requirements-jax.txt
.venv-peers/installed .venv-jax/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# make demo: environment, training, analysis, report.  make test: the whole suite.
# make bench: the kernel against its peers (hours; BENCH="--quick" for a smoke test).
# make cuda-check: all that there is to check on a GPU.
# make referees: other libraries on the project's numbers (minutes; REFEREES="--seed 7").
# make numerics: how far every number moves with precision, threads, seeds (minutes).
# make notebooks: each in full, to notebooks/rendered/<name>.html (minutes; ONLY="name name").
# make faults: what must hold when something fails (a quarter of an hour; FAULTS="--only full").
# make fuzz: 10,000 hostile files of each format (ten minutes; FUZZ="--only npz --files 1000").
# make docs-check: every documented command in full (hours, resumable; DOCS="--only circle").
# make mutation: do the tests notice a changed formula? (an hour, resumable; MUTATION="--seed 1").
# make licences: the licence of everything that is needed, against Apache-2.0.
# make locked-environment: in .venv-locked, the versions and hashes of requirements/lock-dev.txt, for
# CI and to repeat a number; `make environment` takes what the index has. make lock: renew the lock.
PYTHON ?= python3
BIN := .venv/bin

ONLY ?= $(basename $(notdir $(wildcard notebooks/*.py)))

.PHONY: demo test environment bench bench-environment cuda-check docs-check faults fuzz notebooks
.PHONY: mutation licences lock locked-environment referees numerics

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

faults: environment
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.run $(FAULTS)

fuzz: environment
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.fuzz $(FUZZ)

referees: environment bench-environment
	$(BIN)/python -m benchmarks.referees $(REFEREES)

numerics: environment
	$(BIN)/python -m benchmarks.numerics $(NUMERICS)

docs-check: environment
	$(BIN)/python tests/docs_check.py $(DOCS)

mutation: environment .venv/mutation-installed
	$(BIN)/python -m tests.mutation.run $(MUTATION)

licences: environment
	$(BIN)/python -m requirements.licences

# What is installed and tested here is what the lock pins; hashes are the index's, torch's among them.
lock: environment
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m pip freeze --exclude-editable > .venv/tested.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --constraint .venv/tested.txt --custom-compile-command 'make lock' --no-annotate \
	  --extra dev setup.cfg requirements/build.in --output-file requirements/lock-dev.txt

# A notebook that fails does not stop the others; its log is kept beside the pages. They ask a network
# for MathJax and require.js and do without: plotly is in them, formulas are plain text.
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

locked-environment: .venv-locked/installed

.venv-locked/installed: requirements/lock-dev.txt
	$(PYTHON) -m venv .venv-locked
	.venv-locked/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	.venv-locked/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation -e .
	touch $@

.venv/mutation-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[mutation]'
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

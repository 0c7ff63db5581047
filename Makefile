# The commands of the project; "make" alone lists them.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= digits
STAMP := .venv/.installed
WORKERS ?= 2
ENGINE ?= docker
ACCELERATOR ?= cpu
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --override requirements.overrides \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header
FURTHER := $(COMPILE) --constraint requirements.lock

.PHONY: help setup demo study docs notebooks test browser test-slow check bench image lock clean
help:            ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP)  ## the virtual environment, rebuilt only when the lock file or pyproject.toml changed
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup      ## log P(f) of four labellings of real data; DATA=mnist or fashion-mnist with NNGP_DATA set
	$(BIN)/nngp-prior demo --data $(DATA)

study: setup     ## log P(f) against flatness on small networks: a study with its report
	$(BIN)/nngp-prior experiment run digits

docs: setup      ## the documentation site, in site/; its links are checked
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/ is ready: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

notebooks: setup ## the notebooks, executed in place; ONLY=04 executes that one
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-notebooks.lock
	$(BIN)/python -m notebooks.execute $(ONLY)

# Neighbours in a file share what JAX has compiled: each worker begins with half of the tests in their order. What was
# compiled stays in .pytest_cache/jax for later runs, and Python's bytecode in __pycache__ also where the environment
# says otherwise. Workers are all there is in parallel, so BLAS has one thread in each.
test: setup      ## the fast suite; WORKERS=2 processes
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -m "not slow and not gpu" -n $(WORKERS) --dist worksteal

browser: setup   ## tests of the page in an installed Chromium (apt install chromium)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-browser.lock
	$(BIN)/pytest tests/system/test_browser.py --timeout 600

test-slow: setup ## calibration over hundreds of seeds, notebooks
	$(BIN)/pytest -m slow --timeout 3600

check: setup     ## lint, format, types, import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: setup     ## side by side with peers, ratios; writes benchmarks/results/
	$(BIN)/python -m benchmarks

# BUILDAH_FORMAT: Podman drops the health check otherwise.
image:           ## the service's image, nngp-prior; ACCELERATOR=cuda, ENGINE=podman
	BUILDAH_FORMAT=docker $(ENGINE) build --build-arg ACCELERATOR=$(ACCELERATOR) --tag nngp-prior$(if $(filter cuda,$(ACCELERATOR)),:cuda) .

# Further lock files have the versions of requirements.lock.
lock: setup      ## the lock files from pyproject.toml, with the hashes of the index in use
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --extra service --extra plots --extra dask --extra postgres --group dev pyproject.toml -o requirements.lock
	$(FURTHER) --extra docs pyproject.toml -o requirements-docs.lock
	$(FURTHER) --extra notebooks pyproject.toml -o requirements-notebooks.lock
	$(FURTHER) --group browser -o requirements-browser.lock
	$(FURTHER) --extra service --extra plots --extra dask --extra postgres pyproject.toml -o docker/cpu.lock
	$(FURTHER) --extra service --extra plots --extra dask --extra postgres --extra cuda pyproject.toml -o docker/cuda.lock
	echo hatchling | $(FURTHER) - -o docker/build.lock

clean:           ## remove what the targets made
	rm -rf .venv .venv-gpy site demo experiments .pytest_cache .ruff_cache .hypothesis .import_linter_cache

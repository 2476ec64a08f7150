# Everything the project does, from a machine that has only Python 3.11 and make. `make help` lists it.
#
# What takes long is made once and kept under ~/.cache/reembed: the Kubernetes binary (ten minutes), llama.cpp (five to
# nine), the base of the images (two). Tools come from package registries through their usual clients.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# The Python that everything starts from: 3.11 or newer.
PYTHON ?= python3
# What pytest is given besides: make test-unit ARGS='-k rollback'.
ARGS ?=
# Tests mostly wait: this many run side by side. What they print is seen with WORKERS=0 alone.
WORKERS ?= 2
# Lives that `make sim` simulates.
SEEDS ?= 2000
# Where pods run: local (root on Linux), kind (Docker) or existing (your kubeconfig; images go to REGISTRY).
# Unset, it is local where that can be, else kind.
export CLUSTER REGISTRY

# Targets are run in the order they are listed, whatever -j says; what can go side by side does so in hack/prepare.py.
.NOTPARALLEL:

SIDE_BY_SIDE = --numprocesses=$(WORKERS) --dist=worksteal
VENV := .venv
BIN := $(VENV)/bin
# What programs need that talk to the cluster: its kubeconfig, kubectl and helm, and the tag of the images.
IN_CLUSTER = KUBECONFIG=$(CURDIR)/build/cluster/kubeconfig PATH=$(CURDIR)/build/bin:$$PATH env $$(cat build/images.env)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Tools

.PHONY: venv
venv: $(VENV)/.ready $(VENV)/.llama ## Make the virtual environment .venv from requirements.lock

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@uv=$$($(PYTHON) -m hack.tools uv) && rm -f $(VENV)/.llama \
	  && "$$uv" venv --quiet --allow-existing --python $(PYTHON) $(VENV) \
	  && "$$uv" pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock \
	  && "$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.llama: $(VENV)/.ready $(wildcard native/*)
	@wheel=$$($(PYTHON) -m hack.wheels) \
	  && "$$($(PYTHON) -m hack.tools uv)" pip install --quiet --python $(BIN)/python --no-deps "$$wheel"
	@touch $@

.PHONY: lock
lock: ## Choose the newest versions that pyproject.toml allows and write requirements.lock
	@"$$($(PYTHON) -m hack.tools uv)" pip compile pyproject.toml --quiet --upgrade --all-extras --group dev --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-emit-package llama-cpp-python \
	  --custom-compile-command 'make lock' --output-file requirements.lock

.PHONY: prepare
prepare: ## Build what takes long: Kubernetes, llama.cpp, the base of the images (cached)
	@$(PYTHON) -m hack.prepare

## Checks without a cluster

.PHONY: lint
lint: $(VENV)/.ready ## Check style and formatting
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

.PHONY: types
types: $(VENV)/.ready ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy --package hack --package tests.cluster --package demo

.PHONY: layers
layers: $(VENV)/.ready ## Check which module may import which
	@$(BIN)/lint-imports

.PHONY: generate
generate: $(VENV)/.ready ## Write the files that follow from others: the chart's CRDs, reference pages
	@$(BIN)/python -m hack.generate

.PHONY: verify
verify: lint types layers ## Check style, types, layers, and that generated files are up to date
	@$(BIN)/python -m hack.generate --check

## Tests

.PHONY: test-unit
test-unit: venv ## Test without anything else running
	@$(BIN)/pytest tests/unit $(SIDE_BY_SIDE) $(ARGS)

.PHONY: test-sim
test-sim: venv ## Simulate lives of migrations with faults, by seed: make sim SEEDS=20000 for more
	@$(BIN)/pytest tests/sim $(SIDE_BY_SIDE) $(ARGS)

.PHONY: sim
sim: venv ## Simulate SEEDS lives of migrations, and a tenth as many of pools that scale
	@REEMBED_SIM_SEEDS=$(SEEDS) REEMBED_POOL_SEEDS=$$(($(SEEDS) / 10)) \
	  $(BIN)/pytest tests/sim/test_seeds.py tests/sim/test_seeds_of_pools.py $(SIDE_BY_SIDE) $(ARGS)

.PHONY: test-integration
test-integration: prepare venv ## Test against a real API server, PostgreSQL and model
	@$(BIN)/pytest tests/integration $(SIDE_BY_SIDE) $(ARGS)

.PHONY: test-e2e
test-e2e: cluster images ## Test on real pods
	@$(IN_CLUSTER) $(BIN)/pytest tests/e2e -m "e2e and not soak" $(ARGS)

.PHONY: test-soak
test-soak: cluster images ## Test on real pods what takes longer than ten minutes
	@$(IN_CLUSTER) $(BIN)/pytest tests/e2e -m "e2e and soak" $(ARGS)

.PHONY: test
test: prepare test-unit test-sim test-integration ## Run all tests that this machine can run
	@if obstacle=$$($(PYTHON) -m tests.cluster obstacle 2>&1); then $(MAKE) test-e2e; else \
	  printf '\nThe end-to-end tests did NOT run: %s.\nAll other tests passed.\n' "$$obstacle"; fi

## Benchmarks

.PHONY: bench-operator
bench-operator: prepare venv ## Measure the operator with 1,100 migrations; prints one line of JSON
	@$(BIN)/python -m tests.bench.operator $(ARGS)

.PHONY: llama-server
llama-server: ## Build llama-server (a quarter of an hour, once), which tests of external pools use where it is there
	$(PYTHON) -m hack.llama_server

.PHONY: bench-embedder
bench-embedder: prepare venv ## Measure the embedder beside llama-server, onnxruntime and a plain loop; prints one line of JSON
	@$(PYTHON) -m hack.llama_server >/dev/null
	@$(BIN)/python -m tests.bench.embedder $(ARGS)

.PHONY: bench-data
bench-data: prepare venv ## Measure the backfill beside the embedder alone, a script and vecshift; prints one line of JSON
	@$(BIN)/python -m tests.bench.data $(ARGS)

.PHONY: bench-gates
bench-gates: venv ## Measure on real embeddings what the gates promise; prints one line of JSON
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.gates $(ARGS)

.PHONY: bench-gateway
bench-gateway: venv ## Measure what the gateway costs a query, on a real PostgreSQL; prints one line of JSON
	@$(BIN)/python -m tests.bench.gateway $(ARGS)

.PHONY: bench-shadow
bench-shadow: venv ## Measure what shadow queries cost callers
	@$(BIN)/python -m tests.bench.shadow $(ARGS)

.PHONY: bench-panel
bench-panel: prepare venv ## Measure what a panel costs, how fast it decides and recovers; prints one line of JSON
	@$(BIN)/python -m tests.bench.panel $(ARGS)

## Cluster and demo

.PHONY: cluster
cluster: ## Start a real Kubernetes and leave build/cluster/kubeconfig
	@$(PYTHON) -m tests.cluster up

.PHONY: cluster-down
cluster-down: ## Stop it and leave the machine as it was
	@$(PYTHON) -m tests.cluster down

.PHONY: images
images: $(if $(filter kind existing,$(CLUSTER)),,prepare) cluster venv ## Build the images and bring them to the cluster
	@$(PYTHON) -m hack.images

.PHONY: image-gpu
image-gpu: ## Build the embedder's image for GPUs: GPU_BUILD_BASE, GPU_BASE and IMAGE name what docs/embedder.md says
	@GPU_BUILD_BASE="$(GPU_BUILD_BASE)" GPU_BASE="$(GPU_BASE)" IMAGE="$(IMAGE)" $(PYTHON) -m hack.gpu

.PHONY: demo
demo: images ## Migrate a live index to another model under load, and print what happened
	@$(IN_CLUSTER) $(BIN)/python -m demo.run

.PHONY: demo-rollback
demo-rollback: images ## The same, but the new model's pods are lost half-way
	@$(IN_CLUSTER) $(BIN)/python -m demo.run --rollback

.PHONY: clean
clean: ## Remove what was built here; the caches under ~/.cache/reembed stay
	@rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

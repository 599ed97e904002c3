# The verbs of this project; `make help` lists them. The same on a laptop and in CI.
PYTHON ?= python3
# Tests wait for real servers more than they compute: three processes use up two cores. The files come in their order,
# the long ones (acceptance) first: those with the fewest tests, which come last by default, are the longest.
WORKERS ?= 3
IMAGE ?= heiwa
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests start hundreds of processes, each of which would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Heiwa needs Python 3.11 or newer with venv: install it (Debian: apt install python3 python3-venv), or name it: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@$(PIP) install --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

.PHONY: help run test soak check conformance loadtest demo bench lock clean docs image opensearch dist
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## start the gateway on this machine (Ctrl-C stops it)
	@exec $(BIN)/heiwa serve

test: $(VENV)/.installed-dev ## all tests, on real servers, in WORKERS=3 processes; parts: make test ONLY=tests/unit
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ONLY)

soak: $(VENV)/.installed-dev ## the long storms: 50 kills, big matrices
	@$(BIN)/python -m pytest -m soak $(ONLY)

check: $(VENV)/.installed-dev ## format, lint, types, layers
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python -m pytest -q tests/unit/test_layers.py

conformance: $(VENV)/.installed-dev ## every case of the Autobahn test suite (needs Python 2.7, 12 minutes)
	@$(BIN)/python -m tests.conformance.run --all

loadtest: $(VENV)/.installed-dev ## install what heiwa-loadtest needs, and list its scenarios
	@$(BIN)/heiwa-loadtest list

image: ## the gateway as a container image named IMAGE=heiwa (podman, buildah or docker)
	@image/build.sh $(IMAGE) $(IMAGE_OPTIONS)

opensearch: $(VENV)/.installed ## a real OpenSearch node on this machine, from Maven Central (needs a JDK 21 or newer, and Maven)
	@exec $(BIN)/python -m loadtest.opensearch

dist: $(VENV)/.installed-dev ## wheel and source distribution in dist/, the same bytes from the same commit
	@$(BIN)/python release/build.py

demo: $(VENV)/.installed-dev ## a rolling deploy of 4 gateways with 20,000 devices, without the drain and with it (4 minutes)
	@$(BIN)/heiwa-loadtest run deploy --compare --gateways 4 --devices 20000 --delay 300s --speed 5

bench: $(VENV)/.installed-dev ## all figures, beside peers in the same run (an hour); a part: make bench ONLY=commands
	@$(BIN)/python -m loadtest.bench $(if $(ONLY),--only $(ONLY))

docs: $(VENV)/.installed ## renew the generated pages of docs/
	@$(BIN)/python docs/generate.py

lock: $(VENV)/.installed-dev ## renew the lock files from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --group build pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --group build --group dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --group pyproject.toml:build --group pyproject.toml:image -o requirements-image.lock

clean: ## remove the virtual environment and caches (never the data folder)
	@rm -rf $(VENV) .cache

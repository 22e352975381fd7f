# Thin targets: each is one command that can be run by hand as well.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Debian's own build where it will do: it is optimised (a tenth to a fifth less time than one that a version manager built), and what users have.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
FORMAT ?= table
SUITE ?= converge
INVENTORY ?= inventories/lab
LOCKS := requirements/bootstrap.txt requirements/controller.txt requirements/mev.txt requirements/mev-fleet.txt requirements/mev-traces.txt requirements/build.txt requirements/test.txt
LOCK = $(UV) pip compile --quiet --generate-hashes --universal --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make locks"

# Each of Ansible's many worker processes would compile its plugins anew.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## What can be done here
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{n = split($$1, target, ":"); printf "  make %-14s %s\n", target[1], $$2}'

.PHONY: lab
lab: venv ## One lab host with six chains behind TLS and a live engine; can be run again at any time
	@python -m lab all

.PHONY: lab-status
lab-status: venv ## What runs where (FORMAT=json for programs)
	@python -m lab status --format $(FORMAT)

.PHONY: lab-shell
lab-shell: venv ## A shell on the lab host mev1
	@python -m lab shell

.PHONY: lab-down
lab-down: venv ## Remove what this checkout's lab made, and nothing else
	@python -m lab down

.PHONY: test
test: venv ## Everything that proves it
	@python -m tests.suite prerequisites lint unit molecule e2e

.PHONY: lint
lint: venv ## ansible-lint, yamllint, ruff, mypy, import-linter
	@python -m tests.suite lint

.PHONY: unit
unit: venv ## Unit, contract and integration tests
	@python -m tests.suite prerequisites unit

.PHONY: properties
properties: venv ## The property tests on cases that no run had before (ARGS=--hypothesis-seed=1 for some again)
	@python -m pytest -q --hypothesis-profile=random -m hypothesis $(ARGS) tests/unit tests/contract

.PHONY: molecule
molecule: venv ## Each role on a host of its own
	@python -m tests.suite prerequisites molecule

.PHONY: e2e
e2e: venv ## The lab from outside
	@python -m tests.suite prerequisites e2e

.PHONY: bench
bench: venv ## Measure (SUITE=clients, converge, edge, engine, host or inspect); JSON on standard output
	@python -m tests.bench $(SUITE)

.PHONY: audit
audit: venv ## What outside judges say of the fleet (INVENTORY=inventories/lab; ARGS=...), in .build/audit
	@ansible-playbook -i $(INVENTORY) playbooks/audit.yml $(ARGS)

.PHONY: docs
docs: venv ## Write the generated pages again
	@python -m docs.generate

.PHONY: pin-releases
pin-releases: venv ## What upstream's checksum files, signatures and registries say, as the catalogue's pins (ARGS=--check, …)
	@python -m distribution.pins $(ARGS)

.PHONY: venv
venv: $(VENV)/.ready ## The controller's tools, from the hashed locks

$(VENV)/.ready: $(LOCKS) pyproject.toml hatch_build.py lab/bootstrap.sh files/mev/trading/execution/executor.vy
	@./lab/bootstrap.sh $(PYTHON) $(VENV)
	@touch $@

.PHONY: locks
locks: ## Resolve requirements/*.txt again from pyproject.toml
	$(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(LOCK) pyproject.toml --extra numeric -o requirements/mev.txt
	$(LOCK) pyproject.toml --extra numeric --extra postgres --extra redis -c requirements/mev.txt -o requirements/mev-fleet.txt
	$(LOCK) pyproject.toml --extra numeric --extra postgres --extra redis --extra traces -c requirements/mev-fleet.txt -o requirements/mev-traces.txt
	$(LOCK) --group build -o requirements/build.txt
	$(LOCK) requirements/certbot.in -o requirements/certbot.txt
	$(LOCK) requirements/sslyze.in -o requirements/sslyze.txt
	$(LOCK) --group controller -c requirements/mev.txt -o requirements/controller.txt
	$(LOCK) --group bench-engine -o requirements/bench-engine.txt
	$(LOCK) --group test --group controller pyproject.toml --extra numeric --extra postgres --extra redis --extra traces -c requirements/mev.txt -c requirements/mev-fleet.txt -c requirements/mev-traces.txt -c requirements/controller.txt -o requirements/test.txt

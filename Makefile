# Thin targets: each is one command that can be run by hand as well.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
FORMAT ?= table
LOCKS := requirements/bootstrap.txt requirements/controller.txt requirements/mev.txt requirements/build.txt requirements/test.txt
LOCK = $(UV) pip compile --quiet --generate-hashes --universal --no-emit-index-url --no-emit-find-links --python-version 3.11 --custom-compile-command "make locks"

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## What can be done here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.ready ## The controller's tools, from the hashed locks

$(VENV)/.ready: $(LOCKS)
	@./lab/bootstrap.sh $(PYTHON) $(VENV)
	@touch $@

.PHONY: locks
locks: ## Resolve requirements/*.txt again from pyproject.toml
	$(LOCK) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(LOCK) pyproject.toml --extra numeric -o requirements/mev.txt
	$(LOCK) --group build -o requirements/build.txt
	$(LOCK) --group controller -c requirements/mev.txt -o requirements/controller.txt
	$(LOCK) --group test --group controller pyproject.toml --extra numeric -c requirements/mev.txt -c requirements/controller.txt -o requirements/test.txt

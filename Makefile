# Every target sets up what it needs; a second run installs nothing.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The whole environment, and what `make run` needs of it.
READY := $(VENV)/.ready-all
READY_RUN := $(VENV)/.ready-run

export AIKEYS_REQUIRE

.PHONY: help run test long check lock bench guards policy-differential differential crash faults fuzz clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

run: $(READY_RUN) ## A real OpenBao, a relay and the sidecar on this machine, with a first key
	@$(BIN)/aikeys dev $(ARGS)

# Most tests wait for a real server: four at a time keep two cores busy. Files go out in their order, so that those with
# many short tests come last and fill the gaps. ARGS="-n 0" runs one after the other.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test: $(READY) ## All tests but the long ones (ARGS="-k creds" narrows them)
	@$(PYTEST) $(ARGS)

long: $(READY) ## The tests that have targets of their own below, in their everyday size
	@$(PYTEST) tests/crash tests/differential tests/faults tests/fuzz $(ARGS)

check: $(READY) ## ruff, mypy --strict, import-linter, terraform
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@scripts/check-terraform

lock: $(READY) ## Compile requirements/*.txt again from pyproject.toml
	@scripts/lock

bench: $(READY) ## Measure against OpenBao's own engines; writes docs/benchmarks.md
	@$(BIN)/python -m tests.bench $(ARGS)

guards: $(READY) ## Turn each guard off in a copy and see its test go red (ARGS="name" narrows it)
	@$(BIN)/python -m tests.guards $(ARGS)

policy-differential: $(READY) ## Compare our judgement of policies with both servers' on N sets (N=5000)
	@AIKEYS_POLICY_SETS=$(or $(N),5000) $(BIN)/python -m pytest tests/integration/test_policy_differential.py $(ARGS)

differential: $(READY) ## Compare our leases with both servers' own, in N steps of any client's requests (N=10000)
	@AIKEYS_DIFFERENTIAL_STEPS=$(or $(N),10000) $(BIN)/python -m pytest tests/differential $(ARGS)

crash: $(READY) ## Kill the process at every durable step, over N issued keys and more (N=1000)
	@AIKEYS_CRASH_ISSUANCES=$(or $(N),1000) $(BIN)/python -m pytest tests/crash $(ARGS)

faults: $(READY) ## Every relay call with every fault, and N rounds of faults under load (N=200)
	@AIKEYS_FAULT_ROUNDS=$(or $(N),200) $(PYTEST) tests/faults $(ARGS)

fuzz: $(READY) ## N generated requests at what we own, and no error of ours (N=100000)
	@AIKEYS_FUZZ_REQUESTS=$(or $(N),100000) $(BIN)/python -m pytest tests/fuzz $(ARGS)

clean: ## Remove the environment and every cache of the checkout
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build .aikeys
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY_RUN): requirements/run.txt pyproject.toml
	@scripts/environment run

$(READY): requirements/all.txt requirements/run.txt pyproject.toml
	@scripts/environment all

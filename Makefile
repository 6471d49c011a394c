.DEFAULT_GOAL := help
.PHONY: help setup check check-full format bench-readme decisions decisions-readme demo
PYTHON ?= python3
VENV ?= .venv
# a file of tests at a time each, as its fixtures are made once
TWO := -n 2 --dist loadfile
LOG := $(or $(TMPDIR),/tmp)/sto-engine-long.txt
BIN := $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/,)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## make .venv with everything a developer needs
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -c constraints.txt -e '.[cpu,dev]'

check: ## format, lint, types and the quick tests: run it before every commit
	$(BIN)ruff format --check .
	$(BIN)ruff check .
	$(BIN)mypy
	$(BIN)python -m pytest -q $(TWO) -m 'not slow and not long and not ray and not gpu and not svc'

check-full: ## the same with every test; what CI leaves out goes to tests/long.log, which is committed
	$(BIN)ruff format --check .
	$(BIN)ruff check .
	$(BIN)mypy
	$(BIN)python -m pytest -q $(TWO)
	: > tests/long.log
	for what in 'long and not ray' 'long and ray'; do \
	  $(BIN)python -m pytest -q -m "$$what" > $(LOG) 2>&1; code=$$?; tail -n 3 $(LOG); \
	  printf '%s, %s: %s\n' "$$(git rev-parse --short=12 HEAD)" "$$what" "$$(tail -n 1 $(LOG))" >> tests/long.log; \
	  [ $$code -eq 0 ] || exit $$code; \
	done

format: ## let ruff format the code and mend what it can
	$(BIN)ruff format .
	$(BIN)ruff check --fix .

bench-readme: ## write the tables of the READMEs from benchmarks/results
	$(BIN)python -m sto_bench.report

decisions: ## measure how well the policies decide, into benchmarks/results (an hour)
	$(BIN)python -m sto_decisions

decisions-readme: ## write their tables and chart from the results
	$(BIN)python -m sto_decisions.report

demo: ## a simulated sender from mailings to send times
	$(BIN)sto-engine demo

# Everything works in .venv, which the first target that needs it makes. GNU make 3.81 (macOS) will do.
#   make run CORES=4                               on four cores only
#   make run ARGS="--configfile config/smoke.yaml"  further arguments for snakemake
#   make test ARGS="-k storage -n 2"               or for pytest
#   make setup PYTHON=python3.12                   with another interpreter

PYTHON ?= python3
CORES ?= all
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup run test lint bench coverage metrics lock schema clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with the pinned packages of requirements.lock

run: $(STAMP) ## run the grid of config.yaml (CORES=all, ARGS=)
	$(BIN)/snakemake --cores $(CORES) $(ARGS)
	@echo
	@echo "Done. Unless you named another results folder:"
	@echo "  tables   results/tables/    (begin with comparisons.csv)"
	@echo "  figures  results/figures/"
	@echo "  report   results/report.html  (open it in a browser; it needs no network)"

test: $(STAMP) ## run the tests (ARGS=)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## check style, formatting, types and the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

bench: $(STAMP) ## measure how long the stages take (ARGS=)
	$(BIN)/python bench/run.py $(ARGS)

coverage: $(STAMP) ## run every attribution method and write docs/coverage.md from that
	$(BIN)/snakemake attribute-all --cores 1 --configfile config/methods.yaml
	$(BIN)/python docs/coverage.py

metrics: $(STAMP) ## compute every metric on the default methods and write docs/metrics.md from that
	$(BIN)/snakemake evaluate-all --cores all --configfile config/all-metrics.yaml
	$(BIN)/python docs/metrics_page.py

# The pins of the old lock are kept where they still fit. The sed takes away the condition that holds
# for whatever this project runs on at all, so that on anything else pip says what is missing.
lock: $(STAMP) ## write requirements.lock anew from pyproject.toml (ARGS=--upgrade: newest versions)
	$(BIN)/python -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
	    --extra dev --group lock --output-file requirements.lock $(ARGS) pyproject.toml
	sed -e "s/ ; python_full_version < '3.15' and (sys_platform == 'darwin' or sys_platform == 'linux')$$//" \
	    -e "s/python_full_version < '3.15' and //" requirements.lock > requirements.lock.new
	mv requirements.lock.new requirements.lock

schema: $(STAMP) ## write the config's JSON schema for editors anew
	$(BIN)/python -c "from clarity.config import json_schema; from clarity.storage import write_json; \
	    write_json('workflow/schemas/config.schema.json', json_schema())"

clean: ## remove caches and build leftovers; results/ and .venv stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	find src tests workflow -type d -name __pycache__ -prune -exec rm -rf {} +

# Without dependency resolution: the lock is complete, and Quantus's own wish for opencv-python is
# replaced in it (see pyproject.toml).
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	    echo "CLarity needs Python 3.11 to 3.14, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)"; \
	    echo "Name another one:  make setup PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv: a download of up to 3 GB (the GPU libraries of torch on Linux), some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

# make demo [DATA=<folder>]   sets up if need be, then takes data to a served, queried, measured ensemble in runs/demo
# make test                   sets up if need be, runs all tests
# make peers                  installs the engines that `mews bench etl` measures beside Mews: DuckDB, PySpark (needs Java)
# make check                  lint, types, and what the repository promises about itself
# make lock                   resolves requirements/*.in into requirements/*.lock
# make clean                  removes what setup and the demo made

SHELL := /bin/bash
DATA ?=
DEMO_ARGS ?=
BIN := .venv/bin

.PHONY: setup demo test check peers lock clean

setup:
	@python3 bootstrap.py

demo: setup
	@$(BIN)/mews demo $(if $(DATA),--data "$(DATA)") $(DEMO_ARGS)

test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered $(TEST_ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

peers: setup
	@export PATH="$(CURDIR)/.uv/bin:$$PATH"; \
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/peers.lock

RESOLVE = uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header
COMPILE = $(RESOLVE) --python-version 3.11
GPU = --python-version 3.12 --python-platform x86_64-manylinux_2_28
lock: setup
	@export PATH="$(CURDIR)/.uv/bin:$$PATH"; \
	$(COMPILE) --override requirements/overrides.txt requirements/dev.in -o requirements/dev.lock && \
	$(COMPILE) --override requirements/overrides.txt -c requirements/dev.lock requirements/main.in -o requirements/main.lock && \
	$(COMPILE) --no-deps requirements/triton.in -o requirements/triton.lock && \
	$(COMPILE) -c requirements/dev.lock requirements/peers.in -o requirements/peers.lock && \
	$(RESOLVE) $(GPU) requirements/etl-gpu.in -o requirements/etl-gpu.lock && \
	$(COMPILE) requirements/uv.in -o requirements/uv.lock

clean:
	@rm -rf .venv .uv runs build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

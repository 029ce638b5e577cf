# `make help` lists the targets. They share one virtual environment, .venv, which is brought up to date when pyproject.toml changes.
# `make demo` has a small one of its own, .venv-demo.

PYTHON ?= python3
BIN := .venv/bin
# What `make pythons` tests on: versions, or uvloop; all when empty.
PYTHONS ?=
CHECK_PYTHON = @$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name it with make PYTHON=python3.11 ...")'

# Tests wait more than they compute.
IN_PARALLEL = --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast pythons soak bench bench-smoke check dist package format docs docs-serve pictures clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

.venv/.installed: pyproject.toml
	$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[local,opentelemetry,redis]' --group dev
	@touch $@

.venv-demo/.installed: pyproject.toml
	$(CHECK_PYTHON)
	@echo "Installing the example app and what it needs into .venv-demo: about 40 packages, 120 MB. Once only."
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --quiet --upgrade pip
	@.venv-demo/bin/python -m pip install --quiet --editable '.[local]' --group example
	@touch $@

demo: .venv-demo/.installed  ## start the example app and the local marketplace
	@echo "Starting the example app and the local marketplace."
	@.venv-demo/bin/python -m example_app.demo

test: .venv/.installed  ## run every test in parallel, with branch coverage
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(IN_PARALLEL)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-fast: .venv/.installed  ## run what takes no time and needs neither Chromium nor Redis
	$(BIN)/python -m pytest --quiet $(IN_PARALLEL) -m "not slow and not browser and not service"

pythons: .venv/.installed  ## run the core tests on each Python that we support, and on uvloop
	@$(BIN)/python -m tests.pythons $(PYTHONS)

soak: .venv/.installed  ## 20 000 registrations of every kind against a host on a socket
	@$(BIN)/python -m tests.soak

bench: .venv/.installed  ## measure speed against its rivals, and write docs/performance.md
	@$(BIN)/python -m benchmarks

bench-smoke: .venv/.installed  ## see that the benchmarks run
	@$(BIN)/python -m benchmarks --smoke

check: .venv/.installed  ## lint, formatting, types, GitHub's workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/zizmor --offline --pedantic --strict-collection --no-progress --quiet .github
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint is not installed, so only GitHub's CI runs it."; fi

dist: .venv/.installed  ## build the wheel and the sdist into dist/
	@rm -rf dist
	$(BIN)/python -m build --quiet

package: dist  ## look into the wheel and the sdist, and test the wheel on the oldest and the newest dependencies
	@$(BIN)/python -m tests.package

format: .venv/.installed  ## mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.installed  ## build the documentation into site/; a broken link or snippet fails
	$(BIN)/zensical build --strict --clean
	@$(BIN)/python -m docs.links

docs-serve: .venv/.installed  ## show the documentation on 127.0.0.1:8002 while you write it
	$(BIN)/zensical serve --dev-addr 127.0.0.1:8002

pictures: .venv/.installed  ## take the pictures of the documentation anew
	$(BIN)/python -m docs.pictures

clean:  ## remove the environments, the demo's data and the caches
	rm -rf .venv .venv-demo .demo .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache dist site

# `make help` lists the targets. They share one virtual environment, .venv, which is brought up to date when pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench bench-smoke check dist package format docs docs-serve pictures clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name it with make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[local,opentelemetry,redis]' --group dev
	@touch $@

demo: .venv/.installed  ## start the example app and the local marketplace
	@$(BIN)/python -m example_app.demo

test: .venv/.installed  ## run every test, with branch coverage
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

soak: .venv/.installed  ## 20 000 registrations of every kind against a host on a socket
	@$(BIN)/python -m tests.soak

bench: .venv/.installed  ## measure speed against its rivals, and write docs/performance.md
	@$(BIN)/python -m benchmarks

bench-smoke: .venv/.installed  ## see that the benchmarks run
	@$(BIN)/python -m benchmarks --smoke

check: .venv/.installed  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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

docs-serve: .venv/.installed  ## show the documentation on 127.0.0.1:8000 while you write it
	$(BIN)/zensical serve

pictures: .venv/.installed  ## take the pictures of the documentation anew
	$(BIN)/python -m docs.pictures

clean:  ## remove the environment, the demo's data and the caches
	rm -rf .venv .demo .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .cache dist site

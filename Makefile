# make demo · test · lint · bench · chaos: each sets up all that it needs in .venv, once.

PYTHON ?= python3
BIN := .venv/bin
PACKAGES := sdk platform $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DS_ACCELERATOR ?= $(if $(wildcard /proc/driver/nvidia),,cpu)

.PHONY: demo test lint bench chaos clean

demo: .venv/.installed
	@sh demo.sh

test: .venv/.tools
	@$(BIN)/pytest -m "not bench and not chaos" $(ARGS)

lint: .venv/.tools
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

bench: .venv/.tools
	@$(BIN)/pytest -m bench -s tests/benchmarks $(ARGS)

chaos: .venv/.tools
	@$(BIN)/pytest -m chaos -s $(ARGS)

clean:
	rm -rf .venv demo build */build plugins/*/build
	find . -name '*.egg-info' -prune -exec rm -rf {} +

.venv/.installed: constraints.txt $(addsuffix /pyproject.toml,$(PACKAGES))
	@echo "installing into .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools $(patsubst %/platform,'%/platform[engines]',$(addprefix -e ./,$(PACKAGES))) 2> .venv/pip.log || (cat .venv/pip.log; exit 1)
	@touch $@

.venv/.tools: .venv/.installed tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r tests/requirements.txt 2>> .venv/pip.log || (cat .venv/pip.log; exit 1)
	@touch $@

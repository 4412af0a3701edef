# The main targets are `make demo` and `make test`. Each installs what it needs into this folder.
# They run on Linux and macOS with any Python from 3.10, for example `make demo PYTHON=python3.12`.
PYTHON ?= python3
VERSION = $(shell $(PYTHON) -c 'import sys; sys.version_info >= (3, 10) and print(sys.base_prefix, sys.version)' 2>/dev/null)
# Makes an environment, anew if the Python differs from that of the last time.
VENV = $(PYTHON) -m venv $(if $(filter .python,$?),--clear) $(@D)
PIP = $(@D)/bin/pip install --quiet --disable-pip-version-check
# The tests of the modules that need no server.
QUICK = tests/test_records.py tests/test_incremental.py tests/test_pagination.py tests/test_verified_read.py \
	tests/test_prefetch.py tests/test_model.py

.PHONY: demo test quick examples lint mutants clean FORCE

demo: .venv/done .meltano/done
	.venv/bin/python -m sandbox.demo

test: .venv/done .meltano/done
	.venv/bin/python -m pytest -n 2 --dist loadfile

quick: .venv/done
	.venv/bin/python -m pytest $(QUICK)

# The tests of examples/, which need dbt and Dagster.
examples: .venv-examples/done .meltano/done
	.venv-examples/bin/python -m pytest examples/tests

lint: .venv/done
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# Mutation testing of the verified read, in a copy of the code: shows the mutants that survive. Takes more than two hours.
mutants: .venv/done .venv-mutation/done
	rm -rf .mutants
	mkdir .mutants
	cp -r tap_trackly tests pyproject.toml mutation.toml .mutants
	cd .mutants && ../.venv-mutation/bin/cosmic-ray init mutation.toml session.sqlite
	cd .mutants && ../.venv-mutation/bin/cr-filter-operators session.sqlite mutation.toml
	cd .mutants && ../.venv-mutation/bin/cosmic-ray exec mutation.toml session.sqlite
	cd .mutants && ../.venv-mutation/bin/cr-report --surviving-only --show-diff session.sqlite

clean:
	rm -rf .python .venv .venv-examples .venv-meltano .venv-mutation .meltano .mutants output

.python: FORCE
	$(if $(VERSION),,$(error Python 3.10 or later is needed: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12))
	@test "$$(cat $@ 2>/dev/null)" = '$(VERSION)' || echo '$(VERSION)' > $@

.venv/done: .python pyproject.toml requirements/dev.txt
	$(VENV)
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	touch $@

.venv-examples/done: .python pyproject.toml requirements/examples.txt
	$(VENV)
	$(PIP) -r requirements/examples.txt
	$(PIP) --no-deps --editable .
	touch $@

.venv-meltano/done: .python requirements/meltano.txt
	$(VENV)
	$(PIP) -r requirements/meltano.txt
	touch $@

.venv-mutation/done: .python requirements/mutation.txt
	$(VENV)
	$(PIP) -r requirements/mutation.txt
	touch $@

.meltano/done: .python .venv-meltano/done meltano.yml pyproject.toml requirements/*.txt
	$(if $(filter .python,$?),rm -rf .meltano/extractors .meltano/loaders)
	.venv-meltano/bin/meltano install
	touch $@

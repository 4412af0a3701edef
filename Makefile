# The main targets are `make demo` and `make test`. Each installs what it needs into this folder.
PYTHON ?= python3

.PHONY: demo test lint mutants clean

demo: .venv/done .meltano/done
	.venv/bin/python -m sandbox.demo

test: .venv/done .meltano/done
	.venv/bin/python -m pytest

lint: .venv/done
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# Mutation testing of the verified read, in a copy of the code: shows the mutants that survive. Takes up to an hour.
mutants: .venv/done .venv-mutation/done
	rm -rf .mutants
	mkdir .mutants
	cp -r tap_trackly tests pyproject.toml mutation.toml .mutants
	cd .mutants && ../.venv-mutation/bin/cosmic-ray init mutation.toml session.sqlite
	cd .mutants && ../.venv-mutation/bin/cr-filter-operators session.sqlite mutation.toml
	cd .mutants && ../.venv-mutation/bin/cosmic-ray exec mutation.toml session.sqlite
	cd .mutants && ../.venv-mutation/bin/cr-report --surviving-only --show-diff session.sqlite

clean:
	rm -rf .venv .venv-meltano .venv-mutation .meltano .mutants output

.venv/done: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv-meltano/done: requirements/meltano.txt
	$(PYTHON) -m venv .venv-meltano
	.venv-meltano/bin/pip install --quiet --disable-pip-version-check -r requirements/meltano.txt
	touch $@

.venv-mutation/done: requirements/mutation.txt
	$(PYTHON) -m venv .venv-mutation
	.venv-mutation/bin/pip install --quiet --disable-pip-version-check -r requirements/mutation.txt
	touch $@

.meltano/done: .venv-meltano/done meltano.yml pyproject.toml requirements/*.txt
	.venv-meltano/bin/meltano install
	touch $@

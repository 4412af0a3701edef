# Two commands: `make demo` and `make test`. Each makes what it needs inside this folder.
PYTHON ?= python3

.PHONY: demo test lint clean

demo: .venv/done .meltano/done
	.venv/bin/python -m sandbox.demo

test: .venv/done .meltano/done
	.venv/bin/python -m pytest

lint: .venv/done
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

clean:
	rm -rf .venv .venv-meltano .meltano output

.venv/done: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv-meltano/done: requirements/meltano.txt
	$(PYTHON) -m venv .venv-meltano
	.venv-meltano/bin/pip install --quiet --disable-pip-version-check -r requirements/meltano.txt
	touch $@

.meltano/done: .venv-meltano/done meltano.yml pyproject.toml requirements/*.txt
	.venv-meltano/bin/meltano install
	touch $@

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo-output
export DIRECTIONS_LIBRARY ?= $(CURDIR)/$(DEMO)/library

.PHONY: install demo test check clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,check]'
	touch $@

# The main job on the embedded models: discover, list, edit.
demo: install
	$(BIN)/mkdir-direction cat dog
	$(BIN)/directions
	$(BIN)/edit-image examples/cat.png -d cat2dog -o $(DEMO)/cat2dog.png --sheet --force

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO)

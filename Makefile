PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo-output
export DIRECTIONS_LIBRARY ?= $(CURDIR)/$(DEMO)/library

.PHONY: install demo test check starter clean

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

# The directions that ship with the package; on the same kind of processor byte for byte.
starter: install
	rm -rf library/starter
	DIRECTIONS_LIBRARY= DIRECTIONS_PATH= DIRECTIONS_AUTHOR="the edit-directions authors" SOURCE_DATE_EPOCH=1795564800 \
		OMP_NUM_THREADS=1 $(BIN)/mkdir-direction --pairs zoo/recipe/starter.csv --models embedded --no-cache --library library/starter

clean:
	rm -rf $(VENV) $(DEMO)

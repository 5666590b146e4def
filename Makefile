# `make` alone tells what there is.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# What shares something dear runs in one process, longest first: see tests/conftest.py.
PYTEST := -m pytest -n 2 --dist loadgroup --no-loadscope-reorder
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export NO_MKDOCS_2_WARNING := 1

.PHONY: help install demo champion detector figures test test-all cluster-test package-test coverage docs lint constraints clean

help: ## What each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## Make .venv with everything pinned

$(INSTALLED): requirements.txt requirements-dev.txt constraints.txt pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v != (3, 11) and "constraints.txt pins packages for Python 3.11, found %d.%d: make PYTHON=python3.11, or pip install .[all]" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt -c constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(INSTALLED) ## Train on synthetic faces for a few minutes, evaluate, and draw points into an image
	$(PY) -m fkp demo

champion: $(INSTALLED) ## Fetch the faces and train the models of saved_models again, into runs/
	$(PY) -m fkp data fetch
	$(PY) -m fkp data fetch --set sfhq
	$(PY) -m fkp data fetch --set congress
	$(PY) -m fkp train --config configs/champion.yaml --track.run_name champion
	$(PY) -m fkp train --config configs/tiny.yaml --track.run_name tiny
	$(PY) -m fkp train --config configs/large.yaml --track.run_name large

detector: $(INSTALLED) ## Fetch faces and backgrounds and train the face detector of saved_models again, into runs/
	$(PY) -m fkp data fetch
	$(PY) -m fkp data fetch --set sfhq
	$(PY) -m fkp data fetch --set backgrounds
	$(PY) -m fkp train --config configs/detector.yaml --track.run_name detector

figures: $(INSTALLED) ## Make the images of docs/images again: needs the real faces (`fkp data fetch`) and chromium
	$(PY) benchmarks/figures.py

test: lint ## Before each commit: style, types, contracts, and the tests that are fast
	$(PY) $(PYTEST) -m "not slow and not hosts"

test-all: lint ## Before a merge: every test but those on three hosts
	$(PY) $(PYTEST) -m "not hosts"

cluster-test: $(INSTALLED) ## `ray up` on three hosts of this machine, with faults: needs root, iproute2 and an OpenSSH server
	$(PY) -m pytest -m hosts tests/cluster -x

coverage: $(INSTALLED) ## Which lines of fkp `make test-all` runs, in processes and Ray workers too
	$(PY) -m coverage erase
	$(PY) -m coverage run $(PYTEST) -m "not hosts"
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

package-test: $(INSTALLED) ## The wheel in fresh environments of Python 3.11 to 3.13; as root also in a Debian 13, and cluster/Dockerfile
	$(PY) tests/installed.py
	if [ "$$(id -u)" = 0 ] && command -v debootstrap >/dev/null; then $(PY) tests/installed.py --debian && $(PY) tests/installed.py --image; fi

docs: $(INSTALLED) ## The site, into site/; a link that leads nowhere is an error
	$(PY) -m mkdocs build --strict

lint: $(INSTALLED) ## Style, types and who may import whom
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache

constraints: $(INSTALLED) ## Write constraints.txt anew from .venv
	{ echo '# Every package of a working installation, made with `make constraints`.'; \
	  $(PY) -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.txt

clean: ## Remove what the demo and the tests made; runs/, searches and fetched data stay
	if [ -d .cache ]; then find .cache -mindepth 1 -maxdepth 1 ! -name searches ! -name runs -exec rm -rf {} +; fi
	rm -rf out runs/demo data/synthetic

# The repository's commands. Each sets up what it needs: Python >= 3.11 and make are enough.
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && { command -v $$p; break; }; done)
# Airflow 2.11 has no Python 3.13.
OLDER_PYTHON := $(shell for p in python3.12 python3.11; do $$p -c 'import venv, ensurepip' 2>/dev/null \
  && { command -v $$p; break; }; done)
NEWEST := .venv
OLDEST := .venv-2.11
CELERY := .venv-celery
RUN := $(NEWEST)/bin/python
# Whoever only wants to see it need not wait for linters and test tools.
SHOW := $(if $(wildcard $(NEWEST)/ready),$(NEWEST)/ready,$(NEWEST)/demo)
PARALLEL := --numprocesses auto --dist worksteal
ONCE_MORE := $(if $(AGAIN),--last-failed --last-failed-no-failures none)

.PHONY: help demo up test test-airflow lint oldest package test-matrix test-releases test-broken e2e watched e2e-celery benchmark simulation constraints pages docs pictures docs-links clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(SHOW)  ## Fail real DAGs in a real Airflow, in an outage too, and show their incidents
	@$(RUN) -m tools.demo

up: $(SHOW)  ## Leave a real Airflow and a local incident.io running until Ctrl-C
	@$(RUN) -m tools.demo --stay

test: $(NEWEST)/ready  ## Run every test that needs no whole Airflow (TESTS=tests/api: these; COVERAGE=1, RANDOM=1, AGAIN=1)
	$(RUN) -m pytest -m "not airflow" $(if $(AGAIN),$(ONCE_MORE),$(PARALLEL)) $(if $(COVERAGE),--cov --cov-report=term) $(if $(RANDOM),--random-order) $(TESTS)

test-airflow: $(NEWEST)/ready  ## Run the tests that drive a whole Airflow (TESTS=tests/airflow/test_link.py: these)
	$(RUN) -m pytest $(TESTS) -m airflow $(ONCE_MORE)

lint: $(NEWEST)/ready  ## Check style, types, the direction of imports, and .github
	$(NEWEST)/bin/ruff check .
	$(NEWEST)/bin/ruff format --check .
	$(NEWEST)/bin/mypy
	$(NEWEST)/bin/lint-imports
	$(NEWEST)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(NEWEST)/bin/check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(NEWEST)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(NEWEST)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

oldest: $(OLDEST)/ready  ## Fail one DAG on the oldest supported Airflow
	$(OLDEST)/bin/python -m pytest tests/airflow/test_oldest.py tests/airflow/test_oldest_policy.py -m ""

test-matrix: $(NEWEST)/ready  ## Run every test on every supported Airflow (ONLY=3.1: on this one)
	@$(RUN) -m tools.matrix $(if $(ONLY),--only $(ONLY)) $(if $(TESTS),-- $(TESTS))

test-releases: $(NEWEST)/ready  ## Install the wheel on what each Airflow's release had, and test it (ONLY=3.1: on this one)
	@$(RUN) -m tools.releases $(if $(ONLY),--only $(ONLY))

test-broken: $(NEWEST)/ready  ## Break one compatibility line at a time; the tests must notice (ONLY=3.1: on this one)
	@$(RUN) -m tools.broken $(if $(ONLY),--only $(ONLY))

e2e: $(NEWEST)/ready  ## See that nothing of ours harms a real Airflow (ONLY=3.1, DATABASE=sqlite: only there)
	@$(RUN) -m tools.e2e $(if $(ONLY),--only $(ONLY)) $(if $(DATABASE),--database $(DATABASE))

watched: $(NEWEST)/ready  ## Fail a hundred runs of a real Airflow in trouble; the watcher must miss none (ONLY=3.1)
	@$(RUN) -m tools.e2e --watched $(if $(ONLY),--only $(ONLY))

e2e-celery: $(CELERY)/ready  ## Fail 200 tasks on two Celery workers, kill one, and count the incidents
	@$(CELERY)/bin/python -m tools.distributed

benchmark: $(NEWEST)/ready  ## Measure parse cost and one notification, beside the peers
	$(RUN) -m benchmarks
	$(RUN) -m benchmarks.journal

simulation: $(NEWEST)/ready  ## Simulate a day of the journal in trouble, and draw it
	@$(RUN) -m pip --disable-pip-version-check install -qq --constraint constraints/airflow-3.3.txt --group simulation
	@$(RUN) -m benchmarks.simulation

package: $(NEWEST)/ready  ## Build wheel and sdist into dist, check and install both, and list what came with them
	@$(RUN) -m tools.package

constraints: $(NEWEST)/ready  ## Resolve the pinned versions anew
	$(RUN) -m tools.pin

pages: $(NEWEST)/ready  ## Write examples, options, commands and errors into README and docs
	@$(RUN) -m tools.pages

docs: $(NEWEST)/ready  ## Build the documentation into build/docs; what leads nowhere, or is cut at 1280 pixels, is an error
	$(RUN) -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	$(RUN) -m tools.columns build/docs

pictures:  ## Draw the documentation's pictures from their sources, with Graphviz
	dot -Tsvg -o docs/images/flow.svg docs/images/flow.dot

docs-links: $(NEWEST)/ready  ## Ask the internet for every page that the documentation links to
	$(RUN) -m sphinx --builder linkcheck --quiet docs build/links

clean:  ## Remove what these commands made
	rm -rf build dist .venv .venv-[0-9]* .venv-celery .venv-peers .demo .distributed .e2e .matrix .measured .releases .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

$(NEWEST)/ready: GROUP := dev
$(NEWEST)/demo: GROUP := demo
$(NEWEST)/ready $(NEWEST)/demo: pyproject.toml constraints/airflow-3.3.txt tools/install.py
	@$(if $(PYTHON),,$(error no Python from 3.11 to 3.13 with venv was found; install one and run make again))
	@$(PYTHON) -m tools.install $(NEWEST) constraints/airflow-3.3.txt $(GROUP)
	@touch $@

$(CELERY)/ready: pyproject.toml constraints/celery.txt tools/install.py
	@$(if $(PYTHON),,$(error no Python from 3.11 to 3.13 with venv was found; install one and run make again))
	@$(PYTHON) -m tools.install $(CELERY) constraints/celery.txt celery
	@touch $@

.venv-%/ready: pyproject.toml constraints/airflow-%.txt tools/install.py
	@$(if $(PYTHON),,$(error no suitable Python was found; install one and run make again))
	@$(PYTHON) -m tools.install .venv-$* constraints/airflow-$*.txt test
	@touch $@

$(OLDEST)/ready: PYTHON := $(OLDER_PYTHON)

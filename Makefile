# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLS := .cache/tools
# the environment's programs come first, for make and for what DVC starts
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

STAGES := eda evaluate
FORMATTED := nbs tests bench voila.py setup.py

.DEFAULT_GOAL := help
.PHONY: help env run app check check-sample test lint types export sync ship verify bench bench-app faults coverage tools constraints audit sbom sign release clean \
  programs pull pulled promote push report artefact rebuild comment docs dist rehearse

help: ## list the commands
	@echo "make run                 sample data, all stages, reports and a model"
	@echo "make run DATA=folder     the same on your radiographs"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | grep -v '^run:' | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-19s %s\n", $$1, $$2}'
	@echo
	@echo "SET=\"train.epochs=5 train.weights=imagenet\" changes parameters; they are listed in params.yaml."

# Every file that pip takes has its hash in a lock. --no-build-isolation: what has no wheel is built with the locked setuptools.
LOCKED := -m pip install --require-hashes --no-build-isolation --requirement

$(READY): settings.ini setup.py locks/build.txt locks/env.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another with PYTHON="; exit 1; }
	@echo "Making $(VENV): some 250 packages and 3 GB, a few minutes"
	$(PYTHON) -m venv $$([ ! -e $(VENV)/.unfinished ] || echo --clear) $(VENV)
	@touch $(VENV)/.unfinished # pip takes a package that it was killed at for installed: then all is made anew
	$(BIN)/python $(LOCKED) locks/build.txt
	$(BIN)/python $(LOCKED) locks/env.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@rm $(VENV)/.unfinished
	@touch $@

env: $(READY) ## the environment alone, in .venv

# DATA and SET, from make's command line and not from the environment, go into params.yaml and stay there
given = $(if $(findstring command,$(origin $(1))),$(value $(1)))
# As one word of the shell: a folder's name may hold what the shell would run. Nor may make, which it does to export it.
one_word = '$(subst ','\'',$(1))'
quoted = $(call one_word,$(call given,$(1)))
unexport DATA SET MODEL PORT KEY ONLY SEED BASE WORKFLOWS UPGRADE

run: $(READY) ## sample data, all stages, reports and a model
	@python -m xraypneu.ops.stage set $(if $(call given,DATA),data.path=$(call quoted,DATA)) $(foreach s,$(call given,SET),$(call one_word,$(s)))
	dvc repro $(STAGES)
	@python -m xraypneu.ops.stage summary

app: $(READY) ## the dashboard; MODEL=folder or models:/name@alias instead of the shipped model, PORT=8866
	@$(if $(call given,MODEL),XRAYPNEU_MODEL=$(call quoted,MODEL)) voila $(if $(call given,PORT),--port=$(call quoted,PORT)) nbs/app/dashboard.ipynb

check: lint types sync ## under a minute, before each commit: lint, types, sync, the tests that need no training, server or browser
	python -m pytest -q -n 2 --fast

check-sample: $(READY) ## check the sample run's metrics against their limits
	@python -m pytest -q tests/accept_sample.py

test: $(READY) $(TOOLS)/.ready ## notebook tests and the test suite
	nbdev_test --n_workers 2 --timing
	python -m pytest -n 2 --dist worksteal -m "not alone"
	python -m pytest -m alone

lint: $(READY) ## ruff: rules and format
	ruff check .
	ruff format --check $(FORMATTED)

types: $(READY) ## mypy, strict, on the modules that pyproject.toml lists
	mypy

export: $(READY) ## format and clean the notebooks, export the package, render README.md
	ruff format --quiet nbs
	nbdev_clean
	nbdev_export
	jupyter nbconvert --log-level ERROR --execute --no-input --to markdown --TemplateExporter.exclude_raw=True --output-dir . --output README nbs/index.ipynb

sync: $(READY) ## fail where notebooks, package and README.md differ; changes nothing
	@.ci/sync $(VENV)

ship: $(READY) ## put models/bundle into the package as the shipped bundle, and its metrics into results/; KEY=private.pem signs it
	python -m xraypneu.ops.publish ship $(if $(call given,KEY),--key $(call quoted,KEY))

verify: $(READY) ## with DATA=folder: score the shipped bundle on the official test split, compare with its published metrics
	@python -m xraypneu.ops.publish verify $(call quoted,DATA)

bench: $(READY) ## Predictor compared with Keras, LiteRT and OpenVINO, into bench/results.md; some minutes, on an idle machine
	$(BIN)/python $(LOCKED) locks/bench.txt --quiet
	@python bench/bench.py

faults: $(READY) ## kills, full disks, fuzzing, load, into bench/faults.md; hours, goes on where it stopped; ONLY=kills SEED=1
	@python bench/faults.py $(if $(call given,ONLY),--only $(call quoted,ONLY)) $(if $(call given,SEED),--seed $(call quoted,SEED))

coverage: $(READY) ## line coverage of the package, at least 95 %; slower than make test by a third or more
	python -m pytest -n 2 --dist worksteal -m "not alone" --cov --cov-report=
	python -m pytest -m alone --cov --cov-append --cov-report=
	PYTHONPATH=bench python -m pytest -p notebook_cells nbs/api --cov --cov-append --cov-report=
	coverage report --fail-under=95

bench-app: $(READY) ## the dashboard's opening, answers, memory and crowds, into bench/dashboard.md; ten minutes, on an idle machine with Chromium
	@python bench/dashboard.py

# --- what the workflows in .github run; each works here too, and `make rehearse` runs them as GitHub would

programs: ## the programs that the tests need besides Python: chromium, nginx, npm
	@.ci/programs

pull: $(READY) ## data from the DVC remote that XRAYPNEU_REMOTE_URL, _USER and _PASSWORD name; without them the sample
	@.ci/pull

pulled: ## fail where the DVC remote refused what make pull asked for
	@[ ! -e .cache/ci/refused ] || { echo "the DVC remote could not be read, and the sample took its place: see the step that pulled"; exit 1; }

promote: $(READY) ## compare the new model with the champion; the decision goes into the report, and a refusal is no failure
	@python -m xraypneu.cli promote || [ $$? = 1 ] || echo "No decision: champion unchanged"

push: $(READY) ## what the stages made, to the DVC remote that make pull read from
	@.ci/push

report: $(READY) ## reports/report.md, one page of the run, against BASE=main
	@python -m xraypneu.ops.report write --base $(call one_word,$(or $(call given,BASE),main)) --notice "$$(cat .cache/ci/notice 2>/dev/null)" --artefact-url "$${ARTEFACT_URL:-}"

artefact: $(READY) ## build/artefact/, what may be uploaded of a run: no radiograph, no file's name
	@python -m xraypneu.ops.report collect build/artefact

rebuild: ## reports/report.md from the metrics of the fork's run in UNTRUSTED_ARTIFACT; needs Python alone
	@$(PYTHON) -m xraypneu.ops.report rebuild "$$UNTRUSTED_ARTIFACT" --commit "$$UNTRUSTED_ARTIFACT_COMMIT" --run-url "$$UNTRUSTED_ARTIFACT_RUN"

# For XRAYPNEU_COMMENT=cml alone. CML's npm package is gone from the registry; setup-cml brings its release's binary, which
# could not be run in tests. --publish=false: CML would upload images to a third party.
comment: ## the report as a comment, by CML where it is installed; .ci/comment.js needs nothing
	cml comment update --publish=false "$${REPORT:-reports/report.md}"

docs: $(READY) ## build/docs/, the notebooks as HTML pages
	@rm -rf build/docs; .ci/docs build/docs

dist: $(READY) ## dist/, wheel and source; on a tag, only one that is the version's
	@[ "$${GITHUB_REF_TYPE:-}" != tag ] || [ "$${GITHUB_REF_NAME:-}" = "v$$(python -c 'import xraypneu; print(xraypneu.__version__)')" ] || { echo "tag $$GITHUB_REF_NAME is not v and the version in settings.ini"; exit 1; }
	@rm -rf dist build/lib build/bdist.*
	@python -m build --no-isolation --outdir dist

rehearse: $(READY) ## the workflows' steps in clean clones, as GitHub would run them, in this environment; WORKFLOWS="ci train"
	@.ci/rehearse --venv $(VENV) $(call given,WORKFLOWS)

# --- supply chain; the tools have an environment of their own, so that they change nothing of the project's

$(TOOLS)/.ready: locks/build.txt locks/tools.txt
	@rm -rf $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(LOCKED) locks/build.txt --quiet
	@$(TOOLS)/bin/python $(LOCKED) locks/tools.txt --quiet
	@touch $@

tools: $(TOOLS)/.ready ## uv, pip-audit and cyclonedx-py in .cache/tools

UPGRADES = $(if $(call given,UPGRADE),$(if $(filter all,$(UPGRADE)),--upgrade,--upgrade-package $(UPGRADE)))

constraints: $(TOOLS)/.ready ## write constraints.txt and locks/ from settings.ini; UPGRADE=all or UPGRADE=pillow takes newer versions
	@$(PYTHON) .ci/lock --uv $(TOOLS)/bin/uv $(UPGRADES)

audit: $(TOOLS)/.ready ## known vulnerabilities of what locks/ names; fails on high and critical ones; needs a network
	@$(TOOLS)/bin/python .ci/audit

sbom: $(READY) $(TOOLS)/.ready ## build/release/sbom.cdx.json, what the environment consists of, as CycloneDX
	@mkdir -p build/release
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --validate --output-file build/release/sbom.cdx.json $(BIN)/python

sign: ## build/release/, the shipped bundle, signed: with KEY=private.pem, else as the workflow that runs; needs Python alone
	@rm -rf build/sign build/bundle
	@$(PYTHON) -m venv build/sign
	@build/sign/bin/python $(LOCKED) locks/build.txt --quiet
	@build/sign/bin/python $(LOCKED) locks/sign.txt --quiet
	@cp -r xraypneu/shipped build/bundle
	@PYTHONPATH=. build/sign/bin/python -m xraypneu.model.signature sign build/bundle $(if $(call given,KEY),--key $(call quoted,KEY))
	@$(if $(call given,KEY),,PYTHONPATH=. XRAYPNEU_SIGNER_IDENTITY="$$GITHUB_SERVER_URL/$$GITHUB_WORKFLOW_REF" \
	  XRAYPNEU_SIGNER_ISSUER=https://token.actions.githubusercontent.com build/sign/bin/python -m xraypneu.model.signature verify build/bundle)
	@mkdir -p build/release
	@tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C build -cf - bundle | gzip -n > build/release/bundle.tar.gz

release: ## the tag's page on GitHub with what is in build/release and dist; by release.yml
	gh release create "$$GITHUB_REF_NAME" --verify-tag --generate-notes dist/* $(wildcard build/release/*)

clean: ## delete what the pipeline made; the environment, and runs that wait for their MLflow server, stay
	rm -rf data/sample data/prepared models reports
	[ ! -d .cache ] || find .cache -mindepth 1 -maxdepth 1 ! -name journal ! -name tools -exec rm -rf {} +

# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLS := .cache/tools
# the environment's programs come first, for make and for the commands that DVC starts
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

FORMATTED := nbs tests bench docs voila.py setup.py
NOTEBOOKS := nbs/api nbs/tutorials nbs/index.ipynb # whose cells are tests
ALONE := tests/test_cluster.py tests/test_guard.py # with tests that measure a server under load
AT_ONCE := 3 # tests, on 2 cores: a fourth of their time they wait for a process

.DEFAULT_GOAL := help
.PHONY: help env run app check check-sample test lint types export sync ship verify bench bench-app bench-score compare faults coverage tools constraints audit sbom sign release clean \
  programs pull pulled promote sent push report artefact rebuild comment docs dist rehearse

help: ## list the commands
	@echo "make run                 sample data, all stages, reports and a model"
	@echo "make run DATA=folder     the same on your radiographs"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | grep -v '^run:' | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-19s %s\n", $$1, $$2}'
	@echo
	@echo "SET=\"train.epochs=5 train.weights=imagenet\" changes parameters; they are listed in params.yaml."

# pip installs only files whose hash is in a lock. --no-build-isolation: a package without a wheel is built with the locked setuptools.
LOCKED := -m pip install --require-hashes --no-build-isolation --requirement

$(READY): settings.ini setup.py locks/build.txt locks/env.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another with PYTHON="; exit 1; }
	@echo "Making $(VENV): some 250 packages, 3 GB to download and 4 GB on disk, a few minutes"
	$(PYTHON) -m venv $$([ ! -e $(VENV)/.unfinished ] || echo --clear) $(VENV)
	@touch $(VENV)/.unfinished # pip takes a package at which it was killed for installed, so an unfinished environment is cleared
	$(BIN)/python $(LOCKED) locks/build.txt
	$(BIN)/python $(LOCKED) locks/env.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	$(private_state)
	@rm $(VENV)/.unfinished
	@touch $@

# DVC's default for the names and hashes of files, and for objects that it unpickles, is a folder in /var/tmp that anybody may write to
# DVC also wants the user to have a name, which a bare number (docker run --user 1000) has not
# jsonschema, which each notebook's process imports, would compile a grammar of IRIs with rfc3987_syntax in a second, which nothing here needs
STATE_PTH := import os, sys; sys.modules.setdefault("rfc3987_syntax", None); s = os.path.join(sys.prefix, "var", "dvc"); os.access(s, os.W_OK) and os.environ.setdefault("DVC_SITE_CACHE_DIR", s); exec("try: import pwd; pwd.getpwuid(os.getuid())\nexcept KeyError: os.environ.setdefault(\"LOGNAME\", os.environ.get(\"USER\") or str(os.getuid()))")
define private_state
@mkdir -p $(VENV)/var/dvc && chmod o-rwx $(VENV)/var/dvc
@$(BIN)/python -c 'import sys, sysconfig; open(sysconfig.get_path("purelib") + "/dvc_state.pth", "w").write(sys.argv[1])' '$(STATE_PTH)'
endef

env: $(READY) ## the environment alone, in .venv
	$(private_state)

# Variables count only on make's command line, not in the environment. DATA and SET are written to params.yaml and stay there.
given = $(findstring command,$(origin $(1)))
cli_value = $(if $(call given,$(1)),$(value $(1)))
# a variable of the shell that is not set must not lead to the default
refuse_empty = $(if $(call given,$(1)),$(if $(strip $(call cli_value,$(1))),,echo "$(1)= names nothing: give a value, or leave it out" >&2; exit 1;))
# Quoted as one word of the shell, which would run parts of some folder names. Not exported either: make would expand the value.
one_word = '$(subst ','\'',$(1))'
quoted = $(call one_word,$(call cli_value,$(1)))
unexport DATA SET MODEL PORT KEY ONLY SEED FILMS BASE WORKFLOWS UPGRADE WEIGHTS EPOCHS

run: $(READY) ## sample data, all stages, reports and a model
	@$(call refuse_empty,DATA) $(call refuse_empty,SET) python -m xraypneu.cli run $(if $(call given,DATA),data.path=$(call quoted,DATA)) $(foreach s,$(call cli_value,SET),$(call one_word,$(s)))

app: $(READY) ## serve the dashboard; MODEL=folder or models:/name@alias instead of the shipped model, PORT=8866
	@$(call refuse_empty,MODEL) python -m xraypneu.cli app $(if $(call cli_value,MODEL),--bundle=$(call quoted,MODEL)) $(if $(call cli_value,PORT),--port=$(call quoted,PORT))

check: $(READY) ## run before each commit, under a minute: lint, types, sync, tests that need no training, server or browser
	@$(MAKE) --no-print-directory --assume-old=$(READY) --jobs=2 --output-sync lint types sync
	python -m pytest -q -n 2 --fast

check-sample: $(READY) ## check the sample run's metrics against their limits
	@python -m pytest -q tests/accept_sample.py

test: $(READY) $(TOOLS)/.ready ## run the notebook tests and the test suite
	python -m pytest -n $(AT_ONCE) --dist worksteal -m "not alone" tests $(NOTEBOOKS)
	python -m pytest -m alone $(ALONE)

.PHONY: test-nightly
test-nightly: $(READY) $(TOOLS)/.ready ## run the long forms of tests that make test has in short: killed trainings, full pipelines
	python -m pytest -m nightly

lint: $(READY) ## ruff: rules and format
	ruff check .
	ruff format --check $(FORMATTED)

types: $(READY) ## mypy, strict, on the modules that pyproject.toml lists
	mypy

NBCONVERT := jupyter nbconvert --log-level ERROR

export: $(READY) ## format and clean the notebooks, export the package, render README.md
	ruff format --quiet nbs
	$(NBCONVERT) --clear-output --inplace nbs/pipeline/*.ipynb nbs/app/*.ipynb # run by hand, they show films
	nbdev_clean
	nbdev_export
	$(NBCONVERT) --execute --no-input --to markdown --TemplateExporter.exclude_raw=True --output-dir . --output README nbs/index.ipynb

sync: $(READY) ## fail if notebooks, package and README.md are not in sync; changes nothing
	@.ci/sync $(VENV)

ship: $(READY) ## copy models/bundle into the package as the shipped bundle, and its metrics into results/; KEY=private.pem signs it
	python -m xraypneu.ops.publish ship $(if $(call given,KEY),--key $(call quoted,KEY))

verify: $(READY) ## score the shipped bundle on the official test split of DATA=folder, and compare with its published metrics
	@python -m xraypneu.ops.publish verify $(call quoted,DATA)

bench: $(READY) ## compare Predictor with Keras, LiteRT and OpenVINO, in bench/results.md; some minutes, on an idle machine
	$(BIN)/python $(LOCKED) locks/bench.txt --quiet
	@python bench/bench.py

faults: $(READY) ## inject faults (kills, full disks, fuzzing, load), in bench/faults.md; takes hours, resumes where it stopped; ONLY=kills SEED=1
	@python bench/faults.py $(if $(call cli_value,ONLY),--only $(call quoted,ONLY)) $(if $(call cli_value,SEED),--seed $(call quoted,SEED))

coverage: $(READY) ## measure line coverage of the package, at least 95 %; slower than make test by a third or more
	python -m pytest -n $(AT_ONCE) --dist worksteal -m "not alone" --cov --cov-report= tests $(NOTEBOOKS)
	python -m pytest -m alone --cov --cov-append --cov-report= $(ALONE)
	coverage report --fail-under=95

bench-score: $(READY) ## compare xraypneu score with the alternatives, in bench/score.md; hours, on an idle machine, resumes; ONLY="rate memory" FILMS=2000
	@python bench/score.py $(if $(call cli_value,ONLY),--only $(foreach s,$(call cli_value,ONLY),$(call one_word,$(s)))) $(if $(call cli_value,FILMS),--films $(call quoted,FILMS))

compare: $(READY) ## compare with the reference's recipe, Keras fine-tuning and scikit-learn on DATA=folder, in bench/compare.md; an hour, on an idle machine, resumes; WEIGHTS=file EPOCHS=1 ONLY="reference ours"
	@python bench/compare.py $(call quoted,DATA) $(if $(call cli_value,WEIGHTS),--weights $(call quoted,WEIGHTS)) $(if $(call cli_value,EPOCHS),--epochs $(call quoted,EPOCHS)) $(if $(call cli_value,ONLY),--only $(foreach s,$(call cli_value,ONLY),$(call one_word,$(s))))

bench-app: $(READY) ## measure the dashboard: opening, memory, many visitors, hundreds of films, in bench/dashboard.md; eight minutes, on an idle machine with Chromium
	@python bench/dashboard.py

# --- targets of the workflows in .github; each works here too, and `make rehearse` runs them as GitHub would

programs: ## install the programs that the tests need besides Python: chromium, nginx, npm, postgresql
	@.ci/programs

pull: $(READY) ## fetch data from the DVC remote that XRAYPNEU_REMOTE_URL, _USER and _PASSWORD name; without them use the sample
	@.ci/pull

pulled: ## fail if the DVC remote refused make pull
	@[ ! -e .cache/ci/refused ] || { echo "the DVC remote could not be read, so the sample was used: see the log of make pull"; exit 1; }

promote: $(READY) ## compare the new model with the champion; the decision goes into the report, and a refusal is no failure
	@python -m xraypneu.cli sync || true # a model that still waits for the store is no candidate there
	@python -m xraypneu.cli promote || [ $$? = 1 ] || echo "No decision: champion unchanged"

sent: $(READY) ## send runs that wait for MLflow; fail if some still do, since a job's folder is deleted at its end
	@python -m xraypneu.cli sync

push: $(READY) ## upload the outputs of the stages to the DVC remote that make pull read from
	@.ci/push

report: $(READY) ## write reports/report.md, one page about the run, compared with BASE=main
	@python -m xraypneu.ops.report write --base $(call one_word,$(or $(call cli_value,BASE),main)) --notice "$$(cat .cache/ci/notice 2>/dev/null)" --artefact-url "$${ARTEFACT_URL:-}"

artefact: $(READY) ## collect in build/artefact/ what may be uploaded of a run: no radiograph, no file name
	@python -m xraypneu.ops.report collect build/artefact

rebuild: ## write reports/report.md from the metrics of a fork's run in UNTRUSTED_ARTIFACT; needs only Python
	@$(PYTHON) -m xraypneu.ops.report rebuild "$$UNTRUSTED_ARTIFACT" --commit "$$UNTRUSTED_ARTIFACT_COMMIT" --run-url "$$UNTRUSTED_ARTIFACT_RUN"

# Used only with XRAYPNEU_COMMENT=cml. CML's npm package is gone from the registry; setup-cml installs the binary of its
# release, which could not be run in tests. --publish=false: CML would upload images to a third party.
comment: ## post the report as a comment with CML, if it is installed; .ci/comment.js needs no CML
	cml comment update --publish=false "$${REPORT:-reports/report.md}"

docs: $(READY) ## build this documentation in build/docs/ and check its links; half a minute, without a network
	@rm -rf build/docs; python docs/pages.py build/docs

dist: $(READY) ## build wheel and source in dist/; fails on a tag that is not the version's
	@[ "$${GITHUB_REF_TYPE:-}" != tag ] || [ "$${GITHUB_REF_NAME:-}" = "v$$(python -c 'import xraypneu; print(xraypneu.__version__)')" ] || { echo "tag $$GITHUB_REF_NAME is not v and the version in settings.ini"; exit 1; }
	@rm -rf dist build/lib build/bdist.*
	@python -m build --no-isolation --outdir dist
	@python -c 'import sys; from xraypneu.files import default_params as d; d(".") == open("params.yaml", "rb").read() or print(sys.argv[1])' \
	  "params.yaml is changed here. Wheel and source have the committed one; for other defaults, commit it, then repeat make dist"

rehearse: $(READY) ## run the steps of ci (its sample), train and comment in clean clones, as GitHub would; WORKFLOWS="ci train"
	@.ci/rehearse --venv $(VENV) $(call cli_value,WORKFLOWS)

# --- supply chain; the tools have their own environment, so that they don't change the project's

$(TOOLS)/.ready: locks/build.txt locks/tools.txt
	@rm -rf $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(LOCKED) locks/build.txt --quiet
	@$(TOOLS)/bin/python $(LOCKED) locks/tools.txt --quiet
	@touch $@

tools: $(TOOLS)/.ready ## install uv, pip-audit and cyclonedx-py in .cache/tools

UPGRADES = $(if $(call cli_value,UPGRADE),$(if $(filter all,$(UPGRADE)),--upgrade,--upgrade-package $(UPGRADE)))

constraints: $(TOOLS)/.ready ## write constraints.txt and locks/ from settings.ini; UPGRADE=all or UPGRADE=pillow takes newer versions
	@$(PYTHON) .ci/lock --uv $(TOOLS)/bin/uv $(UPGRADES)

audit: $(TOOLS)/.ready ## list known vulnerabilities of the locked packages; fails on high and critical ones; needs a network
	@$(TOOLS)/bin/python .ci/audit

sbom: $(READY) $(TOOLS)/.ready ## write build/release/sbom.cdx.json, the packages of the environment as CycloneDX
	@mkdir -p build/release
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --validate --output-file build/release/sbom.cdx.json $(BIN)/python

sign: ## put the signed shipped bundle into build/release/; KEY=private.pem signs it, else the running workflow; needs only Python
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

release: ## create the tag's release on GitHub with the files of build/release and dist; run by release.yml
	gh release create "$$GITHUB_REF_NAME" --verify-tag --generate-notes dist/* $(wildcard build/release/*)

# what the stages, `make report` and `xraypneu promote` write; all else in these folders is yours
REPORTS := $(foreach stage,prepare eda train evaluate,$(stage).ipynb $(stage).html) history.csv metrics.json predictions.csv plots \
  model_card.md model_card.html report.md promotion.json
MODELS := bundle seeds run.json

clean: ## delete the outputs of the pipeline; keeps the environment, studies of xraypneu tune, and runs not yet sent to MLflow
	@[ ! -e $(READY) ] || python -m xraypneu.ops.stage idle
	rm -rf data/sample data/prepared $(addprefix reports/,$(REPORTS)) $(addprefix models/,$(MODELS))
	rm -rf reports/.*.tmp models/.*.new-* models/.*.old # of programs that were killed
	rmdir reports models 2>/dev/null || true
	[ ! -d .cache ] || find .cache -mindepth 1 -maxdepth 1 ! -name journal ! -name stages ! -name tools ! -name tune -exec rm -rf {} +

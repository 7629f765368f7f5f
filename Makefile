# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# the environment's programs come first, for make and for what DVC starts
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

STAGES := eda evaluate

.DEFAULT_GOAL := help
.PHONY: help env run app check test lint export sync ship verify bench bench-app constraints clean

help: ## list the commands
	@echo "make run                 sample data, all stages, reports and a model"
	@echo "make run DATA=folder     the same on your radiographs"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | grep -v '^run:' | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-19s %s\n", $$1, $$2}'
	@echo
	@echo "SET=\"train.epochs=5 train.weights=imagenet\" changes parameters; they are listed in params.yaml."

$(READY): settings.ini setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another with PYTHON="; exit 1; }
	@echo "Making $(VENV): some 250 packages and 3 GB, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[pipeline,app,dev]'
	@touch $@

env: $(READY) ## the environment alone, in .venv

# DATA and SET, from make's command line and not from the environment, go into params.yaml and stay there
given = $(if $(findstring command,$(origin $(1))),$($(1)))

run: $(READY) ## sample data, all stages, reports and a model
	@python -m xraypneu.stage set $(if $(call given,DATA),"data.path=$(call given,DATA)") $(foreach s,$(call given,SET),"$(s)")
	dvc repro $(STAGES)
	@python -m xraypneu.stage summary

app: $(READY) ## the dashboard; MODEL=folder or models:/name@alias in the place of the shipped model, PORT=8866
	@XRAYPNEU_MODEL="$(call given,MODEL)" voila $(if $(call given,PORT),--port=$(call given,PORT)) nbs/app/dashboard.ipynb

check: $(READY) ## hold the sample run's figures against what is promised of them
	@python -m pytest -q tests/accept_sample.py

test: $(READY) ## notebook tests and the test suite
	nbdev_test --n_workers 1 --timing
	python -m pytest

lint: $(READY) ## ruff
	ruff check .

export: $(READY) ## clean the notebooks, export the package, render README.md
	nbdev_clean
	nbdev_export
	jupyter nbconvert --log-level ERROR --execute --no-input --to markdown --TemplateExporter.exclude_raw=True --output-dir . --output README nbs/index.ipynb

sync: export ## fail where notebooks, package and README.md differ
	@changes=$$(git status --porcelain); [ -z "$$changes" ] || { echo "not in step, commit these:"; echo "$$changes"; exit 1; }

ship: $(READY) ## put models/bundle into the package as the shipped bundle, and its figures into results/
	python -m xraypneu.publish ship

verify: $(READY) ## with DATA=folder: score the shipped bundle on the official test split, compare with its published figures
	@python -m xraypneu.publish verify "$(call given,DATA)"

bench: $(READY) ## Predictor beside Keras, LiteRT and OpenVINO, into bench/results.md; some minutes, on an idle machine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@python bench/bench.py

bench-app: $(READY) ## the dashboard's opening, answers, memory and crowds, into bench/dashboard.md; ten minutes, on an idle machine with Chromium
	@python bench/dashboard.py

constraints: $(READY) ## write the versions of this environment into constraints.txt
	{ echo "# Versions that were tested together, written by make constraints"; pip freeze --exclude-editable; } > .constraints.tmp
	mv .constraints.tmp constraints.txt

clean: ## delete what the pipeline made, the environment apart
	rm -rf data/sample data/prepared models reports .cache

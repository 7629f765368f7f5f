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
.PHONY: help env run check test lint export sync ship constraints clean

help: ## list the commands
	@echo "make run                 sample data, all stages, reports and a model"
	@echo "make run DATA=folder     the same on your radiographs"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | grep -v '^run:' | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "make %-20s %s\n", $$1, $$2}'
	@echo
	@echo "SET=\"train.epochs=5 train.weights=imagenet\" changes parameters; they are listed in params.yaml."

$(READY): settings.ini setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name another with PYTHON="; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar on --constraint constraints.txt --editable '.[pipeline,dev]'
	@touch $@

env: $(READY) ## the environment alone, in .venv

# DATA and SET go into params.yaml; without them the pipeline runs as params.yaml stands
CHANGES := $(if $(DATA),-S 'data.path=$(DATA)') $(foreach s,$(SET),-S '$(s)')

run: $(READY) ## sample data, all stages, reports and a model
	$(if $(strip $(CHANGES)),dvc exp run $(CHANGES) $(STAGES),dvc repro $(STAGES))
	@python -m xraypneu.stage summary

check: ## hold the sample run's figures against what is promised of them
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

ship: $(READY) ## put models/bundle and its figures into the package as the shipped bundle
	python -m xraypneu.bundle

constraints: $(READY) ## write the versions of this environment into constraints.txt
	{ echo "# Versions that were tested together, written by make constraints"; pip freeze --exclude-editable; } > constraints.txt

clean: ## delete what the pipeline made, the environment apart
	rm -rf data/sample data/prepared models reports/*.ipynb reports/*.html reports/plots reports/predictions.csv .cache

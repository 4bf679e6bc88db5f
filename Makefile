# `make demo` and `make test` set up a new machine themselves; later they only check the set-up.
#
#   PYTHON=python3.12    the interpreter to use (3.11 to 3.13); by default the first that works
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                        also look for torch there, e.g. to avoid the large CUDA build of PyPI on a machine without a GPU

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
TORCH_INDEX ?=

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
CLIENTS := .venv-clients
CLIENTS_PY := $(CLIENTS)/bin/python
CLIENTS_READY := $(CLIENTS)/.ready

# torch then takes large blocks of memory in huge pages, which are faster to get for most of the tests and the demo.
export THP_MEM_ALLOC_ENABLE ?= 1

BUNDLE := bundles/lgg_attunet
DEMO := demo_output
DEMO_PATIENTS ?= 16
DEMO_SIZE ?= 128
# By default 12, and fewer on a busy machine; a multiple of val_interval.
DEMO_EPOCHS ?=
# Small crops, small batches and large steps learn a few small brains in about a minute.
DEMO_OPTIONS ?= --roi_size "[$(DEMO_SIZE),$(DEMO_SIZE),3]" --batch_size 8 --learning_rate 0.003 --val_interval 3
DEMO_CONFIGS := $(BUNDLE)/configs

.PHONY: help venv demo demo-steps test coverage test-all test-clients lint format docs clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "make %-12s %s\n", $$1, $$2}'

# ---- set-up ---------------------------------------------------------------------------------------------------------

venv: $(READY)  ## create the virtual environment in .venv

# An interpreter counts only if it runs (pyenv leaves shims that do not) and can create an environment with pip.
define FIND_PYTHON
found=""; without_pip=""
for name in $${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
  "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
  if "$$name" -c 'import ensurepip, venv' 2>/dev/null; then found="$$name"; break; fi
  without_pip="$${without_pip:-$$name}"
done
if [ -z "$$found" ] && [ -n "$$without_pip" ]; then
  version=$$("$$without_pip" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  echo "error: $$without_pip cannot create virtual environments; on Debian and Ubuntu: sudo apt install python$$version-venv" >&2; exit 1
elif [ -z "$$found" ] && [ -n "$$PYTHON" ]; then
  echo "error: PYTHON=$$PYTHON does not run or is not Python 3.11, 3.12 or 3.13" >&2; exit 1
elif [ -z "$$found" ]; then
  echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or pass it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1
fi
endef
export FIND_PYTHON

# $(1): the environment's folder.
define CREATE_VENV
	@if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
	  export PYTHON="$(PYTHON)"; eval "$$FIND_PYTHON"; \
	  echo "creating $(1) with $$("$$found" --version) ($$found)"; \
	  "$$found" -m venv --clear $(1); \
	fi
	@echo "installing the versions of constraints.txt into $(1)"
endef

INSTALL := -m pip install --quiet --disable-pip-version-check
PINNED := -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

$(READY): pyproject.toml constraints.txt
	$(call CREATE_VENV,$(VENV))
	@$(PY) $(INSTALL) $(PINNED) -e '.[dev]'
	@touch $@

# See the files for why some clients are installed without what they ask for, and one into a folder of its own.
$(CLIENTS_READY): pyproject.toml constraints.txt $(wildcard tests/clients/requirements*.txt)
	$(call CREATE_VENV,$(CLIENTS))
	@$(CLIENTS_PY) $(INSTALL) $(PINNED) -r tests/clients/requirements.txt -e '.[export,federated]'
	@$(CLIENTS_PY) $(INSTALL) --no-deps -r tests/clients/requirements-label.txt
	@rm -rf $(CLIENTS)/deploy
	@$(CLIENTS_PY) $(INSTALL) --no-deps --target $(CLIENTS)/deploy -r tests/clients/requirements-deploy.txt
	@rm -rf $(CLIENTS)/tracking
	@$(CLIENTS_PY) $(INSTALL) --target $(CLIENTS)/tracking -r tests/clients/requirements-tracking.txt
	@touch $@

# ---- demonstration --------------------------------------------------------------------------------------------------

# Ask for every core at once for a moment, and see how much of them this machine gives: that many threads are worth it.
# More wait for each other: on two cores that others use too, an epoch took 15 s with one thread and 65 to 100 s with two.
define PLAN_DEMO
import os, subprocess, sys
spin = "import time as t; e = t.monotonic() + 1; c = t.process_time()\nwhile t.monotonic() < e: pass\nprint(t.process_time() - c)"
cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
runs = [subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE, text=True) for _ in range(cores)]
free = sum(float(run.communicate()[0]) for run in runs)
threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, min(8, round(free))))
epochs = int(sys.argv[1] or next(number for least, number in ((0.8, 12), (0.4, 6), (0, 3)) if free >= least))
least = (10 * epochs + 40) / min(free, threads) / 60
print(f"== {free:.1f} of {cores} cores are free: {threads} thread(s), {epochs} epochs, about {least:.0f} to {2 * least:.0f}"
      " minutes" + ("; DEMO_EPOCHS=12 trains longer, with better scores" if epochs < 12 else ""), file=sys.stderr)
print(f"DEMO_EPOCHS={epochs} OMP_NUM_THREADS={threads}")
endef
export PLAN_DEMO

# Copy the test patients' images, without masks, to a folder like one of new scans.
define COPY_TEST_PATIENTS
import pathlib, shutil, sys
from pipeline.datasets.datalist import load_datalist
manifest, dataset_dir, target = map(pathlib.Path, sys.argv[1:])
for case in load_datalist(manifest, dataset_dir, "test"):
    for image in map(pathlib.Path, case["image"]):
        folder = target / image.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder)
endef
export COPY_TEST_PATIENTS

DEMO_DATA := --dataset_dir $(DEMO)/phantom/kaggle_3m --manifest $(DEMO)/phantom/manifest.json

demo: $(READY)  ## train, evaluate and use the first bundle on synthetic brains, in demo_output
	@if [ -e $(DEMO) ] && [ ! -e $(DEMO)/.made-by-make-demo ]; then \
	  echo "error: $(DEMO) exists and was not made by make demo; move it away" >&2; exit 1; fi
	@rm -rf $(DEMO); mkdir $(DEMO); touch $(DEMO)/.made-by-make-demo
	@plan=$$($(PY) -c "$$PLAN_DEMO" "$(DEMO_EPOCHS)"); $(MAKE) --no-print-directory demo-steps $$plan

# What is set on the command line of make, such as the threads, is in the environment of the commands too.
demo-steps:
	@echo "== 1/5 synthetic dataset: $(DEMO_PATIENTS) patients"
	@$(PY) -m pipeline dataset phantom lgg $(DEMO)/phantom --patients $(DEMO_PATIENTS) --size $(DEMO_SIZE)
	@echo "== 2/5 training: $(DEMO_EPOCHS) epochs"
	$(PY) -m monai.bundle run --config_file $(DEMO_CONFIGS)/train.json \
	  $(DEMO_DATA) --output_dir $(DEMO)/train --max_epochs $(DEMO_EPOCHS) $(DEMO_OPTIONS)
	@echo "== 3/5 evaluation on the test patients"
	$(PY) -m monai.bundle run --config_file "['$(DEMO_CONFIGS)/train.json','$(DEMO_CONFIGS)/evaluate.json']" $(DEMO_DATA) \
	  --split test --checkpoint $(DEMO)/train/model.pt --output_dir $(DEMO)/evaluate
	@echo "== 4/5 prediction on the test patients' images alone"
	@$(PY) -c "$$COPY_TEST_PATIENTS" $(DEMO)/phantom/manifest.json $(DEMO)/phantom/kaggle_3m $(DEMO)/new_patients
	$(PY) -m monai.bundle run --config_file $(DEMO_CONFIGS)/inference.json --input $(DEMO)/new_patients \
	  --checkpoint $(DEMO)/train/model.pt --output_dir $(DEMO)/predict --overlay true
	@echo "== 5/5 result"
	@$(PY) -m pipeline report $(DEMO)/evaluate
	@echo
	@echo "look at the curves:    $(VENV)/bin/tensorboard --logdir $(DEMO)/train"
	@echo "look at the pictures:  $(DEMO)/predict (masks, and overlays as PNG)"
	@echo "train on real images:  README.md"

# ---- checks ---------------------------------------------------------------------------------------------------------

# One thread each: most tests are too small for more. Three for two cores, because tests of kills and signals wait.
TEST_JOBS ?= 3
CLIENT_JOBS ?= 2
# Each of some hundred processes would compile the package anew where Python is told not to keep byte code.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest -n $(TEST_JOBS) --dist loadfile

# CI adds the tests on real images with "not slow".
TEST_MARKS ?= not slow and not realdata

test: lint  ## lint, types and tests, as in CI
	@$(PYTEST) -m "$(TEST_MARKS)"

# Apart, because the same tests take about twice as long where every line is counted.
coverage: $(READY)  ## the tests of `make test` again, with branch coverage and its floor
	@$(PYTEST) -m "$(TEST_MARKS)" --cov

test-all: lint  ## also the slow tests and those on real images
	@$(PYTEST) --cov

# Bundles alone with what their metadata list: all in this environment, and one in a new one (`make test-all`: five).
ALONE := tests/bundles/test_alone.py
ALONE_TESTS := $(ALONE)::test_a_bundle_alone_works_with_what_its_metadata_list \
  '$(ALONE)::test_a_bundle_alone_works_with_a_wheel_and_its_pins[hippocampus_segresnet]'

test-clients: $(CLIENTS_READY)  ## every bundle in MONAI Label, Deploy, NVFlare and others, in an environment of its own
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(CLIENTS_PY) -m pytest -n $(CLIENT_JOBS) --dist loadgroup -p no:warnings \
	  tests/clients $(ALONE_TESTS)

# The scripts of benchmarks are not typed strictly; what is asked is that the names fit that they take from each other.
BENCHMARK_TYPES := --config-file= --python-version 3.11 --check-untyped-defs --ignore-missing-imports --follow-imports silent \
  $(addprefix --disable-error-code=,arg-type assignment call-overload dict-item misc return-value var-annotated)

lint: $(READY)  ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@MYPYPATH=benchmarks:. $(PY) -m mypy $(BENCHMARK_TYPES) benchmarks

format: $(READY)  ## format the code with ruff
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(READY)  ## renew the generated parts of the documents, and of the bundles
	@PYTHONPATH=. $(PY) -m tests.docs.generated

clean:  ## remove the environment, caches and the demonstration's output
	@if [ -e $(DEMO)/.made-by-make-demo ]; then rm -rf $(DEMO); fi
	@rm -rf $(VENV) $(CLIENTS) build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +

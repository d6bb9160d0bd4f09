# Every target prepares .venv first; it is made once and shared.
# The first of these that is new enough makes it. Each is asked, not looked for: what pyenv puts on
# the path is there and may yet run nothing.
PYTHON ?= python3 python3.13 python3.12 python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test lint bench bench-check claims figures classifier recogniser agent clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# One that was made before is kept, whatever Python it has: packages of two versions do not mix.
is_whole = $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null && $(BIN)/pip --version >/dev/null 2>&1
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
VERSION := import sys; print("Python %d.%d.%d" % sys.version_info[:3])
define make_venv
for python in $(PYTHON); do \
	found="$$found, $$python: $$("$$python" -c '$(VERSION)' 2>/dev/null || echo does not run)"; \
	"$$python" -c '$(NEW_ENOUGH)' 2>/dev/null || continue; \
	"$$python" -c 'import ensurepip' 2>/dev/null && exec "$$python" -m venv --clear $(VENV); \
	found="$$found without ensurepip (Debian has it in python3-venv)"; \
done; \
echo "Python 3.11 or newer is needed, not$${found#,}: install one, or name it by" \
	"make install PYTHON=/path/to/python" >&2; exit 1
endef

install: $(STAMP)  ## make the virtual environment .venv

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(is_whole) || { $(make_venv); }
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@echo compiling, half a minute
	$(BIN)/python -c 'import gymnasium, spm_gym; gymnasium.make("spm_gym/ProbeConditioning-v0").reset(seed=0)'
	@touch $@

demo: install  ## train both agents, evaluate them against random, blind and oracle
	$(BIN)/python train.py --run-dir runs/demo $(if $(wildcard runs/demo/training.yaml),--resume)
	$(BIN)/python train.py --run-dir runs/demo-belief $(if $(wildcard runs/demo-belief/training.yaml),--resume,--agent belief --steps 300)
	$(BIN)/python evaluate.py --run runs/demo --against runs/demo-belief --json runs/demo/evaluation.json --plot runs/demo/evaluation.png --force

test: install lint  ## all tests, the slow ones too
	$(BIN)/pytest --numprocesses 2 --dist worksteal

lint: install  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

classifier: install  ## make the shipped classifier again
	$(BIN)/python train.py classifier --output spm_gym/data/classifier.safetensors --force

recogniser: install  ## make the shipped recogniser of probe classes again
	$(BIN)/python train.py recogniser --output spm_gym/data/recogniser.safetensors --force

agent: install  ## make the shipped agent again
	$(BIN)/python train.py --output spm_gym/data/agent.safetensors --force

bench: install  ## how fast it is: all figures against their references, in some minutes
	$(BIN)/python benchmarks/speed.py --output benchmarks/results.json --page docs/speed.md

bench-check: install  ## fail if a figure of speed has fallen by more than a third
	$(BIN)/python benchmarks/speed.py --check benchmarks/results.json

claims: install  ## how good it is: values, classifiers, agents, Nanonis, faults, kills (takes five hours)
	$(BIN)/python benchmarks/exact_values.py
	$(BIN)/python benchmarks/nanonis.py
	$(BIN)/python benchmarks/trajectories.py
	$(BIN)/python benchmarks/malformed.py
	$(BIN)/python benchmarks/faults.py
	$(BIN)/python benchmarks/classifier.py
	$(BIN)/python benchmarks/few_labels.py
	$(BIN)/python benchmarks/imaging.py
	$(BIN)/python benchmarks/agent.py
	$(BIN)/python benchmarks/agent.py --seeds 3 --episodes 200 --policies agent random oracle \
		--runs runs/started --set agent.steps=1500
	$(BIN)/python benchmarks/agent.py --seeds 3 --episodes 200 --policies agent random oracle \
		--runs runs/scratch --set agent.steps=1500 agent.from_classifier=false
	$(BIN)/python benchmarks/learning.py --json runs/learning.json
	$(BIN)/python benchmarks/operation.py soak
	$(BIN)/python benchmarks/operation.py compare --seeds 8 --tip-change-rate 0.02
	$(BIN)/python benchmarks/kills.py

figures: demo  ## make the pictures of README and docs again (some hours unless runs/learning.json is there)
	$(BIN)/python docs/figures.py --run runs/demo
	$(BIN)/python docs/screenshots.py

clean:  ## remove the virtual environment and the caches, not the runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

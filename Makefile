SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DATASET ?= demo
FETCH ?= 1
PRESET ?=
N ?=
SEEDS ?= 3
METHODS ?=
LEARNERS ?=
OVERRIDES ?=
REUSE_T2A_FROM ?=
LLM_ENDPOINT ?=
RUNS ?= runs
RUN ?= $(or $(RUNS),runs)/latest
JSON ?=
PROFILE ?=
FOLLOW ?=
FRESH ?=
RUNNER ?= subprocess
STORE ?=
HISTORY ?=
CELLS ?= esc50:100,urbansound8k:50,gtzan:50
IMAGE_BUILDER ?= docker build
REGISTRY ?=
BUILD_ARGUMENTS ?=
STAGES ?=
SETS ?=
DATA ?=
REPLICATES ?=
FOLDS ?=
GPUS ?= 1
GPU ?=
JOBS ?= 2

# $(call quoted,X,default): the value of variable X as one word of the shell, whatever characters it holds.
# $(call given,--x,X): --x='value', or nothing where X is empty. $(call flag,--x,X): --x, unless X is empty or 0.
# A value from the command line or the environment is taken as it was typed: make would replace the $ in it.
typed = $(if $(filter command environment,$(origin $(1))),$(value $(1)),$($(1)))
quoted = '$(subst ','\'',$(or $(call typed,$(1)),$(2)))'
given = $(if $(call typed,$(2)),$(1)=$(call quoted,$(2)))
flag = $(if $(filter-out 0,$(call typed,$(2))),$(1))

INSTALLED = $(call quoted,VENV)/.installed
PY = $(call quoted,VENV)/bin/python
export PYTHONPATH := $(CURDIR)
# A run starts dozens of processes: let them share the byte code.
unexport PYTHONDONTWRITEBYTECODE
# Waiting threads sleep: spinning ones slow down every other process on the machine.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup run-pipeline benchmark test test-e2e test-containers check lint types doctor fetch-data fetch-models train-job report remake images push list-datasets push-data estimate schedule-nightly trend bench-t2a check-gpu manifests compile bench-synthesis bench-classifier bench-filter bench-learners bench-codec bench-labels bench-gain bench-nano nano-corpus nano classify export-onnx clean clean-runs

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'
	@echo
	@echo "  make run-pipeline [DATASET=demo|name|file.yaml] [PRESET=tiny] [N=…] [SEEDS=3] [METHODS=a,b] [LEARNERS=a,b] [OVERRIDES='stage.field=value'] [RUNS=runs] [FRESH=1] [FETCH=0]"

# Most modules of the packages are never imported: Python compiles the others when it first imports them.
setup: ## Make the virtual environment with all pinned packages
	@if [ requirements.txt -nt $(INSTALLED) ] || [ requirements-dev.txt -nt $(INSTALLED) ]; then \
	  $(call quoted,PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	    { echo "error: Python 3.11 not found (the pins are for 3.11); install it or name it with PYTHON="; exit 2; }; \
	  test -x $(PY) || $(call quoted,PYTHON) -m venv -- $(call quoted,VENV) || exit 2; \
	  echo installing pinned packages into $(call quoted,VENV) '(once, about a minute)'; \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt -r requirements-dev.txt && \
	  touch -- $(INSTALLED); \
	fi

run-pipeline: setup ## Run the whole pipeline on this machine; with KFP_HOST=… on a cluster, PROFILE=one-gpu [FOLLOW=1]
	@$(PY) -m pipelines run-pipeline --dataset=$(call quoted,DATASET) --preset=$(call quoted,PRESET,tiny) --n=$(call quoted,N) \
	  --seeds=$(call quoted,SEEDS) --methods=$(call quoted,METHODS) --learners=$(call quoted,LEARNERS) --reuse-t2a-from=$(call quoted,REUSE_T2A_FROM) \
	  --llm-endpoint=$(call quoted,LLM_ENDPOINT) --budget=$(call quoted,BUDGET,0) --overrides=$(call quoted,OVERRIDES) \
	  --runs=$(call quoted,RUNS,runs) --fetch=$(call quoted,FETCH,1) --profile=$(call quoted,PROFILE) --runner=$(call quoted,RUNNER) --store=$(call quoted,STORE) \
	  $(call flag,--follow,FOLLOW) $(call flag,--fresh,FRESH)

benchmark: setup ## Run a study: DATASETS=a,b N=50,100 [METHODS=…] [SEEDS=3] [BUDGET=dollars] [PRICE=dollars an hour] [GPU=H200] [DRY_RUN=1]
	@$(PY) -m pipelines benchmark --datasets=$(call quoted,$(if $(call typed,DATASETS),DATASETS,DATASET)) --preset=$(call quoted,PRESET,tiny) \
	  --n=$(call quoted,N) --seeds=$(call quoted,SEEDS) --methods=$(call quoted,METHODS) --learners=$(call quoted,LEARNERS) --overrides=$(call quoted,OVERRIDES) \
	  --budget=$(call quoted,BUDGET,0) --price=$(call quoted,PRICE,0) --gpu=$(call quoted,GPU) --history=$(call quoted,HISTORY) \
	  --runs=$(call quoted,RUNS,runs) --fetch=$(call quoted,FETCH,1) --store=$(call quoted,STORE) --runner=$(call quoted,RUNNER) \
	  --profile=$(call quoted,PROFILE) $(call flag,--dry-run,DRY_RUN) $(call flag,--follow,FOLLOW) $(call flag,--fresh,FRESH)

test: setup ## Run the tests: minutes
	@$(PY) -m pytest -n $(call quoted,JOBS) --dist worksteal -m "not e2e"

test-e2e: setup ## Run the long tests: whole repeated runs, kills, stores on S3, studies
	@$(PY) -m pytest -n $(call quoted,JOBS) --dist worksteal -m e2e

test-containers: images ## Run the tests that need a container engine, in freshly built images
	@SYNTHIO_TEST_CONTAINERS=1 $(PY) -m pytest -n 0 tests/containers

check: lint types test ## Lint, types and tests

lint: setup ## Check style and names with ruff
	@$(PY) -m ruff check common components pipelines contrib tests

types: setup ## Check types with mypy
	@$(PY) -m mypy common components pipelines contrib

doctor: setup ## Check a dataset in seconds: DATASET=name|file.yaml; with KFP_HOST=… the cluster too: PROFILE=one-gpu [STORE=s3://…]
	@$(PY) -m pipelines doctor --dataset=$(call quoted,DATASET) --preset=$(call quoted,PRESET,tiny) --n=$(call quoted,N) \
	  --seeds=$(call quoted,SEEDS) --methods=$(call quoted,METHODS) --overrides=$(call quoted,OVERRIDES) \
	  --llm-endpoint=$(call quoted,LLM_ENDPOINT) --profile=$(call quoted,PROFILE) --store=$(call quoted,STORE) $(call flag,--json,JSON)

fetch-data: setup ## Download, verify and unpack a published dataset, going on where it was cut: DATASET=esc50
	@$(PY) -m pipelines fetch-data --dataset=$(call quoted,DATASET)

fetch-models: setup ## Fetch the published models of a preset, each at its commit and verified: PRESET=small [STORE=s3://…]
	@$(PY) -m pipelines fetch-models --preset=$(call quoted,PRESET,tiny) --overrides=$(call quoted,OVERRIDES) --store=$(call quoted,STORE)

compile: setup ## Compile both pipelines to build/synthio.yaml and build/benchmark.yaml: PROFILE=local|one-gpu|eight-gpus|spot|file.yaml
	@$(PY) -m pipelines compile --profile=$(call quoted,PROFILE,local)

train-job: setup ## Render pretraining on several nodes as a Kubeflow TrainJob: CORPUS=s3://… CLAP=s3://… [NODES=2] [PROFILE=eight-gpus]
	@$(PY) -m pipelines train-job build/train-job.yaml --preset=$(call quoted,PRESET,paper) \
	  --overrides=$(call quoted,OVERRIDES) --corpus=$(call quoted,CORPUS) --clap=$(call quoted,CLAP) --nodes=$(call quoted,NODES,2) \
	  --profile=$(call quoted,PROFILE,eight-gpus)

images: setup ## Build the images that stages run in: [IMAGE_BUILDER='docker build'] [STAGES=a,b] [BUILD_ARGUMENTS='--build-arg TORCH=…']
	@$(PY) -m pipelines images build --builder=$(call quoted,IMAGE_BUILDER) --profile=$(call quoted,PROFILE,local) --registry=$(call quoted,REGISTRY) \
	  --stages=$(call quoted,STAGES) --arguments=$(call quoted,BUILD_ARGUMENTS)

push: setup ## Push the images: make images push REGISTRY=registry.example.com/synthio
	@$(PY) -m pipelines images push --builder=$(call quoted,IMAGE_BUILDER) --profile=$(call quoted,PROFILE,local) --registry=$(call quoted,REGISTRY)

list-datasets: setup ## List the registered datasets with source, licence, split, grouping and reader: [JSON=1]
	@$(PY) -m pipelines list-datasets $(call flag,--json,JSON)

push-data: setup ## Put a dataset of this machine into the store: DATASET=name|file.yaml STORE=s3://bucket/prefix
	@$(PY) -m pipelines push-data --dataset=$(call quoted,DATASET) --store=$(call quoted,STORE) --fetch=$(call quoted,FETCH,1)

estimate: setup ## What pretraining a preset takes in memory and time: PRESET=paper [GPUS=8]
	@$(PY) -m pipelines estimate --preset=$(call quoted,PRESET,tiny) --overrides=$(call quoted,OVERRIDES) --gpus=$(call quoted,GPUS)

check-gpu: setup ## On a GPU: measure everything that trains or generates, at the real sizes, in eight minutes; downloads nothing
	@$(PY) -m tests.benchmarks.gpu

bench-t2a: setup ## Benchmark corpus, pretraining and alignment
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.t2a

schedule-nightly: setup ## With KFP_HOST: make or replace the nightly study: [CELLS=esc50:100,urbansound8k:50,gtzan:50] [PRESET=small] [PROFILE=one-gpu]
	@$(PY) -m pipelines schedule-nightly --cells=$(call quoted,CELLS) --preset=$(call quoted,PRESET,small) \
	  --methods=$(call quoted,METHODS) --seeds=$(call quoted,SEEDS) --profile=$(call quoted,PROFILE,one-gpu)

trend: setup ## Write the trend page of the nights in STORE=…: [HISTORY=synthio-nightly]
	@$(PY) -m pipelines trend --store=$(call quoted,STORE) --history=$(call quoted,HISTORY,synthio-nightly)

manifests: setup ## Render every overlay to build/manifests and validate it against the schemas of Kubernetes
	@mkdir -p build/manifests
	@for overlay in manifests/overlays/*; do name=$$(basename $$overlay); \
	  kubectl kustomize $$overlay > build/manifests/$$name.yaml && \
	  $(call quoted,VENV)/bin/kubernetes-validate --strict --quiet build/manifests/$$name.yaml && \
	  echo "build/manifests/$$name.yaml is valid" || exit 1; done

report: setup ## Write a run's report again with the present code, and show its verdict: RUN=runs/latest
	@$(PY) -m pipelines report --run=$(call quoted,RUN)

remake: setup ## Generate a clip of a run again from its provenance, and compare the bytes: CLIP=<id> [RUN=runs/latest] [OUT=clip.flac]
	@$(PY) -m pipelines remake --run=$(call quoted,RUN) $(call given,--clip,CLIP) --out=$(call quoted,OUT)

bench-synthesis: setup ## Measure synthesis and CLAP scoring beside the stock pipelines: [T2A=dir CLAP=dir GOLD=dir] for quality
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.synthesis $(call given,--t2a,T2A) $(call given,--clap,CLAP) \
	  $(call given,--gold,GOLD)

bench-classifier: setup ## Measure ingest, features and training of the classifier beside transformers'
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.classifier

bench-filter: setup ## Measure what each threshold of the filter lets through and loses
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.filter_thresholds

bench-learners: setup ## Measure what the pipeline chooses from n clips beside plain regression: [DATA=folder SETS=demo,digits,foley8,esc10 REPLICATES=5 FOLDS=0]
	@$(PY) -m tests.benchmarks.learners --sets=$(call quoted,SETS) --data=$(call quoted,DATA) --replicates=$(call quoted,REPLICATES,5) \
	  --folds=$(call quoted,FOLDS,0) --methods=$(call quoted,METHODS) --preset=$(call quoted,PRESET,tiny) --overrides=$(call quoted,OVERRIDES) \
	  --store=$(call quoted,STORE)

bench-labels: setup ## Measure whose labels are right, before and after the filter, and what the clips bring a learner: [RUN=runs/latest]
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.labels --run=$(call quoted,RUN)

bench-gain: setup ## Measure what synthetic audio gains the best classifier, with a corpus for each set: [DATA=folder SETS=demo,digits,esc10,esc50,foley8 N=50 REPLICATES=5 FOLDS=0]
	@$(PY) -m tests.benchmarks.gain --sets=$(call quoted,SETS) --n=$(call quoted,N) --data=$(call quoted,DATA) --replicates=$(call quoted,REPLICATES,5) \
	  --folds=$(call quoted,FOLDS,0) --methods=$(call quoted,METHODS) --preset=$(call quoted,PRESET,tiny) --overrides=$(call quoted,OVERRIDES) \
	  --store=$(call quoted,STORE)

bench-codec: setup ## Measure what a round trip through the spectral codec costs two classifiers: [DATA=folder SETS=demo,esc10,digits FOLDS=0]
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.codec --sets=$(call quoted,SETS) --data=$(call quoted,DATA) --folds=$(call quoted,FOLDS,0)

bench-nano: setup ## Measure what each kind of sound in the corpus of nano brings its encoder: CORPUS=folder of nano-corpus DATA=folder [SHARDS=10 STEPS=1000]
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks.nano --corpus=$(call quoted,CORPUS) --data=$(call quoted,DATA) \
	  --shards=$(call quoted,SHARDS,10) --steps=$(call quoted,STEPS,1000)

nano-corpus: setup ## Put together the corpus of the shipped weights: DATA=folder OUT=folder [COLLECTIONS=a,b LEAVE_OUT='foley8 esc50' NOTES=20000 WORDS=10000]
	@$(PY) -c 'import tinysoundfont' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-nano.txt
	@$(PY) -m pipelines nano-corpus --data=$(call quoted,DATA) --out=$(call quoted,OUT) --collections=$(call quoted,COLLECTIONS) \
	  --leave-out=$(call quoted,LEAVE_OUT,foley8 esc50) --notes=$(call quoted,NOTES,20000) --words=$(call quoted,WORDS,10000) \
	  --shards=$(call quoted,SHARDS,40) --seed=$(call quoted,SEED,0) --jobs=$(call quoted,JOBS)

nano: setup ## Train the shipped weights in models/nano: CORPUS=folder of nano-corpus [WORK=build/nano PARTS=clap,encoder,t2a OVERRIDES='section.field=value' EXPORT=1]
	@$(PY) -m pipelines nano --corpus=$(call quoted,CORPUS) --work=$(call quoted,WORK,build/nano) --parts=$(call quoted,PARTS) \
	  --overrides=$(call quoted,OVERRIDES) --export=$(call quoted,EXPORT,1)

classify: setup ## Classify audio: MODEL=<dir> AUDIO=<file or folder> [JSON=1]
	@$(PY) -m pipelines classify $(call given,--model,MODEL) $(call given,--audio,AUDIO) $(call flag,--json,JSON)

export-onnx: setup ## Export a classifier to ONNX: MODEL=<dir> [OUT=model.onnx]
	@$(PY) -m pipelines export-onnx $(call given,--model,MODEL) --out=$(call quoted,OUT,model.onnx)

clean: ## Remove build products and tool caches
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path ./$(call quoted,VENV)'/*' -prune -exec rm -rf {} +

clean-runs: ## Remove all runs and the store of finished work
	@if [ ! -e $(call quoted,RUNS) ] || [ -e $(call quoted,RUNS)/kfp ] || [ -e $(call quoted,RUNS)/store ]; then \
	  rm -rf -- $(call quoted,RUNS); \
	else echo "error: RUNS="$(call quoted,RUNS)" holds no runs, and nothing is removed; name the folder that runs wrote to" >&2; exit 2; fi

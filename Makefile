# Every target sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests start hundreds of interpreters, each of which would compile every module.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test compiled pure delayed soak fuzz lint bench proto other-languages clean
.DEFAULT_GOAL := run

$(STAMP): pyproject.toml setup.py tools/build_backend.py $(wildcard lib_usm/*.c lib_usm/native/*.[ch])
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

run: $(STAMP) ## the demo: a real application whose memory usmd owns
	@$(BIN)/python -m examples.demo

test: $(STAMP) ## the whole test suite, in four processes: end-to-end tests wait more than they compute
	@$(BIN)/python -m pytest -n 4 --dist worksteal

# What is compiled is used until a source changes; `usmctl doctor` says so. It takes a C compiler, and some minutes.
compiled: $(STAMP) ## compile the hot path of this checkout by mypyc
	@$(BIN)/python setup.py --quiet build_ext --inplace

pure: ## remove what `make compiled` made
	rm -rf build usmd/compiled.json
	find usmd -name '*.so' -delete

# Where each place of these delays is, and why there, says tests/support/delays.py.
DELAYS := store=0.05,load=0.05,answer=0.01,stream=0.01,client=0.01,start=0.2,log=0.05
delayed: $(STAMP) ## tests of daemons with delays wherever no order is promised: one that does not wait fails
	@USM_TEST_DELAYS=$(DELAYS) $(BIN)/python -m pytest -n 4 --dist worksteal tests/e2e tests/usmd/server tests/lib_usm

soak: $(STAMP) ## for an hour or so: many new examples of every property, long end-to-end work, and the delays
	@USM_TEST_EXAMPLES=20 USMD_E2E_SECONDS=60 $(BIN)/python -m pytest -n 4 --dist worksteal --timeout 7200
	@$(MAKE) --no-print-directory delayed

FUZZ_SECONDS ?= 3600
fuzz: $(STAMP) ## random use of all sockets, with new seeds, for FUZZ_SECONDS
	@USMD_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q -x tests/hostile/test_fuzz.py

lint: $(STAMP) ## ruff, mypy, import contracts, one test file per source file, lengths, tests that wait, generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/check_test_files.py
	@$(BIN)/python tools/check_file_lengths.py
	@$(BIN)/python tools/check_test_waits.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate_proto.py --check

# Where the files of the service go, below $(DESTDIR). They name each other, so the places are fixed.
DESTDIR ?=
CONFIG := $(DESTDIR)/etc/usmd/usmd.toml
SERVICE := usmd.service:systemd/system/usmd.service usmd.sysusers.conf:sysusers.d/usmd.conf \
	usmd.tmpfiles.conf:tmpfiles.d/usmd.conf 60-usmd.rules:udev/rules.d/60-usmd.rules

.PHONY: install-service uninstall-service
install-service: ## the service's files into $DESTDIR/etc; a configuration that is there stays
	@set -e; for each in $(SERVICE); do install -v -D -m 0644 "deploy/$${each%%:*}" "$(DESTDIR)/etc/$${each#*:}"; done
	@test -e "$(CONFIG)" || install -v -D -m 0644 deploy/usmd.toml "$(CONFIG)"

uninstall-service: ## remove them again; a configuration that was changed stays
	@for each in $(SERVICE); do rm -v -f "$(DESTDIR)/etc/$${each#*:}"; done
	@! cmp -s deploy/usmd.toml "$(CONFIG)" || rm -v -f "$(CONFIG)"
	@! test -d "$(DESTDIR)/etc/usmd" || rmdir --ignore-fail-on-non-empty "$(DESTDIR)/etc/usmd"

bench: $(STAMP) ## every benchmark, with its settings
	@$(BIN)/python -m bench

proto: $(STAMP) ## generate usm_wire/pb from proto/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/generate_proto.py

other-languages: examples/node/node_modules/.package-lock.json ## the examples in JavaScript and Go
	@$(MAKE) --no-print-directory -C examples/go

examples/node/node_modules/.package-lock.json: examples/node/package-lock.json
	@cd examples/node && npm ci --no-audit --no-fund && touch $(notdir $(@D))/$(@F)

clean: pure
	rm -rf examples/node/node_modules examples/go/bin examples/go/build examples/go/usmv1
	rm -rf $(VENV) bench/out .pytest_cache .mypy_cache .ruff_cache .hypothesis

# What a newcomer and a developer run; `make help` lists it.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
PEER := $(CURDIR)/.venv-peer
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check -qq install

# The release that runs on existing buses. Its libraries are held where it still works:
# pkg_resources left setuptools in 81, its signing needs an old cryptography, its store an old SQLAlchemy. The
# setuptools goes in first, because what follows is built with it.
PEER_TOOLS := 'setuptools>=75,<81' wheel
PEER_PACKAGES := 'fedmsg[commands,consumers]==1.1.7' 'cryptography<39' 'pyOpenSSL<23' 'SQLAlchemy<2'

# Plugins for fedmsg.meta, with what they import, for both releases: a folder that the tests
# put on the path. One of their requirements can't be built without Kerberos and is only
# looked for, so that a distribution with nothing in it will do.
PLUGINS := $(PEER)/plugins
PLUGIN_PACKAGES := fedmsg-meta-fedora-infrastructure==0.31.0 fedmsg-meta-debian==0.1 \
    python-fedora munch openidc-client lockfile beautifulsoup4 soupsieve arrow python-dateutil pytz tzdata

# Consumers for both releases, in a folder of their own: only where a test puts it on the path is any installed.
CONSUMERS := $(PEER)/consumers
CONSUMER_PACKAGES := fedmsg-fasclient==0.7 fedmsg-genacls==0.6 busmon-consumers==0.4.5 python-memcached==1.62

# Plugins for statistics as they were published, in Python 2, and what translates them.
STATISTICS := $(PEER)/statistics
STATISTICS_PACKAGE := statscache-plugins==0.0.2
TRANSLATOR := fissix

# What stands at the other end of RabbitMQ in tests.
MESSAGING := $(CURDIR)/.venv-messaging
MESSAGING_PACKAGES := 'fedora-messaging>=3.5,<4'

# The accessibility checker that a browser runs in tests: the one script in it, without the browsers that it needs.
AXE := 'axe-playwright-python>=0.1.8'

# Arguments for pytest: make test ARGS='-k relay -x'
ARGS ?=

# How many tests run at the same time: they wait for processes and sockets more than they compute. 0 is one after
# the other, in this process.
WORKERS ?= $(shell echo $$(( 2 * $$(nproc 2>/dev/null || echo 2) + 1 )))
PYTEST := -m pytest -n $(WORKERS) --dist loadgroup

export PYTHON
export FEDMSG_PEER_VENV := $(PEER)
export FEDMSG_MESSAGING_VENV := $(MESSAGING)

.DEFAULT_GOAL := help
.PHONY: help demo demo-history check test test-all lint format bench soak coverage docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.basic ## set up and show a message travel from a shell script to a terminal
	@$(BIN)/python tests/demo.py

demo-history: $(VENV)/.full ## run a bus with its history and pages to search it, until Ctrl-C
	@$(BIN)/python tests/demo_history.py

check: $(VENV)/.full ## run the tests that need no server: unit and structure, in about a minute
	@$(BIN)/python $(PYTEST) tests/unit tests/structure $(ARGS)

test: $(VENV)/.full $(PEER)/.ready $(MESSAGING)/.ready ## set up and run all tests
	@.ci/tools
	@$(BIN)/python $(PYTEST) $(ARGS)

test-all: $(PEER)/.ready ## run the unit and interop tests on each Python from 3.10 on that is installed
	@.ci/test-all $(ARGS)

lint: $(VENV)/.full ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.full ## put the code in shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.full $(PEER)/.ready ## measure ours, fedmsg 1.1.7 and the bare parts, as one table
	@.ci/tools nats-server:nats-server
	@$(BIN)/python -m tests.bench

soak: $(VENV)/.full $(PEER)/.ready $(MESSAGING)/.ready ## run the fault and fuzz tests at full size
	@.ci/tools
	@FEDMSG_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 7200 $(ARGS)

coverage: $(VENV)/.full $(PEER)/.ready $(MESSAGING)/.ready ## run all tests and show which lines none of them reaches
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

docs: $(VENV)/.full ## build the documentation and the man pages into docs/_build
	@$(BIN)/sphinx-build -W --keep-going --quiet -n -b html docs docs/_build/html
	@$(BIN)/sphinx-build -W --keep-going --quiet -n -b man docs docs/_build/man
	@echo "docs/_build/html/index.html"

clean: ## remove what set-up, tests and builds made
	rm -rf $(VENV) $(VENV)-3.* $(PEER) $(MESSAGING) build dist docs/_build htmlcov *.egg-info .coverage .coverage.* \
	    .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find fedmsg tests docs -name __pycache__ -type d -exec rm -rf {} +

# A stamp is younger than what it was made from, or it is made again. The demo needs only
# what a user installs, and so is shown in seconds on a fresh machine.
$(VENV)/.made: .ci/venv
	@.ci/venv $(VENV)
	@touch $@

$(VENV)/.basic: $(VENV)/.made setup.py pyproject.toml
	@echo "setting up .venv with fedmsg"
	@$(BIN)/python $(PIP) --editable .
	@touch $@

$(VENV)/.full: $(VENV)/.basic
	@echo "setting up .venv with what tests and documentation need"
	@$(BIN)/python $(PIP) --editable '.[test,docs]'
	@$(BIN)/python $(PIP) --no-deps $(AXE)
	@touch $@

$(PEER)/.ready: Makefile .ci/venv
	@echo "setting up .venv-peer with fedmsg 1.1.7"
	@.ci/venv $(PEER)
	@$(PEER)/bin/python $(PIP) $(PEER_TOOLS)
	@$(PEER)/bin/python $(PIP) $(PEER_TOOLS) $(PEER_PACKAGES)
	@$(PEER)/bin/python $(PIP) --no-deps --upgrade --target $(PLUGINS) $(PLUGIN_PACKAGES)
	@$(PEER)/bin/python $(PIP) --no-deps --upgrade --target $(CONSUMERS) $(CONSUMER_PACKAGES)
	@$(PEER)/bin/python $(PIP) $(TRANSLATOR)
	@rm -rf $(STATISTICS) && mkdir -p $(STATISTICS)
	@$(PEER)/bin/python -m pip --disable-pip-version-check -qq download --no-deps --no-binary :all: --no-build-isolation \
	    --dest $(STATISTICS) $(STATISTICS_PACKAGE)
	@tar -xzf $(STATISTICS)/*.tar.gz -C $(STATISTICS) --strip-components 1 && rm $(STATISTICS)/*.tar.gz
	@$(PEER)/bin/python -m fissix --write --nobackups --no-diffs $(STATISTICS)/statscache_plugins >/dev/null 2>&1
	@mkdir -p $(PLUGINS)/fasjson_client-0.dist-info
	@printf 'Metadata-Version: 2.1\nName: fasjson-client\nVersion: 0\n' > $(PLUGINS)/fasjson_client-0.dist-info/METADATA
	@touch $@

$(MESSAGING)/.ready: Makefile .ci/venv
	@echo "setting up .venv-messaging with fedora-messaging"
	@.ci/venv $(MESSAGING)
	@$(MESSAGING)/bin/python $(PIP) $(MESSAGING_PACKAGES)
	@touch $@

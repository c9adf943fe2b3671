# make demo | setup | test | lint | wheel | clean.  A second run skips the set-up that is done.
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for python in python3.12 python3.11 python3.10 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)
DEMO_SCENARIO ?= scenarios/library/left_turn.yaml
DEMO_ARGS ?=
DEMO_EXTRAS := carla,render
JOBS ?= 2

.PHONY: demo setup test lint wheel clean three browser screen
.DELETE_ON_ERROR:

demo: $(VENV)/stamp-demo three
	$(VENV)/bin/dcgen scenario $(DEMO_SCENARIO) --render $(DEMO_ARGS)

setup: $(VENV)/stamp-dev three

test: lint browser screen
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist worksteal

# What dcgen report draws with; without it all else works.
three: | $(PY)
	@$(PY) -m dcgen.report.three >/dev/null || echo "Going on without three.js; only dcgen report needs it."

# Where there is none, the tests of pages are skipped.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ "$$(uname)" != Linux ] || \
		.ci/system_packages chromium || echo "Going on without Chromium; tests of pages are skipped."

# The window of dcgen view is tried on a screen that nobody sees.
screen:
	@{ command -v Xvfb && command -v xdotool; } >/dev/null || [ "$$(uname)" != Linux ] || \
		.ci/system_packages xvfb xdotool || echo "Going on without Xvfb; the test of the window is skipped."

lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy

wheel: setup
	$(PY) -m build --wheel

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(PY):
	@test -n "$(PYTHON)" || { echo "dcgen needs Python 3.10, 3.11 or 3.12: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		.ci/system_packages "python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
	$(PYTHON) -m venv $(VENV)

# What Open3D links against; without it pictures are drawn by Pillow.
$(VENV)/stamp-libraries: | $(PY)
	@for library in libusb-1.0.so.0 libEGL.so.1 libGL.so.1 libX11.so.6; do \
		/sbin/ldconfig -p | grep -q "$$library " || lacking=1; done; \
	if [ -z "$$lacking" ] || [ "$$(uname)" != Linux ] || \
		.ci/system_packages libusb-1.0-0 libegl1 libgl1 libx11-6; then touch $@; fi

# compat: else `import dcgen` beside a clone named dcgen finds the folder, not the package.
pip_install = $(PY) -m pip install -q -c constraints.txt --config-settings editable_mode=compat -e

$(VENV)/stamp-demo: pyproject.toml constraints.txt | $(PY) $(VENV)/stamp-libraries
	@echo "Installing dcgen into $(VENV), some 2 GB; this happens once and takes minutes."
	@$(pip_install) '.[$(DEMO_EXTRAS)]'
	@touch $@

$(VENV)/stamp-dev: pyproject.toml constraints.txt | $(PY) $(VENV)/stamp-libraries
	@echo "Installing dcgen for development into $(VENV); this happens once."
	@$(pip_install) '.[dev]'
	@touch $@ $(VENV)/stamp-demo

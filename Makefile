# make demo, make test: everything that they need is set up first, in .venv.

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

.PHONY: setup demo test test-long test-slurm test-simulation lint check format lock clean

setup: $(SETUP)

# The mark comes last, so that an installation that was cut short is taken up again.
$(SETUP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed\nhelp: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The batch-size x epochs grid on scikit-learn's digits: nine small trials, then their report.
demo: setup
	$(BIN)/python -m sweeps.launch grid_bs_epoch --scale smoke --set data.name=digits \
		--workers 2 --results demo
	$(BIN)/python -m analysis.report grid_bs_epoch --results demo
	@echo
	@echo "Done: nine trials (batch size x epochs of a small network on 8x8 digits), each in a folder of"
	@echo "demo/grid_bs_epoch/, and their report, to open in a browser: $(CURDIR)/demo/report/report.html"
	@echo "Try next:"
	@echo "  $(BIN)/sweeps status grid_bs_epoch --results demo     # how each trial stands"
	@echo "  $(BIN)/sweeps launch grid_bs_epoch --scale smoke --set data.name=digits --seeds 3 \\"
	@echo "      --workers 2 --results demo                        # two more seeds of each, minutes"
	@echo "  $(BIN)/sweeps list                                    # what else can be launched by name"

# One more than cores, at most 16: some of a test's time is waiting. A file's tests share what is made
# once, so that one process runs them all.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 16 ? n + 1 : 16)))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test: setup
	$(PYTEST) -m "not slurm and not long"

# On a real Slurm, booted for it on this machine: needs root and Debian's packages (see CONTRIBUTING).
test-slurm: setup
	$(BIN)/python -m pytest -m slurm -n 3 --dist loadfile

# N schedules of the store in simulated worlds, on all cores: make test-simulation N=10000
N ?= 2000
test-simulation: setup
	PYTHONPATH=.:tests $(BIN)/python -m simulation --count $(N)

# What takes long: whole programs, killed and started again, and laws that are tried many times.
test-long: setup
	$(PYTEST) -m "long and not slurm"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test test-long

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header \
		--no-annotate pyproject.toml --output-file requirements.lock
	sed -i '1i # Every package that `make setup` installs. Made by `make lock` from pyproject.toml.' requirements.lock

clean:
	rm -rf .venv demo .mypy_cache .ruff_cache *.egg-info

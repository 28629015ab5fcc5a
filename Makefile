# Set-up happens where it is needed: every target brings the environment in .venv up to date first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# As many as this process may use, which `nproc` and the processors of the machine are not everywhere.
WORKERS = $$($(BIN)/python -c "from exvo.util.cores import n_cores; print(n_cores())")
READY := $(VENV)/.ready
CORES ?= all
DEMO := corpora/demo
REPORT := results/report/report.html

.PHONY: demo report test test-browser test-fuzz test-faults test-changes test-slurm audit lint reference docs format bench clean lock

demo: $(READY)
	@$(BIN)/exvo demo $(DEMO)
	@$(BIN)/snakemake --cores $(CORES) results/fusion/test_preds.csv $(REPORT)
	@echo
	@cat results/tables/table1.md results/tables/table4.md
	@echo
	@echo "report:           $(REPORT)"
	@echo "submission:       results/fusion/test_preds.csv"
	@echo "how it was fused: results/fusion/fusion.json"
	@echo "all tables:       results/tables/*.html, *.md, *.csv"
	@echo "quality summary:  results/quality/summary.md"

# Of the default config; another one: snakemake --configfile my.yaml -- results/report/report.html
report: $(READY)
	@$(BIN)/snakemake --cores $(CORES) $(REPORT)
	@echo "report: $(REPORT)"

test: $(READY)
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

# Screenshots and the print of the report are left in results/screenshots, to be looked at.
test-browser: $(READY)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ echo "This needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver"; exit 1; }
	EXVO_SCREENSHOTS=results/screenshots $(BIN)/pytest tests/browser

# 2,000 corruptions of recordings and 2,000 of the label table: minutes.
test-fuzz: $(READY)
	EXVO_FUZZ=2000 $(BIN)/pytest -n $(WORKERS) tests/robustness/test_fuzz.py

# 52 kills, two for every rule, and of every training one while it trains.
test-faults: $(READY)
	EXVO_KILLS=52 $(BIN)/pytest -p no:xdist tests/robustness/test_faults.py

# True runs after each of 14 changes, from scratch in other folders, and with every kind of bad clip among the good; all
# files are compared.
test-changes: $(READY)
	EXVO_CHANGES=all $(BIN)/pytest -p no:xdist tests/robustness/test_changes.py \
		tests/robustness/test_determinism.py tests/robustness/test_bad_whole.py

# On a SLURM of one node that the tests start; as root, with Debian's packages, or else skipped with the reason.
# EXVO_SLURM=all adds a run of every encoder on the demo corpus under the rules' memory.
test-slurm: $(READY)
	$(BIN)/pytest -rs tests/slurm

# Known vulnerabilities of the pinned versions. It asks pypi.org's JSON interface about each release, so it needs a
# network; a mirror that does not know single releases makes it fail (--strict), where it would else find nothing wrong.
audit:
	$(PYTHON) -m venv .audit-venv
	.audit-venv/bin/pip install --quiet pip-audit
	.audit-venv/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.lock
	rm -rf .audit-venv

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow
	$(BIN)/mypy
	$(BIN)/exvo demo $(DEMO)
	$(BIN)/snakemake --lint

# Into site/, without a network. A broken link, a missing page or a docstring that cannot be read is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The config's schema and its reference page, from the dataclasses that declare the keys.
reference: $(READY)
	$(BIN)/python docs/tools/reference.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow

bench: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/run_all.py

# The environment is whole or is made again: the marker is written last.
$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (once; torch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The packages that only benchmarks race, beside what they share with the workflow.
$(VENV)/.ready-bench: $(READY) benchmarks/requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.lock
	@touch $@

# Versions for requirements.lock are found anew only on purpose; those of benchmarks/ agree with them.
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --quiet uv
	.lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra slurm --output-file requirements.lock pyproject.toml
	.lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra bench --constraint requirements.lock --output-file benchmarks/requirements.lock pyproject.toml
	rm -rf .lock-venv

clean:
	rm -rf results site .snakemake

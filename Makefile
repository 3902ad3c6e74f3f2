# make demo       the whole pipeline on the embedded digits, in an environment of its own
# make test       all tests
# make numerics   the tests that compare numbers, as other processors would compute them
# make faults     campaigns of kills, damaged bytes and lost results, about an hour; SHORT=1: minutes
# make fuzz       ten thousand random inputs at every entrance
# make generate   dvc.yaml, docs/parameters.md and the comments in params.yaml, from the sources
# make commit     record what a run of Snakemake made as DVC's results (after checking it);
#                 with PARAMS_FILE=params/tiny.yaml params.yaml names that file from then on
#
# A GPU machine wants its own build of PyTorch: make demo TORCH="torch --index-url <its wheels>"

PYTHON ?= python3
TORCH ?= torch==2.13.0
INSTALL = .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --system-certs \
          --constraint constraints.txt

export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE  # without bytecode every job starts seconds later

NUMERICS := pytest -n auto --dist worksteal -m numerics

.PHONY: demo test numerics faults fuzz lint generate commit
.DELETE_ON_ERROR:

demo: .venv/ready
	snakemake --cores all
	@echo "The report: $$(begat show --path)"

test: .venv/ready-to-test
	OMP_NUM_THREADS=1 pytest -n auto --dist worksteal

# Matrix libraries held to their plainest kernels; PyTorch's own without vector instructions;
# convolutions with short vectors; sums shared out to two threads, in one process, as threads of
# several would wait for one another. The libraries read these variables when a process starts.
numerics: .venv/ready-to-test
	OMP_NUM_THREADS=1 MKL_CBWR=COMPATIBLE $(NUMERICS)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default $(NUMERICS)
	OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=SSE41 $(NUMERICS)
	OMP_NUM_THREADS=2 pytest -m numerics

faults: .venv/ready-to-test
	PYTHONPATH=tests python -m faults $(if $(SHORT),--short)

fuzz: .venv/ready-to-test
	BEGAT_FUZZ=10000 OMP_NUM_THREADS=1 pytest -n auto -m fuzz

lint: .venv/ready-to-test
	ruff check --fix src tests workflow benchmarks
	ruff format src tests workflow benchmarks
	snakefmt Snakefile workflow/Snakefile workflow/rules

generate: .venv/ready
	python -m begat.planning.generate

# In whatever environment is in use. DVC knows the parameter file from params.yaml alone.
commit:
	snakemake --cores all verify $(if $(PARAMS_FILE),--config "params_file=$$PARAMS_FILE")
	$(if $(PARAMS_FILE),python -m begat.planning.generate --params-file "$$PARAMS_FILE")
	dvc commit --force

# pip takes whichever build of PyTorch fits this machine; uv does the rest, ten times faster.
.venv/bin/uv: constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt $(TORCH) uv

.venv/ready: .venv/bin/uv pyproject.toml
	$(INSTALL) --editable .
	@touch $@

.venv/ready-to-test: .venv/ready tests/witnesses.txt
	$(INSTALL) --editable '.[test]'
	$(INSTALL) --no-deps --requirement tests/witnesses.txt
	@touch $@

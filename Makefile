# make demo: set up and run the main job.   make test: set up and run all checks but those of make sanitize.
# make coverage: every branch of the file format is tested.   make fuzz CASES=10000000 SEED=0: damaged files.
# make sanitize: native code compiled with sanitizers of addresses and undefined behaviour, minutes of compiling.
# make forge CASES=200000 FIRST=0: forged files, through all readers, in pieces.   make oldest newest: other versions.
# Needs Python >= 3.10, a C++ compiler and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= resnet20
TARGET ?= 24
TOLERANCE ?= 0.01
CASES ?= 10000000
SEED ?= 0
FIRST ?= 0
DEVICE ?= cuda
OLDEST ?= python3.10
NEWEST ?= python3.13
# the least that pyproject.toml promises
LEAST := numpy==1.24.0 torch==2.1.0 scipy==1.10.0 rich==13.0.0 safetensors==0.4.0
ELSEWHERE := tests/codec tests/representation tests/format tests/checkpoint tests/test_io.py

.PHONY: demo test test-gpu sanitize fuzz forge coverage oldest newest setup clean

setup:
	@echo "== setting up $(VENV): pinned CPU torch, the native coder, the checks"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch,onnx,dev]"

demo: setup
	@echo "== compressing zoo/fashion_mnist.py:$(TASK) to 1/$(TARGET): no worse by more than $(TOLERANCE) nats on 10,000 held-out images?"
	@$(BIN)/python -m zoo.demo $(TASK) --target $(TARGET) --tolerance $(TOLERANCE) --folder work

test: setup
	@echo "== style and types"
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@echo "== tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not sanitize" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# apart from the other tests: most of its time goes into compiling, and only changes of native code need it
sanitize: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m sanitize -n 2 --dist loadfile tests/native

# with a torch that has CUDA, which setup does not install: make test-gpu PYTHON=python DEVICE=cuda
test-gpu:
	@NOWORSE_DEVICE=$(DEVICE) $(PYTHON) -m pytest -rs tests/devices

fuzz: setup
	@$(BIN)/python -m fuzz --cases $(CASES) --seed $(SEED)

forge: setup
	@$(BIN)/python -m fuzz --forged --cases $(CASES) --seed $(SEED) --first $(FIRST)

# once per change of native code or of the metadata: the package as it is installed, with the least and the newest
# (two tests are of dtypes that torch 2.1 and safetensors 0.4 lack)
oldest:
	@$(OLDEST) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet . $(LEAST) pytest hypothesis
	@OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -m "not slow" -k "not every_dtype and not names_are" $(ELSEWHERE)

newest:
	@$(NEWEST) -m venv .venv-newest
	@.venv-newest/bin/python -m pip install --quiet --upgrade ".[torch]" pytest hypothesis
	@OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -m "not slow" $(ELSEWHERE)

coverage: setup
	@$(BIN)/python -m pytest -m "not slow" tests/attacks tests/codec tests/format tests/representation --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build work

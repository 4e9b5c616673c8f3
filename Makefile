# make demo: set up and run the main job.   make test: set up and run all checks.
# make coverage: every branch of the file format is tested.   make fuzz CASES=10000000 SEED=0: damaged files.
# Needs Python >= 3.10, a C++ compiler and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= resnet20
TARGET ?= 24
TOLERANCE ?= 0.01
CASES ?= 10000000
SEED ?= 0

.PHONY: demo test fuzz coverage setup clean

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
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

fuzz: setup
	@$(BIN)/python -m fuzz --cases $(CASES) --seed $(SEED)

coverage: setup
	@$(BIN)/python -m pytest -m "not slow" tests/attacks tests/codec tests/format tests/representation --cov --cov-report=term-missing:skip-covered

clean:
	rm -rf $(VENV) build work

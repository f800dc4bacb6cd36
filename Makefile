# make test: set up and run every check.
# make notebooks: set up and run the notebooks of docs/notebooks.
# make demo: set up, train a network on rooms that it draws itself, make it switchable, and compare the two.
# NYUDV2=path make demo: the same on NYU Depth V2 (the official .mat file, or a prepared folder).
# make bench: set up, measure time and memory in short, and write the tables of docs/BENCHMARKS.md
# (15 to 20 minutes on 2 idle cores; other work on the machine would spoil the numbers).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto

ifdef NYUDV2
DATA := $(NYUDV2)
PLAIN := configs/nyudv2_small/inet128.yaml
ADAPT := configs/finetune/nyudv2_small.yaml
LOWER := 128 80 48
RUNS := runs/demo_nyudv2
else
DATA := data/demo/rooms.mat
PLAIN := configs/rooms/inet96.yaml
ADAPT := configs/finetune/rooms.yaml
LOWER := 96 64 32
RUNS := runs/demo
endif
TRAIN = $(BIN)/python train_seg.py
RSSEG = $(BIN)/rsseg
BENCH = $(BIN)/python -m benchmarks

.PHONY: test notebooks demo bench clean

# One environment for everything; it is made again only when the dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

test: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

# Run every notebook of docs/notebooks from top to bottom.
notebooks: $(VENV)/.installed
	$(BIN)/pytest -m slow tests/test_notebooks.py

# What is drawn, trained and evaluated already is not done again, so a demo that was stopped goes on.
demo: $(VENV)/.installed
	test -n "$(NYUDV2)" || $(BIN)/python -m datasets.rooms "$(DATA)" --height 240 --width 320
	$(TRAIN) $(PLAIN) --continue --set "data.root=$(DATA)" --run $(RUNS)/plain
	$(TRAIN) $(ADAPT) --continue --init $(RUNS)/plain/last.pt --set "data.root=$(DATA)" --run $(RUNS)/adapted
	$(BIN)/python -m datasets.nyudv2 sample "$(DATA)" $(RUNS)/images --count 4
	$(RSSEG) predict $(RUNS)/plain/last.pt $(RUNS)/images/images --resolutions $(LOWER) \
		--compare $(RUNS)/adapted/last.pt --name "trained at $(firstword $(LOWER))" --compare-name adapted \
		--labels $(RUNS)/images/labels --label-offset 0 --out $(RUNS)/pictures --overwrite
	$(RSSEG) curves $(RUNS)/adapted $(RUNS)/plain --out $(RUNS)/curves.png --overwrite
	$(TRAIN) --resume $(RUNS)/adapted    # complete: prints its tables
	@echo "picture: $(RUNS)/pictures/fig8.png, curves: $(RUNS)/curves.png"

# Results pile up in build/benchmarks; the report takes the newest of each kind.
bench: $(VENV)/.installed
	$(BENCH).imports --short --rounds 5
	$(BENCH).step --short --rounds 2 --launches 2
	$(BENCH).distributed --short --rounds 5
	$(BENCH).pixelwise --short --allocator both --rounds 2 --launches 2
	$(BENCH).pixelwise --step --short --allocator both --rounds 2
	$(BENCH).loader --short --rounds 2 --launches 3
	$(BENCH).nyudv2 --short
	$(BENCH).inference --short
	$(BENCH).label_maps --short --rounds 2 --threads 1
	$(BENCH).end_to_end --short --rounds 2
	$(BENCH).onnx_files --short
	$(BENCH).quantization --short --rounds 2 --batch 4
	$(BENCH).optimizer --threads 1
	$(BENCH).growth --short --rounds 3
	$(BENCH).report

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

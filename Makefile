# make quickstart   install what is missing, build, train on handwritten digits
# make test         everything CI runs            make lint     static checks only
# make bench        benchmarks against PyTorch    make format   rewrite sources in our style
# make fuzz SECONDS=60   libFuzzer on everything that reads files
# make generate     rewrite the checked-in generated files from the op and function tables
PYTHON := .venv/bin/python
CMAKE_BUILD = cmake --build --preset

.PHONY: quickstart setup build build-asan build-tsan test test-tsan test-torch bench lint format tidy generate wheel fuzz clean

quickstart: build
	$(PYTHON) examples/digits.py

setup: .venv/.stamp
.venv/.stamp: constraints.txt tools/packages.txt tools/setup.sh
	tools/setup.sh
.venv-torch/.stamp: constraints.txt tools/packages.txt tools/setup.sh
	tools/setup.sh torch

build/%/build.ninja: CMakePresets.json | .venv/.stamp
	cmake --preset $*

build: .venv/.stamp build/release/build.ninja
	$(CMAKE_BUILD) release
build-asan: build build/asan/build.ninja
	$(CMAKE_BUILD) asan
build-tsan: build build/tsan/build.ninja
	$(CMAKE_BUILD) tsan

test: build build-asan
	$(PYTHON) tools/run_tests.py
test-tsan: build-tsan
	$(PYTHON) tools/run_tests.py tsan
test-torch: build .venv-torch/.stamp
	.venv-torch/bin/python -m pytest -m torch tests/python
bench: build .venv-torch/.stamp
	.venv-torch/bin/python benchmarks/run.py

lint: .venv/.stamp
	$(PYTHON) tools/run_tests.py lint
format: .venv/.stamp
	git ls-files '*.cpp' '*.h' | xargs .venv/bin/clang-format -i
	.venv/bin/ruff format -q . && .venv/bin/ruff check -q --fix .
tidy: build
	git ls-files '*.cpp' | grep -v '^tests/package' | xargs -n 1 -P 2 .venv/bin/clang-tidy -p build/release --quiet

generate: .venv/.stamp
	$(PYTHON) tools/generate_functions.py
	$(MAKE) build
	for tool in tools/generate_*.py; do $(PYTHON) $$tool || exit 1; done
SECONDS := 60
fuzz: build
	tools/fuzz.sh $(SECONDS)
wheel: .venv/.stamp
	$(PYTHON) -m pip wheel -q --no-build-isolation --no-deps -w dist .

clean:
	rm -rf build dist python/fluxion/*.so python/fluxion/*.so.*

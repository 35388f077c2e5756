.PHONY: test quick full durations coverage lint fix docs site bench gpu package

ALL := -m "full or not full"

test:
	pytest -n auto

quick:
	pytest -q -n auto -m "not full" tests/core/recipe tests/core/rows tests/core/cli tests/plugins/schedule

full:
	pytest -n auto $(ALL)

durations:
	pytest -q -n auto $(ALL) --durations=60 --durations-min=2

coverage:
	pytest -q -n auto $(ALL) --cov --cov-report=json:coverage.json
	python .ci/floor.py coverage.json

lint:
	ruff check .
	ruff format --check .
	pyright
	lint-imports

fix:
	ruff check --fix .
	ruff format .

docs:
	python docs/reference.py
	fttool schema --builtin > recipes/recipe.schema.json

site:
	mkdocs build --strict

bench:
	python tests/benchmarks/training.py
	python tests/benchmarks/memory.py
	python tests/benchmarks/freezing.py
	python tests/benchmarks/regularizers.py
	python tests/benchmarks/features.py
	python tests/benchmarks/proof.py
	python tests/benchmarks/sharding.py
	python tests/benchmarks/start_up.py
	python tests/benchmarks/preparing.py
	python tests/benchmarks/audit.py
	python tests/benchmarks/near_duplicates.py
	python tests/benchmarks/gains.py
	python tests/benchmarks/choosing.py

gpu:
	python tests/gpu/run.py

package:
	.ci/package

.PHONY: test lint fix docs bench gpu

test:
	pytest -n auto

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

bench:
	python tests/benchmarks/training.py
	python tests/benchmarks/memory.py
	python tests/benchmarks/freezing.py
	python tests/benchmarks/regularizers.py
	python tests/benchmarks/features.py
	python tests/benchmarks/proof.py
	python tests/benchmarks/sharding.py
	python tests/benchmarks/start_up.py

gpu:
	python tests/gpu/run.py

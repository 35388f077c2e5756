"""Writes rows that stand for what `builtin:tiny-chat` knew: a sample of its pre-training, and what that held back.

    python recipes/tiny_chat/known_rows.py --build recipes/tiny_chat/build --out recipes/data

`known-*.jsonl` are rows that it was trained on, to be replayed or to measure importance on. `heldback-*.jsonl` are the
2% of its pre-training rows that it never saw, all of them, to measure what is forgotten. Which those are is asked of
fttool itself, with the recipe of the pre-training: a hash of each row decides, so it is the same each time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from transformers import AutoTokenizer

from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.rows import Rows

RECIPE = Path(__file__).parents[1] / "tiny-chat.toml"
SAMPLE = 300
"""Rows of each file of the sample."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True, help="the folder that prepare.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    options = parser.parse_args(arguments)
    rows = pretraining_rows(options.build.absolute())
    heldback = {example.origin for example in rows.eval_examples}
    for source, name in (("chat", "chat"), ("text", "docs")):
        file = options.build.absolute() / f"{source}.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        kept_back = [line for number, line in enumerate(lines, start=1) if f"{file}:{number}" in heldback]
        trained = sorted(set(lines) - set(kept_back), key=lambda line: sha256(line).digest())
        for kind, chosen in (("known", trained[:SAMPLE]), ("heldback", kept_back)):
            (options.out / f"{kind}-{name}.jsonl").write_bytes(b"".join(chosen))
            print(f"{kind}-{name}.jsonl: {len(chosen)} rows")


def pretraining_rows(build: Path) -> Rows:
    """The rows of the pre-training as its recipe divides them, from the files in `build`."""
    overrides = {
        "model.source.path": build / "config.json",
        "model.source.tokenizer": build / "tokenizer",
        "data.train.0.path": build / "text.jsonl",
        "data.train.1.path": build / "chat.jsonl",
    }
    loaded = load(RECIPE, [f"{key}={json.dumps(str(value))}" for key, value in overrides.items()])
    return prepare(loaded, AutoTokenizer.from_pretrained(str(build / "tokenizer"), local_files_only=True))


if __name__ == "__main__":
    main()

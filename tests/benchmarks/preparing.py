"""How quickly rows become tokens: with one processor, with all, once they are kept, and beside trl's own preparation.

    python tests/benchmarks/preparing.py            twelve minutes on two cores
    python tests/benchmarks/preparing.py --quick    some seconds

Chats of 200 tokens on average under ChatML, with trl's markers around what is learned, which fttool does not need.
trl's share is what its trainer does with such rows: `datasets.map` over the chat template with the assistant's mask,
with two processes. Contestants take turns; every one starts with the rows in a file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
from tomli_w import dumps

TIMES_TRL = 1.5
SECOND_START = 2.0
"""Seconds of data work of a second start with 200,000 rows."""
MEMORY = 300
"""Megabytes above the imports, with 200,000 rows that are kept."""
TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
WORDS = (
    *("the", "a", "queue", "list", "of", "python", "returns", "value", "sorted", "item"),
    *("key", "heap", "function", "and", "to", "in", "for", "each", "element"),
)


def main() -> None:
    """Time all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, one round")
    parser.add_argument("--rounds", type=int, default=None, help="default: 5, or 1 with --quick")
    parser.add_argument("--many", type=int, default=None, help="rows of the second start; default: 200,000")
    options = parser.parse_args()
    rounds, rows = options.rounds or (1 if options.quick else 5), 200 if options.quick else 6_000
    many = options.many or (2_000 if options.quick else 200_000)
    found: dict[str, Any] = {"benchmark": "preparing", "machine": report.machine(), "rounds": rounds, "rows": rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"] = str(folder / "cache")
        write(folder, "rows.jsonl", rows)
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            for contestant, prepare in CONTESTANTS.items():
                seconds.setdefault(contestant, []).append(alone(prepare, folder)["seconds"])
        write(folder, "rows.jsonl", many)
        alone(kept, folder)
        again = alone(kept, folder)
    found["rows_per_second"] = {
        contestant: round(rows / sorted(taken)[len(taken) // 2]) for contestant, taken in seconds.items()
    }
    found["all_over_trl"] = ratio(seconds["trl"], seconds["all"], at_least=TIMES_TRL)
    found["all_over_one"] = ratio(seconds["one"], seconds["all"])
    found["second_start"] = {
        "rows": many,
        "seconds": report.figure([again["seconds"]], at_most=SECOND_START),
        "megabytes_above_imports": report.figure([again["megabytes"]], at_most=MEMORY),
    }
    report.show(found)


def ratio(slower: list[float], quicker: list[float], *, at_least: float | None = None) -> dict[str, Any]:
    """How many times as quick, round by round."""
    values = [one / two for one, two in zip(slower, quicker, strict=True)]
    if at_least is None:
        return {"median": round(sorted(values)[len(values) // 2], 3)}
    return report.figure(values, at_least=at_least)


def write(folder: Path, name: str, rows: int) -> None:
    """Chats of one to three questions and answers."""
    draw = random.Random(17)

    def said(least: int, most: int, end: str) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(least, most))) + end

    with (folder / name).open("w", encoding="utf-8") as file:
        for number in range(rows):
            turns: list[dict[str, str]] = []
            for _ in range(draw.randrange(1, 4)):
                turns.append({"role": "user", "content": said(8, 40, f" {number}?")})
                turns.append({"role": "assistant", "content": said(20, 100, ".")})
            file.write(json.dumps({"messages": turns}) + "\n")
    (folder / "template.jinja").write_text(TEMPLATE, encoding="utf-8")


def alone(prepare: Callable[[Path], int], folder: Path) -> dict[str, float]:
    """Seconds, and megabytes above the imports at the end, of one contestant in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=measured, args=(prepare, folder, send))
    process.start()
    send.close()
    found: dict[str, float] = receive.recv()
    process.join()
    return found


def measured(prepare: Callable[[Path], int], folder: Path, send: Any) -> None:
    """Load what any of them needs, then time one."""
    import datasets
    import transformers  # noqa: F401
    import trl  # noqa: F401

    from fttool.runs import row_cache  # noqa: F401

    datasets.disable_progress_bars()
    tokenizer = tokenizer_of(folder)
    tokenizer("warm")
    before, began = resident(), time.perf_counter()
    tokens = prepare(folder)
    taken = time.perf_counter() - began
    assert tokens > 0
    send.send({"seconds": taken, "megabytes": resident() - before})


def resident() -> float:
    """Megabytes that the process holds, at most so far where the system tells no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
    return pages * resource.getpagesize() / 2**20


def tokenizer_of(folder: Path) -> Any:
    """The built-in model's, with the marked template."""
    from fttool.recipe.reading import load
    from fttool.rows import chat
    from fttool.runs.stages.rows import build_source

    loaded = load(recipe(folder))
    tokenizer = build_source(loaded).tokenizer()
    chat.apply_template(tokenizer, loaded.recipe.model.chat_template, loaded.folder)
    return tokenizer


def recipe(folder: Path, **data: Any) -> Path:
    """A recipe over the rows."""
    path = folder / "recipe.toml"
    content = {
        "recipe": 1,
        "model": {"source": "builtin:tiny-chat", "chat_template": "template.jinja"},
        "data": {"train": [{"path": "rows.jsonl"}], **data},
        "batching": {"max_length": 2048},
    }
    path.write_text(dumps(content), encoding="utf-8")
    return path


def fttools(folder: Path, **data: Any) -> int:
    """What a run does with its rows."""
    from fttool.recipe.reading import load
    from fttool.runs.stages.rows import load_rows

    return len(load_rows(load(recipe(folder, **data)))[2].train.tokens)


def one(folder: Path) -> int:
    """With one processor."""
    return fttools(folder, workers=1, cache=False)


def every(folder: Path) -> int:
    """With all of them."""
    return fttools(folder, cache=False)


def kept(folder: Path) -> int:
    """Read as they were kept, but for the first time."""
    return fttools(folder, cache="kept")


def trls(folder: Path) -> int:
    """As trl's trainer prepares rows whose template marks what is learned."""
    from datasets import load_dataset

    tokenizer = tokenizer_of(folder)

    def tokenized(row: dict[str, Any]) -> dict[str, Any]:
        made = tokenizer.apply_chat_template(
            row["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return {"input_ids": made["input_ids"], "assistant_masks": made["assistant_masks"]}

    rows: Any = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    rows = rows.map(tokenized, num_proc=2, remove_columns=["messages"], load_from_cache_file=False)
    return sum(map(len, rows["input_ids"]))


CONTESTANTS: dict[str, Callable[[Path], int]] = {"one": one, "all": every, "trl": trls}


if __name__ == "__main__":
    main()

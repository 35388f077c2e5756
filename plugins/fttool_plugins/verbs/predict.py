"""Ask a classifier for the class of a text.

Texts are cut where training cut them. Without --text and --file, one text per line comes from standard input. Each line
has its line in the output, with its number: a blank one too.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fttool.api import (
    DataError,
    ExitCode,
    Loaded,
    UsageError,
    load_run,
    read_lines,
    read_rows,
    saved_model,
    verb_parser,
    visible,
    visible_json,
)
from fttool_plugins.format.labelled import Labelled
from fttool_plugins.task.classifying import ROWS_AT_ONCE, chosen, classify, reads_as_text

EXAMPLES = """\
examples:
  fttool predict runs/spam --text "Win a prize!"
  fttool predict runs/spam --text "Win a prize!" --text "See you at noon."
  fttool predict runs/spam --file mails.csv --json   one JSON object per line: origin, classes, probabilities
  fttool predict runs/nli --text "It rains." --second "The street is wet."

next: fttool compare runs/*
"""

Text = tuple[str, str, str]
"""Where a text comes from, the text, and its second text (empty where there is none)."""


def main(words: Sequence[str]) -> int:
    """Print the class of each text."""
    parser = verb_parser("predict", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, or any classifier's folder")
    parser.add_argument("--text", action="append", default=[], help="a text; may be given several times")
    parser.add_argument("--second", action="append", default=[], help="its second text, where rows are of two")
    parser.add_argument("--file", type=Path, help="rows (.jsonl, .csv, .tsv), lines (.txt), or a folder of texts")
    parser.add_argument("--json", action="store_true", help="a JSON object per text, with all probabilities")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python code in the model's folder: read it first"
    )
    options = parser.parse_args(words)
    run = load_run(options.run) if (options.run / "recipe.resolved.toml").is_file() else None
    texts = _texts(options, run)
    first: list[Text] = []
    for text in texts:
        first.append(text)
        if text[1]:
            break
    else:
        raise UsageError("there is no text to classify", hint='fttool predict RUN --text "…"')
    with saved_model(options.run, "classes", trust_remote_code=options.trust_remote_code) as (tokenizer, model):
        several = model.config.problem_type == "multi_label_classification"
        max_length = _max_length(run, tokenizer, model)
        as_text = reads_as_text(run.recipe.masking if run else None)
        while group := [*first, *islice(texts, max(0, ROWS_AT_ONCE - len(first)))]:
            first = []
            with_text = [one for one in group if one[1]]
            said = iter(_classify(model, tokenizer, with_text, max_length, as_text) if with_text else [])
            for text in group:
                probabilities = next(said) if text[1] else {}
                names = chosen(probabilities, multi_label=several) if probabilities else []
                line = _as_json if options.json else _line
                print(visible(line(text, names, probabilities)))
            sys.stdout.flush()
    return ExitCode.OK


def _classify(
    model: Any, tokenizer: Any, group: Sequence[Text], max_length: int | None, as_text: bool
) -> list[dict[str, float]]:
    try:
        pairs = [(first, second) for _, first, second in group]
        return classify(model, tokenizer, pairs, max_length, as_text=as_text)
    except ValueError:
        for origin, first, second in group:  # which one?
            try:
                classify(model, tokenizer, [(first, second)], max_length, as_text=as_text)
            except ValueError as wrong:
                raise DataError(str(wrong), where=origin, hint="leave it out") from None
        raise


def _columns(run: Loaded | None) -> Labelled:
    """The columns that the run's rows have their texts in."""
    formats = [table.format for table in run.recipe.data.train] if run else []
    return next((one for one in formats if isinstance(one, Labelled)), Labelled())


def _max_length(run: Loaded | None, tokenizer: Any, model: Any) -> int | None:
    """Where training cut the texts; for a model of other origin, where its positions end."""
    if run:
        return run.recipe.batching.max_length
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(filter(None, (positions, tokenizer.model_max_length)))


def _texts(options: argparse.Namespace, run: Loaded | None) -> Iterator[Text]:
    if options.second and len(options.second) != len(options.text):
        raise UsageError(
            f"{len(options.text)} --text and {len(options.second)} --second do not make pairs", hint="give one for each"
        )
    if options.text and options.file:
        raise UsageError("--text and --file exclude each other", hint="leave one out")
    if options.file:
        if options.file.suffix == ".txt":
            return _of_lines(options.file)
        return _of_rows(options.file, run)
    if options.text:
        seconds = options.second or [""] * len(options.text)
        for text in options.text:
            if not text.strip():
                raise UsageError("the text is empty", hint='fttool predict RUN --text "…"')
        for text in (*options.text, *seconds):
            if not _is_unicode(text):
                hint = "give it in UTF-8, or put it into a file: --file"
                raise UsageError(f"the text {text[:40]!r} holds bytes that are not UTF-8", hint=hint)
        return (("--text", *pair) for pair in zip(options.text, seconds, strict=True))
    if sys.stdin.isatty():
        raise UsageError("there is no text to classify", hint='fttool predict RUN --text "…"')
    return _of_stdin()


def _of_lines(file: Path) -> Iterator[Text]:
    """The lines of a text file, blank ones too."""
    before = 0
    for number, text in read_lines(file):
        yield from ((f"{file}:{blank}", "", "") for blank in range(before + 1, number))
        yield f"{file}:{number}", text, ""
        before = number


def _of_stdin() -> Iterator[Text]:
    """Its lines; Python either refuses bytes that are not UTF-8, or hands them on in disguise."""
    wrong = DataError("standard input is not UTF-8", where="stdin", hint="convert it: iconv -f WINDOWS-1252 -t UTF-8")
    try:
        for number, line in enumerate(sys.stdin, 1):
            if not _is_unicode(line):
                raise wrong
            yield f"stdin:{number}", line.strip(), ""
    except UnicodeDecodeError:
        raise wrong from None


def _is_unicode(text: str) -> bool:
    """False where Python has disguised bytes as halves of characters, which no tokenizer takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _of_rows(file: Path, run: Loaded | None) -> Iterator[Text]:
    """Rows with the columns of the run's rows; a folder's files in its encodings."""
    columns = _columns(run)
    encodings = run.recipe.data.train[0].encodings if run and file.is_dir() else ("utf-8",)
    for origin, row in read_rows(file, encodings):
        names = [columns.text, *filter(None, [columns.second])]
        texts = [row.get(name) for name in names]
        for name, text in zip(names, texts, strict=True):
            if not isinstance(text, str) or not text.strip():
                there = ", ".join(map(repr, row))
                raise DataError(f"the row has no text in '{name}'", where=origin, hint=f"its columns: {there}")
        yield origin, str(texts[0]), str(texts[1]) if len(texts) > 1 else ""


def _as_json(text: Text, names: Sequence[str], probabilities: dict[str, float]) -> str:
    origin, first, second = text
    said = {"origin": origin, "text": first, **({"second": second} if second else {})}
    answer = {"classes": names, "probabilities": probabilities} if first else {"classes": None, "probabilities": None}
    content = {**said, **answer}
    return visible_json(json.dumps(content, ensure_ascii=False))


def _line(text: Text, names: Sequence[str], probabilities: dict[str, float]) -> str:
    """`spam  98.1%  the text's beginning`; in front of it the number of the line, where the texts are lines."""
    place, colon, line = text[0].rpartition(":")
    number = f"{line:>5}  " if colon and (place == "stdin" or place.endswith(".txt")) else ""
    if not text[1]:
        return f"{number}(blank)"
    shown = ", ".join(f"{name} {probabilities[name]:6.1%}" for name in names) or "no class"
    return f"{number}{shown}  {textwrap.shorten(' '.join(text[1:]), 80, placeholder=' …')}"

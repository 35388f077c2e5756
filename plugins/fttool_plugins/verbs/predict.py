"""Ask a classifier for the class or number of a text, or for the entities in it.

Texts are cut where training cut them; entities are found in all of a text. Without --text and --file, one text per line
comes from standard input. Each line has its line in the output, with its number: a blank one too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fttool.api import DataError, ExitCode, UsageError, visible, visible_json
from fttool.verbs import Loaded, load_run, model_head, read_lines, read_rows, saved_model, verb_parser
from fttool_plugins.format.labelled import Labelled
from fttool_plugins.format.tagged import Tagged, read_words, word_column
from fttool_plugins.task.classifying import ROWS_AT_ONCE, reads_as_text
from fttool_plugins.verbs.answers import SAYS, Answer, Asked, Says, Text, blank

EXAMPLES = """\
examples:
  fttool predict runs/spam --text "Win a prize!"
  fttool predict runs/spam --text "Win a prize!" --text "See you at noon."
  fttool predict runs/spam --file mails.csv --json   one JSON object per line: origin, classes, probabilities
  fttool predict runs/names --text "Anna Lee lives in Rome." --json      spans: text, label, start, end (exclusive)
  fttool predict runs/nli --text "It rains." --second "The street is wet."

next: fttool compare runs/*
"""

CLASSES = "SequenceClassification"
"""What a model is for that tells classes of texts apart."""


def main(words: Sequence[str]) -> int:
    """Print the model's prediction for each text."""
    parser = verb_parser("predict", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, or any classifier's folder")
    parser.add_argument("--text", action="append", default=[], help="a text; may be given several times")
    parser.add_argument("--second", action="append", default=[], help="its second text, for rows of two texts")
    parser.add_argument(
        "--file", type=Path, help="rows (.jsonl, .csv, .tsv, .conll), lines (.txt), or a folder of texts"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object per text, with everything predicted for it")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python code in the model's folder: read it first"
    )
    options = parser.parse_args(words)
    run = load_run(options.run) if (options.run / "recipe.resolved.toml").is_file() else None
    texts = _texts(options, run)
    first: list[Text] = []
    for text in texts:
        first.append(text)
        if text.first:
            break
    else:
        raise UsageError("there is no text to classify", hint='fttool predict RUN --text "…"')
    head = model_head(options.run)
    with saved_model(options.run, head if head in SAYS else CLASSES, trust_remote_code=options.trust_remote_code) as (
        tokenizer,
        model,
    ):
        as_text = reads_as_text(run.recipe.masking if run else None)
        asked = Asked(model, tokenizer, _max_length(run, tokenizer, model), as_text)
        while group := [*first, *islice(texts, max(0, ROWS_AT_ONCE - len(first)))]:
            first = []
            said = iter(_answers(SAYS[head], asked, [text for text in group if text.first]))
            for text in group:
                answer = next(said) if text.first else blank(asked, text)
                line = visible_json(json.dumps(answer.data, ensure_ascii=False))
                print(visible(line if options.json else f"{_number(text)}{answer.line}"))
            sys.stdout.flush()
    return ExitCode.OK


def _answers(says: Says, asked: Asked, group: Sequence[Text]) -> list[Answer]:
    try:
        return says(asked, group) if group else []
    except ValueError:
        for text in group:  # which one?
            try:
                says(asked, [text])
            except ValueError as wrong:
                raise DataError(str(wrong), where=text.origin, hint="leave it out") from None
        raise


def _number(text: Text) -> str:
    """The number of a line, where the texts are lines."""
    place, colon, line = text.origin.rpartition(":")
    return f"{line:>5}  " if colon and (place == "stdin" or place.endswith(".txt")) else ""


def _columns(run: Loaded | None) -> Labelled:
    """The columns that the run's rows have their texts in."""
    formats = [table.format for table in run.recipe.data.train] if run else []
    return next((form for form in formats if isinstance(form, Labelled)), Labelled())


def _words(run: Loaded | None) -> Tagged | None:
    """The columns that the run's rows have their words in; None where they have texts."""
    formats = [table.format for table in run.recipe.data.train] if run else []
    return next((form for form in formats if isinstance(form, Tagged)), None)


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
        raise UsageError("--text and --file cannot be combined", hint="leave one out")
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
        return (Text("--text", *pair) for pair in zip(options.text, seconds, strict=True))
    if sys.stdin.isatty():
        raise UsageError("there is no text to classify", hint='fttool predict RUN --text "…"')
    return _of_stdin()


def _of_lines(file: Path) -> Iterator[Text]:
    """The lines of a text file, blank ones too."""
    before = 0
    for number, text in read_lines(file):
        yield from (Text(f"{file}:{empty}", "") for empty in range(before + 1, number))
        yield Text(f"{file}:{number}", text)
        before = number


def _of_stdin() -> Iterator[Text]:
    """Its lines; Python either refuses bytes that are not UTF-8, or hands them on in disguise."""
    wrong = DataError("standard input is not UTF-8", where="stdin", hint="convert it: iconv -f WINDOWS-1252 -t UTF-8")
    try:
        for number, line in enumerate(sys.stdin, 1):
            if not _is_unicode(line):
                raise wrong
            yield Text(f"stdin:{number}", line.strip())
    except UnicodeDecodeError:
        raise wrong from None


def _is_unicode(text: str) -> bool:
    """False where Python has disguised bytes as halves of characters, which no tokenizer takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _of_rows(file: Path, run: Loaded | None) -> Iterator[Text]:
    """Rows with the columns of the run's rows, read by its reader where it is a folder, as theirs may have been."""
    columns = _columns(run)
    reader = run.recipe.data.train[0].reader if run and file.is_dir() else None
    of_words = _words(run)
    for origin, row in read_rows(file, reader):
        column = word_column(row, of_words) if of_words is not None else ""
        if column in row and of_words is not None:
            try:
                words = read_words(row, of_words)
            except ValueError as wrong:
                raise DataError(str(wrong), where=origin, hint="leave it out") from None
            yield Text(origin, " ".join(words), words=words)
            continue
        names = [columns.text, *filter(None, [columns.second])]
        texts = [row.get(name) for name in names]
        for name, text in zip(names, texts, strict=True):
            if not isinstance(text, str) or not text.strip():
                there = ", ".join(map(repr, row))
                raise DataError(f"the row has no text in '{name}'", where=origin, hint=f"its columns: {there}")
        yield Text(origin, str(texts[0]), str(texts[1]) if len(texts) > 1 else "")

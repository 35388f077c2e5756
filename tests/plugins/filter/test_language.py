"""Rows in other languages are dropped; short ones, code and close calls are kept."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.language import InLanguage, prose

QUESTIONS = Path(__file__).parents[3] / "recipes" / "data" / "stdlib-qa.jsonl"
needs_py3langid = pytest.mark.skipif(importlib.util.find_spec("py3langid") is None, reason="needs py3langid")

SENTENCES = {
    "de": ["Die Funktion gibt eine Liste zurück.", "Das Modul tut nichts, und es wird nie geladen."],
    "fr": ["La fonction renvoie une liste de tous les éléments.", "Ce module ne fait rien du tout, et c’est voulu."],
    "es": ["La función devuelve una lista con todos los elementos.", "Este módulo no hace nada de nada."],
    "it": ["Questo modulo non fa nulla, e la funzione restituisce una lista.", "Il file viene chiuso alla fine."],
    "pt": ["A função devolve uma lista com todos os elementos.", "Este módulo não faz nada."],
    "nl": ["Deze module doet niets, en dat is de bedoeling.", "De functie geeft een lijst met alle elementen terug."],
    "pl": ["Ten moduł nic nie robi, a funkcja zwraca listę.", "Plik jest zamykany na końcu programu."],
    "ru": ["Это модуль, который ничего не делает.", "Функция возвращает список всех элементов."],
    "zh": ["这个模块什么都不做。", "该函数返回所有元素的列表。"],
    "ja": ["このモジュールは何もしません。", "この関数はすべての要素のリストを返します。"],
    "tr": ["Bu modül hiçbir şey yapmaz, işlev bir liste döndürür.", "Dosya programın sonunda kapatılır."],
    "ar": ["هذه الوحدة لا تفعل شيئا على الإطلاق.", "تعيد الدالة قائمة بجميع العناصر."],
}
KEPT = [
    "Yes.",
    "Paris.",
    "42",
    "Ja.",
    "",
    "Same as a = b.",
    "The word Schadenfreude is German, and so is Weltschmerz.",
    "```python\nfür_alle = [übung for übung in größen]\nrückgabe = für_alle\n```",
    "Use `dict.get(schlüssel, standardwert)` to look it up, with a default.",
    "SELECT nom, prénom FROM utilisateurs WHERE id_utilisateur = 5;",
    "It is 5 °C.",
    "https://de.wikipedia.org/wiki/Die_Verwandlung_eines_Mannes",
]


def row(answer: str, question: str = "?") -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


@needs_py3langid
def test_sentences_in_other_languages_are_dropped_and_english_is_kept() -> None:
    """Recall over planted sentences of twelve languages, precision over answers about Python."""
    planted = [text for texts in SENTENCES.values() for text in texts]
    english = [json.loads(line)["messages"][-1]["content"] for line in QUESTIONS.read_text().splitlines()][:400]
    verdicts = InLanguage(languages=("en",)).build(filter_context())([row(text) for text in [*planted, *english]])
    missed = [text for text, verdict in zip(planted, verdicts, strict=False) if verdict is None]
    wrong = [text for text, verdict in zip(english, verdicts[len(planted) :], strict=True) if verdict]
    assert len(missed) <= 1 and len(wrong) <= len(english) / 200, (missed, wrong)


@needs_py3langid
def test_each_language_can_be_the_wanted_one() -> None:
    texts = {language: [row(text) for text in given] for language, given in SENTENCES.items()}
    for wanted in ("de", "ru", "zh"):
        decide = InLanguage(languages=(wanted, "en")).build(filter_context())
        assert decide(texts[wanted]) == [None, None]
    assert InLanguage(languages=("de",)).build(filter_context())(
        [row("The function returns a list of all the elements that it has found.")]
    ) == ["in another language (en)"]


@needs_py3langid
def test_by_default_the_languages_of_many_rows_are_wanted() -> None:
    rows = [row(text) for text in [*SENTENCES["de"] * 10, *SENTENCES["zh"] * 4, *SENTENCES["fr"]]]
    verdicts = InLanguage().build(filter_context())(rows)
    assert verdicts == [None] * 28 + ["in another language (fr)"] * 2


@needs_py3langid
def test_what_is_too_short_to_say_and_code_are_kept() -> None:
    verdicts = InLanguage(languages=("en",)).build(filter_context())([row(text) for text in KEPT])
    assert [text for text, verdict in zip(KEPT, verdicts, strict=True) if verdict] == []


@needs_py3langid
def test_the_part_that_is_judged_can_be_chosen() -> None:
    example = row("The function returns a list of all elements.", SENTENCES["ru"][0] * 3)
    for part, dropped in (("answer", False), ("prompt", True), ("row", True)):
        (verdict,) = InLanguage(languages=("en",), of=part).build(filter_context())([example])  # type: ignore[arg-type]
        assert (verdict is not None) == dropped


def test_prose_is_what_is_left_without_code() -> None:
    assert prose("Call `f(x)` or ```\ncode\n``` and see https://x.org/y for a_b, 5 and <b>more</b>") == (
        "Call or and see for and more"
    )


def test_bad_options_and_a_missing_package_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for languages in (("english",), ("EN",)):
        with pytest.raises(ValidationError):
            InLanguage(languages=languages)
    monkeypatch.setattr("fttool_plugins.filter.language.find_spec", lambda name: None)
    (problem,) = InLanguage(languages=("en",)).check(None)  # type: ignore[arg-type]
    assert "py3langid, which is not installed" in problem.message and "fttool[language]" in (problem.hint or "")

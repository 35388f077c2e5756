"""Leftovers of web pages are found; code, and answers about markup, are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.markup import Markup, markup_share

DATA = Path(__file__).parents[3] / "recipes" / "data"
PAGES = [
    "<p>The <b>sea</b> is deep.</p>",
    '<div class="post"><a href="/x">More</a></div>\nThe sea is deep and cold, and nobody has been at its ground.',
    "The sea&nbsp;is deep &amp; cold&#8212;nobody has been there.",
    "Skip to content\nLog in | Sign up\nThe sea is deep.\nShare on Facebook\n© 2021 Sea Inc. All rights reserved.",
    "The sea is deep.\n\nAccept all cookies\nPrivacy Policy\nTerms of Service",
    "<script>var x = 1 < 2;\n</script>The sea is deep.",
    "[b]The sea[/b] is [url=http://x.org]deep[/url].",
    "<!-- begin ad --> The sea is deep. <!-- end ad -->",
    "The sea is deep.<br/><br/>It is cold.<br/>",
    "<TABLE><TR><TD>The sea</TD></TR></TABLE>",
]
GOOD = [
    "Use a list:\n\n```html\n<ul><li>one</li></ul>\n```\nThat is all.",
    "The tag `<br>` breaks a line.",
    "A `Map<String, List<Integer>>` holds it, where a < b and c > d.",
    "std::vector<int> v; #include <stdio.h>\nfor (int i = 0; i < n; i++) { if (x<y && z>w) break; }",
    "fn f<T: Into<String>>(x: Option<T>) -> Result<(), Box<dyn Error>> {}",
    "if a<b: print('x')  # and c>d\nx = y & z; &mut self",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "# Title\n\n**Bold** and [a link](https://example.org), see [1].",
    "The privacy policy of a company says what it does with data, and terms of service say what you may do.",
    "Same as a[b] = c, or a[i][u].",
    "Click here is a bad text for a link.",
    "~~~\n<p>unclosed\n",
    "",
    "AT&T and R&D; Q&A; <https://example.org>",
]


def row(answer: str, question: str = "What of the sea?") -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def dropped(*rows: Example, **options: object) -> list[bool]:
    return [verdict is not None for verdict in Markup(**options).build(filter_context())(rows)]  # type: ignore[arg-type]


@pytest.mark.parametrize("page", PAGES)
def test_leftovers_of_pages_are_found(page: str) -> None:
    assert Markup().build(filter_context())([row(page)]) == ["more than 5% markup"]


@pytest.mark.parametrize("answer", GOOD)
def test_code_and_markdown_are_kept(answer: str) -> None:
    assert dropped(row(answer)) == [False]


def test_answers_about_markup_are_kept() -> None:
    asked = ("Write a web page.", "How is this HTML read?", "Which tag makes text bold?", "Translate the e-mail.")
    assert dropped(*(row(PAGES[0], question) for question in asked)) == [False] * 4
    assert dropped(row("Yes.", PAGES[0]), row("Yes.", PAGES[0]), of="prompt") == [True, True]


def test_planted_pages_are_found_among_real_answers() -> None:
    lines = (DATA / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    lines += (DATA / "stdlib-qa.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [str(json.loads(line).get("messages", [{}])[-1].get("content", "")) for line in lines][:2000]
    draw = random.Random(0)
    planted = set(draw.sample(range(len(answers)), 100))
    found = dropped(*(row(draw.choice(PAGES) if n in planted else text) for n, text in enumerate(answers)))
    assert all(found[n] for n in planted)
    wrong = [answers[n] for n, is_found in enumerate(found) if is_found and n not in planted]
    assert len(wrong) <= len(answers) / 200, wrong


def test_the_share_is_of_characters_outside_of_code() -> None:
    assert markup_share("<b>abcd</b>" + "e" * 9) == 7 / 20
    assert markup_share("```\n<b>\n```\n<b>abc") == 3 / 6
    assert dropped(row("<b>abcd</b>" + "e" * 9), share=0.4) == [False]
    assert markup_share("```\n<b>\n```") == 0


def test_hostile_texts_take_no_time() -> None:
    for text in ("<" * 50_000, "<!--" * 20_000, "<script>" * 10_000, "```" * 20_000, "&a" * 30_000, "\n \n" * 20_000):
        markup_share(text)

"""Broken text is found and mended: held to texts of many languages that are broken on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fttool.api import Example, Kept
from fttool.testing import filter_context
from fttool_plugins.filter.encoding import Encoding
from fttool_plugins.filter.mojibake import has_mojibake, repaired

TEXTS = [
    "L’été dernier, à Genève, le garçon a mangé « un pâté » où ça coûtait 5 € — voilà !",
    "Größe und Maß: „Straße“ – das heißt, über Öl fließt Ärger. Fußgänger gehören übrigens nicht dazu…",
    "¿Qué año es? El niño soñó con “pingüinos” en España, ¡olé!",
    "NÃO é a maçã; a SITUAÇÃO não está boa, às vezes. AMANHÃ “vou” lá.",
    "Zażółć gęślą jaźń; przykład „ładny” się świetnie.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Привет, мир! Это «модуль» номер 5 — да.",
    "Καλημέρα κόσμε, τι κάνεις;",
    "שלום עולם",
    "مرحبا بالعالم",
    "你好，世界。这是测试。",
    "こんにちは、世界。テストです。",
    "안녕하세요 세계",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "Xin chào thế giới, tiếng Việt rất đẹp.",
    "Günaydın, çığ gibi büyüyor; İstanbul’da ışık.",
    "Árvíztűrő tükörfúrógép.",
    "Great 😀 👍🏽 thanks ❤️ ✓ 👩‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "It’s “fine” — really… 20 °C, ½ cup, naïve café, £5, © 2020.",
    "naïve idea",
    "it’s ok",
    "5 €",
]
"""Good texts, each of which mojibake breaks."""
GOOD = [
    "Il est né\u00a0» et enragé\u00a0», « élève\u00a0»… É\u00a0»; voilà\u00a0!",
    "CAFÉ” CAFÉ’ É… FUß” „groß»",
    "På sjön ”Å” åker Åke… ”KÅ”; RÅ” GÅ– ÆØÅ”",
    "Það er gott “veður”.",
    "a ≤ b × c ÷ d ± e, 10 µm² at 5 ‰",
    "می‌خواهم",
    "שלום\u200f!",
    "क्\u200dष",
    "def f(x):\r\n\treturn x  # \\u00e9 \\x00 &eacute;",
    "plain ASCII",
    "",
]


def windows_1252(data: bytes) -> str:
    """As browsers read it: bytes that stand for nothing become control characters."""
    return "".join(
        bytes([one]).decode("windows-1252") if one not in b"\x81\x8d\x8f\x90\x9d" else chr(one) for one in data
    )


def row(answer: str, question: str = "?") -> Example:
    turns = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def reasons(*texts: str, **options: object) -> list[str | Kept | None]:
    return list(Encoding(**options).build(filter_context())([row(text) for text in texts]))  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("read", [windows_1252, lambda data: data.decode("latin-1")], ids=["windows-1252", "latin-1"])
def test_mojibake_of_any_language_is_found_and_read_as_it_was_meant(read: Callable[[bytes], str], times: int) -> None:
    for text in TEXTS:
        broken = text
        for _ in range(times):
            broken = read(broken.encode())
        assert has_mojibake(broken), broken
        assert repaired(broken) == text
        assert repaired(f"Good: {broken} (so)") == f"Good: {text} (so)"


@pytest.mark.parametrize("text", [*TEXTS, *GOOD])
def test_good_text_is_kept_as_it_is(text: str) -> None:
    assert reasons(text, text.upper() if text.isascii() else text) == [None, None]
    assert repaired(text) == text


def test_planted_mojibake_is_found_among_good_texts() -> None:
    """Precision and recall over random pieces: a few words of a good text, every third of them broken."""
    draw = random.Random(0)
    wrong = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for _ in range(1500):
        words = draw.choice([*TEXTS, *GOOD[:5]]).split(" ")
        start = draw.randrange(len(words))
        text = " ".join(words[start : start + 4])
        broken = draw.random() < 1 / 3 and not text.isascii()
        text = windows_1252(text.encode()) if broken else text
        total[broken] += 1
        wrong[broken] += has_mojibake(text) != broken
    assert wrong[False] <= 0.005 * total[False] and wrong[True] <= 0.02 * total[True], (wrong, total)


def test_what_a_lost_byte_has_left_is_found_and_not_repaired() -> None:
    assert reasons("the â€œcafâ€ is open", "voilÃ  the end") == ["has mojibake"] * 2
    assert reasons("the â€ is lost", action="repair") == ["has mojibake"]


@pytest.mark.parametrize(
    ("text", "reason", "mended"),
    [
        ("The value is \ufffd\ufffd 0", "has replacement characters (U+FFFD)", None),
        ("half \ud83d of a pair", "has replacement characters (U+FFFD)", None),
        ("a\x00b", "has control characters", "ab"),
        ("\x1b[31mred\x1b[0m", "has control characters", "[31mred[0m"),
        ("next\x85line\x7f", "has control characters", "next\nline"),
        ("\ufeffHello", "has invisible characters", "Hello"),
        ("zero\u200bwidth", "has invisible characters", "zerowidth"),
        ("end\u200d", "has invisible characters", "end"),
        ("\u200c", "has invisible characters", ""),
        ("soft\u00adhyphen", "has invisible characters", "softhyphen"),
        ("ad\u202enimda", "has invisible characters", "adnimda"),
        ("hidden\U000e0068\U000e0069", "has invisible characters", "hidden"),
        ("caf\u00c3\u00a9\u200b!", "has mojibake", "café!"),
    ],
)
def test_characters_that_nobody_typed_are_found_and_taken_out(text: str, reason: str, mended: str | None) -> None:
    assert reasons(text) == [reason]
    assert reasons(text, action="flag") == [Kept(reason)]
    assert reasons(text, action="repair") == [reason if mended is None else Kept(reason, row(mended))]


def test_faults_can_be_chosen_and_everything_that_is_said_is_looked_at() -> None:
    assert reasons("a\x00b", faults=("mojibake", "invisible")) == [None]
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": ["cafÃ©"]}}}
    turns = ({"role": "user", "content": "cafÃ©?"}, {"role": "assistant", "content": None, "tool_calls": [call]})
    example = Example(origin="r:1", messages=turns, template={"documents": [{"text": "cafÃ©"}]})
    (verdict,) = Encoding(action="repair").build(filter_context())([example])
    assert isinstance(verdict, Kept) and verdict.example is not None
    text = f"{verdict.example.messages} {verdict.example.template}"
    assert text.count("café") == 3 and "Ã" not in text


def test_words_with_classes_stay_where_they_are() -> None:
    text = "Le cafÃ©\u200b de Zoë"
    words = ((0, 2), (3, 9), (10, 12), (13, 16))
    example = Example(origin="r:1", prompt=text, words=words, labels=("O", "B-X", "O", "B-P"))
    (verdict,) = Encoding(action="repair").build(filter_context())([example])
    assert isinstance(verdict, Kept) and verdict.example is not None
    mended = verdict.example
    assert mended.prompt == "Le café de Zoë" and mended.labels == example.labels
    assert [mended.prompt[start:end] for start, end in mended.words] == ["Le", "café", "de", "Zoë"]


def test_hostile_texts_take_no_time() -> None:
    for text in ("Ã" * 50_000, "â€" * 20_000, "\u200b" * 50_000, "\U0001f3f4\U000e0067" * 10_000, "ðŸ" * 20_000):
        reasons(text, action="repair")

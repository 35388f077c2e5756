"""Keys are found where they stand, in documents written by hand and in random ones; mistakes are located."""

import datetime
import random
import time
from pathlib import Path

import pytest
import tomli
import tomli_w

from fttool.errors import RecipeError
from fttool.recipe.toml import Document, Place, TomlError, format_value, parse, parse_value, read

RECIPE = '''\
recipe = 1  # [not.a.table]
run.name = "a"
run . "seed" = 17

[a.b]
'literal key' = """
[x]
y = 1
"""
"quo\\"ted.é" = \'\'\'
[[z]] = {} \'\'\'
ends = """"two quotes of its own"""""

[[filters]]
name = "words"
[[filters]]
name = "length"  # max = 1
options.max = 3
[filters.deep]
k = [1, 2]

[data]
train = [
    {path = "a.jsonl", format = {name = "messages", column = "m]"}},  # , {path
    # {path = "no.jsonl"},
    {path = 'b.jsonl', limit = 3},
]
nested = [[1, 2], [{z.y = 1}]]
[a]
c = 2
'''


def text_at(document: Document, key: tuple[str | int, ...]) -> str:
    place = document.places[key]
    return document.text.splitlines()[place.line - 1][place.column - 1 :]


@pytest.mark.parametrize(
    ("key", "starts_with"),
    [
        (("recipe",), "recipe = 1"),
        (("run",), "run.name"),
        (("run", "name"), 'name = "a"'),
        (("run", "seed"), '"seed" = 17'),
        (("a", "b"), "b]"),
        (("a", "b", "literal key"), "'literal key' ="),
        (("a", "b", 'quo"ted.é'), '"quo\\"ted.é" ='),
        (("a", "b", "ends"), "ends ="),
        (("filters",), "filters]]"),
        (("filters", 0), "filters]]"),
        (("filters", 0, "name"), 'name = "words"'),
        (("filters", 1, "name"), 'name = "length"'),
        (("filters", 1, "options"), "options.max"),
        (("filters", 1, "options", "max"), "max = 3"),
        (("filters", 1, "deep", "k"), "k = [1"),
        (("filters", 1, "deep", "k", 1), "2]"),
        (("data", "train", 0, "format", "column"), 'column = "m]"'),
        (("data", "train", 1), "{path = 'b.jsonl'"),
        (("data", "train", 1, "path"), "path = 'b.jsonl'"),
        (("data", "train", 1, "limit"), "limit = 3"),
        (("data", "nested", 1, 0, "z", "y"), "y = 1"),
        (("a", "c"), "c = 2"),
    ],
)
def test_keys_are_found_where_they_stand(key: tuple[str | int, ...], starts_with: str) -> None:
    document = parse(RECIPE)
    assert document.data == tomli.loads(RECIPE)
    assert text_at(document, key).startswith(starts_with)


def test_every_key_and_element_has_a_place() -> None:
    document = parse(RECIPE)
    assert set(document.places) == set(paths(document.data))


def test_a_table_is_placed_at_its_own_header_rather_than_at_one_below_it() -> None:
    document = parse("[a.b]\nx = 1\n\n[a]\ny = 2\n")
    assert document.place(["a"]) == Place(4, 2)


def test_the_second_array_element_is_placed_at_its_own_header() -> None:
    document = parse("[[f]]\nx = 1\n  [[ f ]]\nx = 2\n")
    assert (document.place(["f"]), document.place(["f", 0]), document.place(["f", 1])) == (
        Place(3, 6),
        Place(1, 3),
        Place(3, 6),
    )


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (("data", "train", 0, "limit"), "24:5"),  # the table that lacks it
        (("run", "nmae"), "2:1"),
        (("filters", 7, "name"), "16:3"),
        (("nothing",), "1:1"),
        ((), "1:1"),
    ],
)
def test_a_key_that_is_not_there_is_placed_at_the_nearest_key_around_it(key: tuple[str | int, ...], place: str) -> None:
    assert str(parse(RECIPE).place(key)) == place


def test_carriage_returns_change_nothing() -> None:
    assert parse(RECIPE.replace("\n", "\r\n")).places == parse(RECIPE).places


# -- random documents ----------------------------------------------------------------------------------------

NAMES = [
    "a",
    "b-1",
    "_",
    "3",
    "a b",
    "é.θ",
    'q"uote',
    "b\\slash",
    "x = [1]",
    "#",
    "[t]",
    "",
    "{",
    "tab\t",
    "'",
]
TEXTS = [
    "",
    "plain",
    '"',
    "'''",
    '"""',
    "[x]\ny = 1\n",
    "# no comment",
    "a = {b = 1}",
    "\\",
    "θ‖",
    "]]}},",
    "\x7f",
]


def random_value(rng: random.Random, depth: int) -> object:
    kinds = 7 if depth else 5
    match rng.randrange(kinds):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            return rng.randrange(-9, 10**6)
        case 2:
            return rng.choice([0.5, -1e-9, float("inf"), 1e300])
        case 3:
            return rng.random() < 0.5
        case 4:
            day = datetime.datetime(2024, 5, 6, 7, 8, 9)
            return rng.choice([day, day.date(), day.time(), day.replace(tzinfo=datetime.UTC)])
        case 5:
            return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return random_table(rng, depth - 1)


def random_table(rng: random.Random, depth: int) -> dict[str, object]:
    table = {name: random_value(rng, depth) for name in rng.sample(NAMES, rng.randrange(5))}
    if rng.random() < 0.3:
        table["tables"] = [random_table(rng, max(0, depth - 1)) for _ in range(rng.randrange(1, 4))]
    return table


def inline_somewhere(rng: random.Random, table: dict[str, object]) -> str:
    """The same table with some of its values written on one line, and comments and blank lines between."""
    lines = []
    rest = {}
    for name, value in table.items():
        if rng.random() < 0.5:
            lines.append(f"{format_value({name: value})[1:-1]}  # {rng.choice(NAMES)} = [".replace("\t", " "))
        else:
            rest[name] = value
    return "\n\n".join([*lines, tomli_w.dumps(rest, multiline_strings=rng.random() < 0.5)])


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*path, key), *paths(item, (*path, key)))]


def spellings(name: str) -> tuple[str, ...]:
    return (format_value({name: 0})[1:-5], name, f'"{name}"', f"'{name}'")


@pytest.mark.parametrize("seed", range(60))
def test_random_documents(seed: int) -> None:
    rng = random.Random(seed)
    text = inline_somewhere(rng, random_table(rng, 3))
    document = parse(text)
    assert document.data == tomli.loads(text)
    assert set(document.places) == set(paths(document.data))
    lines = text.split("\n")
    for key, place in document.places.items():
        here = lines[place.line - 1][place.column - 1 :]
        name = next(part for part in reversed(key) if isinstance(part, str))
        if isinstance(key[-1], str):
            assert here.startswith(spellings(name)), (key, here)
        else:
            value = resolve(document.data, key)
            assert here.startswith(spellings(name)) or starts_value(here, value), (key, here)


def resolve(data: object, key: tuple[str | int, ...]) -> object:
    for part in key:
        data = data[part]  # type: ignore[index]
    return data


def starts_value(here: str, value: object) -> bool:
    if isinstance(value, dict | list):
        return here.startswith("{" if isinstance(value, dict) else "[")
    return here.startswith(('"""', format_value(value)))


def test_places_follow_the_text_and_not_the_first_match() -> None:
    """Each integer value is its own line's number: whatever is found must be on that line."""
    rng = random.Random(5)
    lines: list[str] = []
    for _ in range(200):
        number = len(lines) + 1
        kind = rng.randrange(4)
        name = f"k{number}"
        if kind == 0:
            lines.append(f"[t{number}.u.'v w']")
        elif kind == 1:
            lines.append(f"[[{rng.choice('xyz')}]]  # k = 1")
        elif kind == 2:
            lines.append(f"{name} = {number} # k = {number}")
        else:
            lines.append(f'{name}.deep = [{{k = "{{k = 1}}"}}, {{a = "]", k = {number}}}]')
    document = parse("\n".join(lines))
    checked = 0
    for key in paths(document.data):
        value = resolve(document.data, key)
        if isinstance(value, int):
            checked += 1
            assert document.places[key].line == value
    assert checked > 50


def test_the_time_is_linear_in_the_length() -> None:
    """Ten times the text takes about ten times as long; a quadratic reader would take a hundred times."""

    def seconds(count: int) -> float:
        rows = ",\n".join(f'  {{name = "n{i}", text = """a "quoted" [x]\nline"""}}' for i in range(count))
        text = f"rows = [\n{rows}\n]\n"
        start = time.process_time()
        document = parse(text)
        assert document.places["rows", count - 1, "text"].line == 2 * count
        return time.process_time() - start

    short = min(seconds(500) for _ in range(3))
    assert seconds(5000) < 40 * short


# -- mistakes ------------------------------------------------------------------------------------------------


def error_of(text: str) -> TomlError:
    with pytest.raises(TomlError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "name", "second", "first"),
    [
        ("a = 1\nb = 2\na = 3\n", "a", (3, 1), "line 1, column 1"),
        ("[s]\nx = 1\n[t]\n[s]\n", "s", (4, 2), "line 1, column 2"),
        ("[s]\nx = 1\ny = 2\nx = 3", "s.x", (4, 1), "line 2, column 1"),
        ("f = [\n {a = 1},\n {a = 1, b = 2,\n  a = 3}]", "f.1.a", (4, 3), "line 3, column 3"),
        ("[[f]]\na = 1\n[[f]]\na = 1\n'a' = 2", "f.1.a", (5, 1), "line 4, column 1"),
        ("[a.b]\n[a]\n[a]\n", "a", (3, 2), "line 2, column 2"),
        ("a = [1]\n[[a]]\nb = 1", "a", (2, 3), "line 1, column 1"),
        ("[[a]]\n[a]\n", "a", (2, 2), "line 1, column 3"),
        ("a.b = 1\na = 2", "a", (2, 1), "line 1, column 1"),
        ("x = 1\nx = {a = 1, b = 2}\n", "x", (2, 1), "line 1, column 1"),
    ],
)
def test_a_key_defined_twice_is_located_with_its_first_place(
    text: str, name: str, second: tuple[int, int], first: str
) -> None:
    error = error_of(text)
    assert error.message == f"'{name}' is defined twice; it is first defined at {first}"
    assert (error.line, error.column) == second


def test_a_value_that_is_used_as_a_table() -> None:
    error = error_of('schedule = "wsd"\n[schedule.more]\n')
    assert error.message == "'schedule' is already a value, not a table; it is first defined at line 1, column 1"
    assert (error.line, error.column) == (2, 2)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[run]\nname = stdlib-qa\n", (2, 8), 'text needs quotes: "stdlib-qa"'),
        ("a = True", (1, 5), "TOML writes true"),
        ("a = [1, None]", (1, 9), "TOML has no null: leave the key out"),
        ("run:\n  name: x", (1, 4), "TOML sets a key with '=', not with ':'"),
        ('{"run": {}}', (1, 1), "this looks like JSON; a recipe is TOML, one 'key = value' a line"),
        ("a = [1,\n  2\nb = 3\n", (3, 1), "what opens at line 1, column 5 is not closed"),
        ('a = 1\nb = "x\nc = 2', (2, 7), "what opens at line 2, column 5 is not closed"),
        ('b = """x\nc = 2\n', (3, 1), "what opens at line 1, column 5 is not closed"),
        ("f = {a = [1, 2}\n", (1, 15), "what opens at line 1, column 10 is not closed"),
        ("[a\nb = 1", (1, 3), "what opens at line 1, column 1 is not closed"),
        ("a = 1 2\n", (1, 7), ""),
        ('"a" 2\n', (1, 5), ""),
        ("[f.", (1, 4), ""),
        ('a = 1\nb = "\\', (2, 7), "what opens at line 2, column 5 is not closed"),
        ("a =\n", (1, 4), ""),
        ("= 1\n", (1, 1), ""),
        ("a = 1\0\n", (1, 6), ""),
    ],
)
def test_a_syntax_error_is_located(text: str, place: tuple[int, int], hint: str) -> None:
    error = error_of(text)
    assert ((error.line, error.column), error.hint) == (place, hint)
    assert error.message.startswith("this is not TOML: ")


def test_an_earlier_syntax_error_comes_before_a_later_duplicate() -> None:
    assert error_of("a = 1\nb = ?\na = 2\n").line == 2


def test_any_slip_of_the_hand_is_located_within_the_text() -> None:
    rng = random.Random(3)
    refused = 0
    for _ in range(800):
        at, length = rng.randrange(len(RECIPE)), rng.choice([0, 0, 1, 1, 5])
        text = RECIPE[:at] + rng.choice(["", *"[]{}=,.\"'#\n\\\0ax1"]) + RECIPE[at + length :]
        text = text[: rng.choice([len(text), rng.randrange(len(text))])]
        try:
            data = tomli.loads(text)
        except tomli.TOMLDecodeError:
            error = error_of(text)
            refused += 1
            lines = text.split("\n")
            assert 1 <= error.line <= len(lines)
            assert 1 <= error.column <= len(lines[error.line - 1]) + 1
        else:
            assert set(parse(text).places) == set(paths(data))
    assert refused > 300


@pytest.mark.parametrize(
    "text", ["x = 1\na = " + "[" * 5000, "x = 1\na = " + "{a = " * 5000, "x = 1\n" + "a." * 9000 + "a = 1"]
)
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    assert error_of(text).line == 2


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    error = error_of("x = 1\na = " + "1" * 5000)
    assert (error.line, error.column) == (2, 5)
    assert error.message.startswith("this number is too long")


# -- files ---------------------------------------------------------------------------------------------------


def refusal(path: Path) -> tuple[str, str, str]:
    with pytest.raises(RecipeError) as caught:
        read(path)
    (problem,) = caught.value.problems
    return problem.message, problem.where, problem.hint


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_file_with_or_without_byte_order_mark_and_carriage_returns(
    tmp_path: Path, mark: bytes, newline: bytes
) -> None:
    path = write(tmp_path / "r.toml", mark + newline.join([b"recipe = 1", b"[run]", b"name = 'x'"]))
    document = read(path)
    assert document.data == {"recipe": 1, "run": {"name": "x"}}
    assert document.place(("recipe",)) == Place(1, 1)
    assert document.place(("run", "name")) == Place(3, 1)
    assert document.text.encode() == path.read_bytes().removeprefix(mark)


def test_a_syntax_error_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", b"[run]\nname = x\n")
    assert refusal(path) == (
        "this is not TOML: invalid value",
        f"{path}:2:8",
        'text needs quotes: "x"',
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "r.toml", "recipe = 1\n".encode(encoding))
    message, where, hint = refusal(path)
    named = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert message == f"the recipe is in {named}, not in UTF-8"
    assert where == str(path)
    assert f"iconv -f {named} -t UTF-8 {path} > {tmp_path / 'r.utf8.toml'}" in hint


def test_latin_1(tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", "\ufeffé = 1\nname = 'é'".encode() + " # ß".encode("latin-1"))
    message, where, hint = refusal(path)
    assert (message, where) == ("byte 0xdf is not UTF-8", f"{path}:2:14")
    assert "iconv -f WINDOWS-1252" in hint


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"# only a comment\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "r.toml", content)
    message, where, hint = refusal(path)
    assert (message, where) == ("the recipe is empty", str(path))
    assert "[model] source" in hint


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "smoke.toml", b"recipe = 1")
    message, where, hint = refusal(tmp_path / "smok.toml")
    assert (message, where) == ("no such file", str(tmp_path / "smok.toml"))
    assert hint == f"did you mean '{tmp_path / 'smoke.toml'}'?"


def test_a_folder_and_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(tmp_path)[0] == "this is a folder, not a file"
    monkeypatch.setattr("fttool.recipe.toml.MAX_RECIPE_BYTES", 1024**2)
    path = write(tmp_path / "model.safetensors", b"x" * (1024**2 + 1))
    assert refusal(path)[0] == "over 1 MiB, too large for a recipe"


# -- values of --set -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("2e-5", 2e-5),
        ("17", 17),
        ("true", True),
        ('"true"', "true"),
        ("'a b'", "a b"),
        ("[1, 2]", [1, 2]),
        (' {name = "wsd", decay = 0.1} ', {"name": "wsd", "decay": 0.1}),
        ('[{name = "words"}, "x"]', [{"name": "words"}, "x"]),
        # no TOML value: the text itself
        ("wsd", "wsd"),
        ("True", "True"),
        ("", ""),
        ("builtin:tiny-chat", "builtin:tiny-chat"),
        ("runs/a b", "runs/a b"),
        ("é", "é"),
        ("5 # five", "5 # five"),
        ("1, 2", "1, 2"),
        ("1\nb = 2", "1\nb = 2"),
        ('"open', '"open'),
        ("[" * 5000, "[" * 5000),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_a_value_of_set(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (True, "true"),
        ('a "b"\n', '"a \\"b\\"\\n"'),
        ([], "[]"),
        ({}, "{}"),
        ((1, "x"), '[1, "x"]'),
        ({"name": "wsd", "a b": [{"c": 1}]}, '{name = "wsd", "a b" = [{c = 1}]}'),
    ],
)
def test_a_value_is_written_on_one_line_and_read_back(value: object, text: str) -> None:
    assert format_value(value) == text
    assert parse_value(text) == (list(value) if isinstance(value, tuple) else value)

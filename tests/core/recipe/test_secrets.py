"""What looks like a secret in a recipe, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fttool.errors import RecipeError
from fttool.recipe.reading import load

RECIPE = """\
recipe = 1
{line}
[model]
source = "builtin:tiny-chat"
[[data.train]]
path = "rows.jsonl"
format = "messages"
"""
RANDOM = "Zx81" * 8


@pytest.mark.parametrize(
    "line",
    [
        f"# hf_{RANDOM}",
        f"# token: {RANDOM}",
        f"# export WANDB_API_KEY={RANDOM}",
        "# password = 'hunter2'",
        "# clone https://me:hunter2@example.org/rows.git",
        f"# git clone https://{RANDOM}@example.org/rows.git",
        f"# https://example.org/rows.jsonl?x=1&access_token={RANDOM}",
        f"# https://example.org/rows.jsonl?X-Amz-Signature={RANDOM}",
        f"# Authorization: Bearer {RANDOM}",
        "# -----BEGIN OPENSSH PRIVATE KEY-----",
        f"# AKIA{'A1' * 8}",
        f"# glpat-{RANDOM}",
        f'name = "hf_{RANDOM}"',
    ],
)
def test_a_secret_anywhere_in_the_file_is_refused_and_not_repeated(line: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(line=line if line.startswith("#") else f"[run]\n{line}"), encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        load(path)
    (problem,) = refused.value.problems
    assert "looks like a secret" in problem.message and problem.where.startswith(f"{path}:")
    assert "hunter2" not in str(refused.value) and RANDOM not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        '# pad_token = "<|pad|>", eos_token: "</s>"',
        "# the token comes from the environment: HF_TOKEN=$HF_TOKEN",
        "# password = <yours>",
        "# ask for the password: nobody has it",
        "# https://example.org:8080/rows.jsonl?page=12345678",
        "# mail me@example.org, see ftp://example.org/~me",
        "# revision 3803a6a4d1f0c2b79e6a5b8d4c3f2e1d0a9b8c7d",
        "# tokens = 1000000000000000000",
    ],
)
def test_what_only_speaks_of_secrets_is_fine(line: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(line=line), encoding="utf-8")
    assert load(path).text.count(line) == 1


@pytest.mark.parametrize(
    "piece", ["password=", "a://", "x.", "eyJ-", "://a:", "token=1", "#", "bearer ", "?token=", "hf_"]
)
def test_a_line_of_megabytes_ends(piece: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(line="# " + piece * (400_000 // len(piece))), encoding="utf-8")
    try:
        load(path)
    except RecipeError as refused:
        assert "looks like a secret" in refused.problems[0].message

"""`fttool verify` finds a flipped bit wherever it is."""

from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main
from fttool.testing import run_recipe


def test_each_damaged_file_is_named_and_a_whole_run_is_whole(
    tmp_path: Path, fttool_recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(fttool_recipe | {"evaluation": {"samples": 0}}, tmp_path).run_dir
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: intact\n"
    checked = ["model/model.safetensors", "model/tokenizer.json", "checkpoints/checkpoint-4/optimizer.pt"]
    for name in [*checked, "recipe.resolved.toml", "lock.json", "metrics.jsonl"]:
        file = run / name
        content = file.read_bytes()
        middle = content.index(b"seed") if name == "recipe.resolved.toml" else len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        if name == "metrics.jsonl":
            file.write_bytes(content[:-2])
        assert main(["verify", str(run)]) == 9, name
        said = capsys.readouterr()
        assert Path(name).name in said.err and f"{run}: 1 damaged" in said.out
        file.write_bytes(content)
    (run / "model" / "config.json").unlink()
    assert main(["verify", str(run)]) == 9 and "model/config.json" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 2

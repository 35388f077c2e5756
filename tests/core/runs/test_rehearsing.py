"""What cannot be saved, or has no room, is refused before the first update, and by a dry run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w
import torch

from fttool.cli import main
from fttool.errors import DiskError, ModelError
from fttool.runs.disk_space import DiskSpace, refuse_full_disk
from fttool.runs.rehearsing import refuse_unsavable
from fttool.testing import tiny


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], fttool_tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe over a copy of the tiny model, for tests to spoil."""
    shutil.copytree(fttool_tiny_model, tmp_path / "model")
    fttool_recipe["model"] = {"source": str(tmp_path / "model")}
    return fttool_recipe


def dry_run(recipe: dict[str, Any], folder: Path, *words: str) -> int:
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe))
    return main(["run", str(folder / "recipe.toml"), "--dry-run", "--set", f"run.output={folder / 'runs'}", *words])


def test_a_tokenizer_that_cannot_be_saved_is_refused_by_a_dry_run(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A second template whose name leads out of the folder."""
    template = tmp_path / "model" / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    config = tmp_path / "model" / "tokenizer_config.json"
    named = [{"name": "default", "template": text}, {"name": "../x", "template": "e"}]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": named}))
    assert dry_run(recipe, tmp_path) == 5
    assert "'../x', which cannot be a file name: it cannot be saved" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_generation_configuration_that_cannot_be_saved_is_refused() -> None:
    model: Any = tiny.tiny_model()
    model.generation_config.do_sample = False
    model.generation_config.temperature = 0.5
    with pytest.raises(ModelError, match="configuration or code cannot be saved"):
        refuse_unsavable(model, tiny.tiny_tokenizer())


def test_tensors_that_share_memory_unsaid_are_refused() -> None:
    model: Any = tiny.tiny_model()
    layers = model.model.layers
    layers[1].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    with pytest.raises(ModelError, match="weights cannot be saved"):
        refuse_unsavable(model, tiny.tiny_tokenizer())


def test_what_can_be_saved_is_left_as_it_was() -> None:
    model: Any = tiny.tiny_model()
    model.config.architectures = None
    before, weights = model.config.to_dict(), {name: p.clone() for name, p in model.named_parameters()}
    refuse_unsavable(model, tiny.tiny_tokenizer())
    assert model.config.to_dict() == before
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_a_tokenizer_that_fails_to_be_saved_is_named() -> None:
    def fail(folder: str) -> None:
        raise TypeError("Object of type set is not JSON serializable")

    with pytest.raises(ModelError, match="tokenizer or its chat template cannot be saved: TypeError: Object of type"):
        refuse_unsavable(tiny.tiny_model(), SimpleNamespace(save_pretrained=fail, chat_template=None))


def test_a_disk_without_room_is_refused_with_both_numbers(tmp_path: Path) -> None:
    room = DiskSpace(checkpoint=300, checkpoints=3, model=100, there=0, free=999)
    with pytest.raises(
        DiskError, match=r"has 999 bytes free, and the run needs 3 checkpoints of 300 bytes.*1,000 bytes"
    ):
        refuse_full_disk(room, tmp_path)
    refuse_full_disk(DiskSpace(checkpoint=300, checkpoints=3, model=100, there=1, free=999), tmp_path)


def test_a_dry_run_says_what_is_written_and_refuses_a_full_disk(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["checkpoints"] = {"every": 1, "keep": 2, "keep_stable": 0}
    assert dry_run(recipe, tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["disk"]
    model = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert found["checkpoints"] == 3 and found["model"] == pytest.approx(model, rel=0.1)
    assert found["checkpoint"] == pytest.approx(3 * model, rel=0.1)  # the weights, and AdamW's two moments
    monkeypatch.setattr("fttool.disk.free_bytes", lambda path: found["needed"] - 1)
    assert dry_run(recipe, tmp_path) == 9
    assert "lower checkpoints.keep" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["n" * 300])
def test_a_name_that_the_disk_does_not_take_is_refused_by_a_dry_run(
    tmp_path: Path, recipe: dict[str, Any], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(recipe, tmp_path, "--set", f"run.name={name}") == 2
    assert "no folder can be created under the name" in capsys.readouterr().err

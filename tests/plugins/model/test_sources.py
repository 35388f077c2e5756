"""Where models come from: folders, packages, random weights, and fttool itself."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from fttool.api import LoadOptions, ModelError, ModelSource, SourceContext
from fttool_plugins.model.builtin import Builtin
from fttool_plugins.model.config import Config
from fttool_plugins.model.package import Package
from fttool_plugins.model.pretrained import Pretrained
from fttool_plugins.task.classification import configuration


def context(folder: Path, seed: int = 0) -> SourceContext:
    return SourceContext(folder=folder, trust_remote_code=False, seed=seed)


def load(source: ModelSource, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    options = LoadOptions(model_class=AutoModelForCausalLM, dtype=dtype, attention=None)
    return source.build(context(folder, seed)).model(options)


def test_a_folder_is_found_from_the_recipes_folder(fttool_tiny_model: Path) -> None:
    source = Pretrained(path=fttool_tiny_model.name)
    assert not source.needs_network(fttool_tiny_model.parent)
    built = source.build(context(fttool_tiny_model.parent))
    assert built.tokenizer().chat_template
    assert built.origin["model.safetensors"].startswith("sha256:")
    model = load(source, fttool_tiny_model.parent, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_only_a_hub_id_needs_the_network(tmp_path: Path) -> None:
    assert Pretrained(path="owner/name").needs_network(tmp_path)
    assert not any(source.needs_network(tmp_path) for source in (Builtin(), Config(path="c.json"), Package(path="p")))


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000, "~nobody-of-this-name/model"])
@pytest.mark.parametrize("kind", [Pretrained, Config])
def test_what_no_path_can_be_is_refused(tmp_path: Path, kind: type[Pretrained] | type[Config], path: str) -> None:
    with pytest.raises(ModelError, match="no path is spelled"):
        kind(path=path).build(context(tmp_path))
    with pytest.raises(ModelError, match="no path is spelled"):
        Pretrained(path=path).needs_network(tmp_path)


def test_a_hub_models_commit_is_known_once_it_is_loaded(
    fttool_tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a cache as the hub's library lays it out, without the network."""
    commit = "0123456789abcdef" * 2 + "01234567"
    repository = tmp_path / "cache" / "models--acme--tiny"
    shutil.copytree(fttool_tiny_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    built = Pretrained(path="acme/tiny").build(context(tmp_path))
    built.model(LoadOptions(model_class=AutoModelForCausalLM, dtype=torch.float32, attention=None))
    assert built.origin == {"hub": "acme/tiny", "revision": "main", "commit": commit}


def test_random_weights_are_those_of_the_seed(fttool_tiny_model: Path) -> None:
    source = Config(path="config.json")
    one, same, other = (load(source, fttool_tiny_model, seed) for seed in (1, 1, 2))
    first = [torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True)]
    assert all(first)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_a_package_is_located_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier_of_gguf"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"holds no \.gguf file"):
        Package(path="carrier_of_gguf").build(context(tmp_path))
    (package / "one.gguf").write_bytes(b"GGUF")
    origin = Package(path="carrier_of_gguf").build(context(tmp_path)).origin
    assert (origin["package"], origin["file"]) == ("carrier_of_gguf", "one.gguf")
    (package / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError) as several:
        Package(path="carrier_of_gguf").build(context(tmp_path))
    assert "package:carrier_of_gguf/two.gguf" in str(several.value)
    assert Package(path="carrier_of_gguf/two.gguf").build(context(tmp_path)).origin["file"] == "two.gguf"
    with pytest.raises(ModelError, match="pip install no-such-package"):
        Package(path="no_such_package").build(context(tmp_path))
    assert "carrier_of_gguf" not in sys.modules


def test_a_package_may_hold_a_model_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fttool_tiny_model: Path
) -> None:
    package = tmp_path / "carrier_of_folder"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(fttool_tiny_model, package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    source = Package(path="carrier_of_folder").build(context(tmp_path))
    assert source.origin["file"] == "model" and source.origin["model.safetensors"].startswith("sha256:")
    loaded = source.model(LoadOptions(model_class=AutoModelForCausalLM, dtype=torch.float32, attention=None))
    expected = AutoModelForCausalLM.from_pretrained(fttool_tiny_model)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), expected.parameters(), strict=True))
    assert len(source.tokenizer()) > 100


def classifier(where: Path, *names: str, drawn: set[str] | None = None) -> Any:
    options = LoadOptions(
        model_class=AutoModelForSequenceClassification,
        dtype=torch.float32,
        attention=None,
        config=configuration(names, multi_label=False),
        newly_initialised=set() if drawn is None else drawn,
    )
    return Pretrained(path=str(where)).build(context(where)).model(options)


def test_a_new_head_is_known_as_new(tmp_path: Path, fttool_tiny_model: Path) -> None:
    drawn: set[str] = set()
    made = classifier(fttool_tiny_model, "a", "b", drawn=drawn)
    assert drawn == {"score.weight"} and made.config.id2label == {0: "a", 1: "b"}
    folder = tmp_path / "classifier"
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(fttool_tiny_model).save_pretrained(folder)

    drawn.clear()
    same = classifier(folder, "a", "b", drawn=drawn)
    assert not drawn and torch.equal(same.score.weight, made.score.weight)
    other = classifier(folder, "a", "b", "c", drawn=drawn)  # of other classes: a head of their number
    assert drawn == {"score.weight"} and other.score.weight.shape[0] == 3
    with pytest.raises(ModelError) as refused:
        classifier(folder, "b", "a")
    assert 'task.labels = ["a", "b"]' in str(refused.value)

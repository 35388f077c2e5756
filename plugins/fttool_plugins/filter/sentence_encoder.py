"""Texts as vectors of a sentence encoder: near to each other where they mean the like, in whichever words.

The vector of a text is the mean of its tokens' last hidden states, of length 1 (Reimers and Gurevych 2019,
"Sentence-BERT", arXiv 1908.10084).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fttool.api import FilterContext, LoadOptions, Source, SourceContext

Vectors: TypeAlias = NDArray[np.float32]

LONGEST = 256
"""Tokens of a text that are read: as many as MiniLM was trained with."""
COMPARED = 500
"""Prompts of other rows that an answer is held against."""
AT_ONCE = 32
"""Texts that go through the encoder together; they are of like length."""


def embedded(texts: Sequence[str], encoder: str, ctx: FilterContext) -> Vectors:
    """The vector of each text. Shape (N, D), rows of length 1; float32 on the CPU, so that every process has the same.

    Raises:
        ModelError: where there is no such encoder.
    """
    from transformers import AutoModel

    source = encoder_source(encoder, ctx)
    tokenizer: Any = source.tokenizer()
    model: Any = source.model(LoadOptions(model_class=AutoModel, dtype=torch.float32, attention=None)).eval()
    made = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    batches = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
    for places in ctx.track(batches, "reading for their meaning"):
        said = [texts[place] or " " for place in places]
        inputs = tokenizer(said, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None].to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)
        made[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return made


def encoder_source(encoder: str, ctx: FilterContext) -> Source:
    """The loaders of an encoder: a package's (`package:NAME`), or those of a folder or of a hub id."""
    from fttool_plugins.model.package import Package
    from fttool_plugins.model.pretrained import Pretrained

    kind, mark, path = encoder.partition(":")
    strategy = Package(path=path) if mark and kind == "package" else Pretrained(path=encoder)
    return strategy.build(SourceContext(trust_remote_code=False, seed=ctx.seed, folder=ctx.folder))


def nearer(prompts: Vectors, answers: Vectors, seed: int) -> NDArray[np.float64]:
    """Of each row the share of other prompts, of `COMPARED` by the seed, to which its answer is less near than to its
    own. Shape (N,).
    """
    chosen = np.random.default_rng(seed).permutation(len(prompts))[:COMPARED]
    own = np.einsum("nd,nd->n", prompts, answers)
    shares = np.ones(len(prompts))
    for start in range(0, len(prompts), COMPARED):
        part = slice(start, start + COMPARED)
        other = chosen[None, :] != np.arange(len(prompts))[part, None]
        less = (answers[part] @ prompts[chosen].T < own[part, None] - 1e-6) & other
        shares[part] = less.sum(1) / np.maximum(1, other.sum(1))
    return shares

"""What each strategy does, against values from its formula or a naive twin."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fttool_acme import (
    After,
    Bf16OnGpu,
    EveryOther,
    LongestFirst,
    MultipleChoice,
    NoUrls,
    OneOfMany,
    RDrop,
    Refusals,
    Repetitive,
    SlowEmbeddings,
    Soup,
    TailAverage,
    TokenBudget,
)
from fttool_acme.consistency import apart
from fttool_acme.curve import curve
from fttool_acme.median import MedianLoss
from fttool_acme.metric import hits
from fttool_acme.mixing import order
from fttool_acme.regularizer import Mean
from fttool_acme.schedule import drops
from fttool_acme.sentences import right_and_all
from fttool_acme.signum import SignumOptimizer
from fttool_acme.task import score

from fttool.api import (
    Answer,
    BatchingContext,
    Example,
    FormatContext,
    FreezingContext,
    LayerRatesContext,
    LoadOptions,
    MaskingContext,
    MetricContext,
    MicroBatch,
    ModelError,
    PrecisionContext,
    Predictions,
    RecipeError,
    ShardingContext,
    SourceContext,
    layers,
)
from fttool.testing import (
    filter_context,
    regularizer_context,
    tiny_batch,
    tiny_encoded,
    tiny_model,
    tiny_score,
    tiny_tokenizer,
)

# -- model ---------------------------------------------------------------------------------------------------------


def soup(folder: Path, pattern: str = "*", **config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    source = Soup(path=pattern).build(SourceContext(folder=folder, trust_remote_code=False, seed=0))
    dtype = config.pop("dtype", torch.float32)
    load = LoadOptions(model_class=AutoModelForCausalLM, dtype=dtype, attention="eager", config=config)
    return source, source.model(load)


def save(folder: Path, factor: float, **changes: Any) -> None:
    model = tiny_model(**changes)
    for p in model.parameters():
        p.data.mul_(factor)
    model.save_pretrained(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_a_soup_is_the_mean_of_its_models(tmp_path: Path, tied: bool) -> None:
    for factor in (1, 2, 6):
        save(tmp_path / f"times-{factor}", factor, tie_word_embeddings=tied)
    (tmp_path / "no-model").mkdir()
    source, made = soup(tmp_path, eos_token_id=7)
    for p, one in zip(made.parameters(), tiny_model(tie_word_embeddings=tied).parameters(), strict=True):
        torch.testing.assert_close(p.data, one.data * 3)
    assert made.config.eos_token_id == 7 and made.config._attn_implementation == "eager"
    assert [Path(folder).name for folder in source.origin] == ["times-1", "times-2", "times-6"]
    assert len(set(source.origin.values())) == 3
    assert soup(tmp_path, dtype=torch.bfloat16)[1].dtype == torch.bfloat16
    assert soup(tmp_path.parent, f"{tmp_path}/times-*")[0].origin == source.origin


def test_what_no_soup_is_made_of(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    with pytest.raises(ModelError, match=r"only '.*a' matches"):
        soup(tmp_path)
    with pytest.raises(ModelError, match="no folder with a config"):
        soup(tmp_path, "b*")
    save(tmp_path / "b", 1, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"'.*b' has other weights than '.*a'"):
        soup(tmp_path)
    (tmp_path / "b" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"cannot load the model of '.*b': .*header"):
        soup(tmp_path)


def test_weights_that_are_missing_are_not_drawn(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for name in "ab":
        save(tmp_path / name, 1)
    file = tmp_path / "b" / "model.safetensors"
    save_file({name: one for name, one in load_file(file).items() if name != "lm_head.weight"}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights of '.*b' lack lm_head.weight"):
        soup(tmp_path)


# -- rows ----------------------------------------------------------------------------------------------------------


QUESTION = {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1}


@pytest.mark.parametrize("answer", [1, "B", "4", " 4 "])
def test_a_question_is_asked_with_letters(answer: Any) -> None:
    read = MultipleChoice().build(FormatContext(origin="rows"))
    example = read({**QUESTION, "answer": answer}, "rows:1")
    assert [turn["role"] for turn in example.messages] == ["user", "assistant"]
    assert [turn["content"] for turn in example.messages] == ["2 + 2 = ?\n\nA. 3\nB. 4", "Answer: B"]


def test_an_explanation_comes_first_and_texts_go_before_letters() -> None:
    read = MultipleChoice(explanation="why").build(FormatContext(origin="rows"))
    row = {"question": "Which?", "choices": ["B", "A"], "answer": "A", "why": "It is so."}
    assert read(row, "rows:1").messages[1]["content"] == "It is so.\nAnswer: B"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": 2}, "the number .from 0., the letter or the text of a choice, this is 2"),
        ({"answer": "C"}, "this is 'C'"),
        ({"answer": True}, "this is True"),
        ({"choices": ["4"]}, "2 to 26 choices"),
        ({"choices": ["4", "4"]}, "no two alike"),
        ({"choices": "34"}, "a list of texts"),
        ({"question": " "}, "'question' must be a text"),
    ],
)
def test_what_is_no_question_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultipleChoice().build(FormatContext(origin="rows"))({**QUESTION, **change}, "rows:1")


def test_rows_with_addresses_are_dropped() -> None:
    asked = Example(origin="a:1", prompt="What is at https://example.org?", completion="A page.")
    told = Example(origin="a:2", prompt="Where?", completion="At www.example.org, or HTTP://example.org/x.")
    plain = Example(origin="a:3", prompt="Where?", completion="In the httpd of www fame.")
    context = filter_context()
    assert NoUrls().build(context)([asked, told, plain]) == [None, "has a web address", None]
    dropped = NoUrls(where="anywhere").build(context)([asked, told, plain])
    assert dropped == ["has a web address", "has a web address", None]


def test_a_large_dataset_takes_turns() -> None:
    epochs = [order(epoch, sizes=[3, 10], cap=5, seed=0) for epoch in range(4)]
    for rows in epochs:
        assert len(rows) == len(set(rows)) == 8 and {0, 1, 2} < set(rows)
    assert Counter(row for rows in epochs[:2] for row in rows if row > 2) == Counter(range(3, 13))
    assert [set(rows) for rows in epochs[:2]] == [set(rows) for rows in epochs[2:]]
    assert order(0, sizes=[7], cap=5, seed=0) != order(0, sizes=[7], cap=5, seed=1)


@pytest.mark.parametrize("answer", ["5", "five"])
def test_only_the_final_answer_is_learned(answer: str) -> None:
    tokenizer = tiny_tokenizer()
    encode = After().build(MaskingContext(tokenizer=tokenizer))
    said = f"Answer: no. More than 4.\nAnswer: {answer}"
    chat = encode(
        Example(
            origin="a:1",
            messages=({"role": "user", "content": "Answer: ?"}, {"role": "assistant", "content": said}),
            completion_from=1,
        )
    )
    assert learned(chat) == f" {answer}<|im_end|>"
    assert tokenizer.decode(chat.input_ids).endswith("<|im_end|>\n")  # the template's line break is not learned
    plain = encode(Example(origin="a:2", prompt="2 + 3? ", completion=said))
    assert learned(plain) == f" {answer}<|im_end|>"
    assert plain.input_ids[-1] == tokenizer.eos_token_id


def learned(row: Any) -> str:
    return tiny_tokenizer().decode([label for label in row.labels if label != -100])


@pytest.mark.parametrize("completion", ["5", "Answer:", "Answer: 5\nAnswer: "])
def test_a_row_without_a_final_answer_is_refused(completion: str) -> None:
    encode = After().build(MaskingContext(tokenizer=tiny_tokenizer()))
    with pytest.raises(ValueError, match="has nothing after a 'Answer:'"):
        encode(Example(origin="a:1", prompt="Answer: 1. ", completion=completion))


def test_the_first_update_is_the_largest() -> None:
    lengths = [3, 9, 4, 8, 5, 7, 6]
    context = BatchingContext(lengths=lengths, micro_batch=2, global_batch=4, pad_id=0, seed=0)
    batches = LongestFirst().build(context)
    order = [6, 0, 1, 2, 3, 4, 5]
    assert batches.plan(order, 0) == [[(1,), (3,)], [(5,), (6,)], [(0,), (2,)], [(4,)]]
    assert batches.plan(order, 1) == [[(6,), (0,)], [(1,), (2,)], [(3,), (4,)], [(5,)]]


# -- the model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_every_other_layer_trains(first: Any) -> None:
    model = tiny_model(num_hidden_layers=5)
    context = FreezingContext(model=model, layers=layers(model), total_steps=1, steps_per_epoch=1, seed=17)
    (unit,) = EveryOther(first=first).build(context).units
    trained = {int(name.split(".")[2]) for name in unit.parameters}
    assert trained == {0, 2, 4} if first == 0 else trained == {1, 3}
    assert all(name.startswith("model.layers.") for name in unit.parameters)


def test_a_model_without_such_a_layer_is_refused() -> None:
    model = tiny_model(num_hidden_layers=1)
    context = FreezingContext(model=model, layers=layers(model), total_steps=1, steps_per_epoch=1, seed=17)
    with pytest.raises(ModelError, match="the model has 1 layers"):
        EveryOther(first=1).build(context)


def test_embeddings_and_head_are_slow() -> None:
    model = tiny_model()
    rate = SlowEmbeddings(factor=0.25).build(LayerRatesContext(model=model, layers=layers(model)))
    slow = {name for name, _ in model.named_parameters() if rate(name) == 0.25}
    assert slow == {"model.embed_tokens.weight", "lm_head.weight"}
    assert {rate(name) for name, _ in model.named_parameters()} == {0.25, 1.0}


# -- the update ----------------------------------------------------------------------------------------------------


def test_signum_moves_by_its_rate() -> None:
    p = torch.nn.Parameter(torch.tensor([1.0, -1.0, 2.0, 0.0]))
    still = torch.nn.Parameter(torch.ones(1))
    optimizer = SignumOptimizer([p, still], lr=0.1, momentum=0.5, weight_decay=0.1)
    theta, m = [1.0, -1.0, 2.0, 0.0], [0.0] * 4
    for gradient in ([1.0, 2.0, 0.0, -1e-9], [-3.0, 2.0, 0.0, 1.0], [1.0, -9.0, 0.0, 1.0]):
        p.grad = torch.tensor(gradient)
        optimizer.step()
        m = [0.5 * old + 0.5 * new for old, new in zip(m, gradient, strict=True)]
        signs = [(one > 0) - (one < 0) for one in m]
        theta = [one - 0.1 * (sign + 0.1 * one) for one, sign in zip(theta, signs, strict=True)]
        torch.testing.assert_close(p.data, torch.tensor(theta))
    assert still.item() == 1.0


def test_the_drops() -> None:
    factors = [drops(step, points=[2, 5], factor=0.5, total=8) for step in range(10)]
    assert factors == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert drops(9, points=[8], factor=0.5, total=8) == 1.0


def test_the_tail_average_is_the_mean_of_the_last_weights() -> None:
    model = tiny_model()
    mean = Mean(frozenset(name for name, _ in model.named_parameters()) - {"lm_head.weight"}, first=3)
    head, seen = model.lm_head.weight.detach().clone(), []
    for update in range(1, 6):
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(0.1 * update if name != "lm_head.weight" else 0)
        mean(model, update)
        seen.append({name: p.detach().double() for name, p in model.named_parameters()})
    mean.write(model.named_parameters())
    for name, p in model.named_parameters():
        expected = sum(one[name] for one in seen[2:]) / 3
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-6, atol=1e-6)
    assert model.lm_head.weight.equal(head)


def test_a_mean_of_another_tail_is_left_behind() -> None:
    model, names = tiny_model(), frozenset({"lm_head.weight"})
    short = Mean(names, first=2)
    for update in (1, 2, 3):
        short(model, update)
    same, longer = Mean(names, first=2), Mean(names, first=5)
    for one in (same, longer):
        one.load_state_dict(short.state_dict())
    assert (same.count, longer.count) == (2, 0)
    assert not longer.mean
    with pytest.raises(RecipeError, match="begins with update 3, and that is over"):
        Mean(names, first=3).load_state_dict(short.state_dict())


@pytest.mark.parametrize(
    ("processes", "best", "keys"),
    [(1, None, []), (2, None, [("sharding",)]), (1, "loss", [("evaluation", "best")])],
)
def test_what_the_tail_average_does_not_go_with(processes: int, best: str | None, keys: list[tuple[str, ...]]) -> None:
    recipe: Any = SimpleNamespace(sharding=SimpleNamespace(world_size=processes), evaluation=SimpleNamespace(best=best))
    assert [problem.key for problem in TailAverage().check(recipe)] == keys


@pytest.mark.parametrize(
    ("device", "native", "format"),
    [("cpu", True, "no"), ("cpu", False, "no"), ("cuda", True, "bf16"), ("cuda", False, "no"), ("mps", False, "no")],
)
def test_bf16_is_for_gpus(device: str, native: bool, format: str) -> None:
    context = PrecisionContext(device=torch.device(device), native_bf16=native)
    assert Bf16OnGpu().build(context).autocast == format


def test_bounds_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    memory: list[tuple[float, str]] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: memory.append((share, str(device)))
    )
    OneOfMany(threads=3, gpu_memory=0.4).build(ShardingContext(device=torch.device("cuda")))
    OneOfMany(gpu_memory=0.4).build(ShardingContext(device=torch.device("cpu")))
    assert (threads, memory) == ([3], [(0.4, "cuda")])


# -- task and metric -----------------------------------------------------------------------------------------------


def test_a_token_counts_by_its_probability() -> None:
    from fttool.api import Encoded

    model = tiny_model()
    batch = tiny_batch([Encoded([4, 9, 7, 5], [-100, -100, 7, 5]), Encoded([8, 6], [-100, 6])])
    plain = tiny_score(model, batch).losses_N
    torch.testing.assert_close(score(model.eval(), batch).losses_N, plain)
    losses_N = score(model.train(), batch).losses_N
    torch.testing.assert_close(losses_N, plain.exp().reciprocal() * plain)

    # d(−sg(p)·log p) = −dp, so the sum of the probabilities has the opposite gradient.
    losses_N.sum().backward()
    weights = model.lm_head.weight
    (of_p,) = torch.autograd.grad((-tiny_score(model, batch).losses_N).exp().sum(), weights)
    torch.testing.assert_close(weights.grad, -of_p)


def test_top_five() -> None:
    logits_NV = torch.arange(7.0).repeat(3, 1)  # token 6 is the likeliest, then 5, 4 …
    predictions = Predictions(logits_NV=logits_NV, targets_N=torch.tensor([6, 2, 1]), losses_N=torch.zeros(3))
    assert hits(predictions, k=5).tolist() == [2, 3]
    assert hits(predictions, k=1).tolist() == [1, 3]
    assert hits(predictions, k=50).tolist() == [3, 3]


def test_the_median_is_that_of_all_losses() -> None:
    measure = MedianLoss().build(MetricContext())
    parts = [[0.5, 9.0], [0.25], [4.0, 1.0]]
    seen = [
        Predictions(logits_NV=torch.zeros(len(some), 1), targets_N=torch.zeros(len(some)), losses_N=torch.tensor(some))
        for some in parts
    ]
    assert measure.value(torch.cat([measure.statistics(one) for one in seen])) == 1.0


def test_a_sentence_is_right_where_all_of_its_words_are() -> None:
    seen = Predictions(
        logits_NV=torch.eye(2)[[0, 1, 1, 0, 0]],
        targets_N=torch.tensor([0, 1, 0, 0, 0]),
        losses_N=torch.zeros(5),
        rows_N=torch.tensor([0, 0, 1, 1, 2]),
    )
    assert right_and_all(seen).tolist() == [2, 3]


# -- the verb ------------------------------------------------------------------------------------------------------


def test_a_curve_has_a_bar_per_value() -> None:
    assert curve([8, 7, 6, 5, 4, 3, 2, 1], 60) == "█▇▆▅▄▃▂▁"
    assert curve([8, 8, 1, 1], 2) == "█▁"
    assert curve([2, 2], 60) == "▄▄"
    assert len(curve([math.sin(x) for x in range(1000)], 60)) == 60


# -- a loss over outputs ---------------------------------------------------------------------------------------------


def drawn(seed: int) -> Predictions:
    logits_NV = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed))
    return Predictions(logits_NV=logits_NV, targets_N=torch.arange(4), losses_N=torch.zeros(4))


def test_two_passes_are_apart_by_both_divergences() -> None:
    one, other = drawn(1), drawn(2)
    p, q = one.logits_NV.softmax(-1), other.logits_NV.softmax(-1)
    both = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2
    torch.testing.assert_close(apart(one, other), both.mean())
    assert apart(one, one) == 0


def test_the_second_pass_has_other_dropout_and_the_whole_of_both_trains(tmp_path: Path) -> None:
    model = tiny_model(attention_dropout=0.3).train()
    batch = tiny_batch(tiny_encoded())
    built = RDrop(alpha=2.0).build(regularizer_context(model, tmp_path))
    torch.manual_seed(5)
    first = tiny_score(model, batch)
    found = built.loss(model, MicroBatch(inputs=batch, rows=[0, 1, 2], update=0), first)
    torch.manual_seed(5)
    again = tiny_score(model, batch), tiny_score(model, batch)
    assert found.item() == pytest.approx(2.0 * apart(*again).item(), rel=1e-6) and found.item() > 0
    found.backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_a_model_without_dropout_says_the_same_twice(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the model has none"):
        RDrop().build(regularizer_context(tiny_model(), tmp_path))


# -- a metric of answers ---------------------------------------------------------------------------------------------


def test_a_refusal_counts_where_the_row_itself_answers() -> None:
    pairs = [("4", "I cannot say."), ("4", "It is 4."), ("I'm sorry, no.", "I'm sorry, no."), ("5", "i'm sorry")]
    row = Example(origin="rows.jsonl:1", prompt="?")
    answers = [Answer(example=row, expected=expected, given=given) for expected, given in pairs]
    assert Refusals().refused(answers).tolist() == [2, 3]
    assert Refusals(begins=("It",)).refused(answers).tolist() == [1, 4]
    assert Refusals().refused([]).tolist() == [0, 0]


def test_a_share_of_nothing_is_not_a_number_and_the_reason_is_said() -> None:
    measure = Refusals().build(MetricContext())
    for total in ([2.0, 3.0], [0.0, 3.0]):
        assert measure.value(torch.tensor(total, dtype=torch.float64)) == total[0] / 3
        assert measure.remark(torch.tensor(total)) is None
    assert math.isnan(measure.value(torch.zeros(2)))
    assert measure.remark(torch.zeros(2)) == "no share: the rows themselves decline whatever was asked"


# -- a filter that remembers -----------------------------------------------------------------------------------------


def test_an_answer_that_repeats_itself_is_dropped_and_judged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fttool_acme import repetitive

    rows = [Example(origin="r:1", completion="na " * 99), Example(origin="r:2", completion=str(list(range(60))))]
    context, judged = filter_context(cache=lambda: tmp_path), list[bytes]()
    real = repetitive.compressed
    monkeypatch.setattr(repetitive, "compressed", lambda text: judged.append(text) or real(text))
    for _ in range(2):
        assert Repetitive().build(context)(rows) == ["repeats itself", None]
    assert len(judged) == 2


# -- a filter that knows tokens --------------------------------------------------------------------------------------


def test_rows_are_kept_while_the_budget_lasts() -> None:
    """Drawn by the seed; those that are measured on cost nothing."""
    rows = [Example(origin=f"r:{line}", prompt="", completion="x" * (line + 1)) for line in range(9)]
    context = filter_context(tokens=lambda row: len(row.completion), measured=lambda row: row.origin == "r:8")
    for seed in range(5):
        kept = [one is None for one in TokenBudget(tokens=20).build(replace(context, seed=seed))(rows)]
        used = sum(len(row.completion) for row, one in zip(rows[:8], kept, strict=False) if one)
        left = [len(row.completion) for row, one in zip(rows, kept, strict=True) if not one]
        assert kept[8] and used <= 20 and all(used + length > 20 for length in left)
    assert TokenBudget(tokens=20).build(context)(rows) == TokenBudget(tokens=20).build(context)(rows)


def test_a_row_that_cannot_be_written_is_dropped_by_name() -> None:
    def refuse(_: Example) -> int:
        raise ValueError("no roles")

    rows = [Example(origin="r:1", completion="x")]
    assert TokenBudget(tokens=5).build(filter_context(tokens=refuse))(rows) == ["cannot be written"]

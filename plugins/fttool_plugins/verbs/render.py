"""Write what another launcher needs to start a run: accelerate, DeepSpeed, torchrun or SLURM.

Processes, machines, formats and the engine's options are those that the recipe's own strategies yield. `fttool run`,
started so, joins the processes that it finds. `--to deepspeed` writes DeepSpeed's part alone, for scripts of your own.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fttool.api import ExitCode, Launch, Numerics, Recipe, RecipeError, UsageError, show
from fttool.verbs import Loaded, add_recipe, load_recipe, plan_for_gpus, verb_parser

EXAMPLES = """\
examples:
  fttool render my.toml --to torchrun                the command line; on several machines, that of each
  fttool render my.toml --to slurm -o my.sbatch      then: sbatch my.sbatch
  fttool render my.toml --to accelerate -o acc.yaml  accelerate launch --config_file acc.yaml -m fttool run my.toml
  fttool render my.toml --to deepspeed -o ds.json    then: TrainingArguments(deepspeed="ds.json"), in a script of yours
  fttool render my.toml --to slurm --set sharding.processes=16 --set sharding.nodes=2

next: start what was written, then fttool compare runs/*
"""

NODE_RANK = '"${NODE_RANK:?the number of this machine, from 0}"'
MEETING_POINT = '"${MASTER_ADDR:?a host name of machine 0}:${MASTER_PORT:?a free port there}"'
"""Words of a shell that stop it where the variable is not set: what only who starts the machines can know."""


def main(words: Sequence[str]) -> int:
    """Print or write it."""
    parser = verb_parser("render", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument("--to", required=True, choices=TARGETS, help="for whom")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a new file; default: standard output")
    options = parser.parse_args(words)
    output: Path | None = options.output
    if output is not None and output.exists():
        raise UsageError(f"'{output}' exists; it is never overwritten", hint="choose another file: -o FILE")
    loaded = load_recipe(options)
    text = TARGETS[options.to](loaded)
    if output is None:
        _print(text)
        return ExitCode.OK
    _write(output, text)
    show(f"{output}: for {options.to}")
    return ExitCode.OK


def _print(text: str) -> None:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        message = "standard output cannot hold the recipe's path or an override: its encoding has no bytes for it"
        raise UsageError(message, hint="write a file: -o FILE") from None
    print(text, end="")


def _write(output: Path, text: str) -> None:
    try:
        with output.open("x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as fault:
        message = f"cannot write '{output}': {fault.strerror}"
        raise UsageError(message, hint="choose another file: -o FILE") from fault


# -- launchers of any processes ------------------------------------------------------------------------------------


def torchrun(loaded: Loaded) -> str:
    """A command line; of several machines, the one to be run on each."""
    launch = _launch(loaded.recipe)
    each = f"--nproc-per-node {launch.processes // launch.nodes}"
    where = "--standalone"
    if launch.nodes > 1:
        where = f"--nnodes {launch.nodes} --node-rank {NODE_RANK} --rdzv-backend static --rdzv-endpoint {MEETING_POINT}"
    return f"torchrun {where} {each} -m {_command(loaded)}\n"


def slurm(loaded: Loaded) -> str:
    """A batch script: one task per process, each of which sees all of its machine's GPUs."""
    launch = _launch(loaded.recipe)
    each = launch.processes // launch.nodes
    return f"""\
#!/bin/bash
#SBATCH --job-name={re.sub(r"[^A-Za-z0-9_.-]", "_", loaded.name)}
#SBATCH --nodes={launch.nodes}
#SBATCH --ntasks-per-node={each}
#SBATCH --gpus-per-node={each}
# --partition, --account, --time and whatever else your site asks for: here, or as options of sbatch.

srun --kill-on-bad-exit=1 {_command(loaded)}
"""


def _launch(recipe: Recipe) -> Launch:
    """What the sharding wants. Restarts are fttool's own: no other launcher knows from which checkpoint to go on."""
    launch = recipe.sharding.launch
    if launch.max_restarts:
        show("max_restarts is left out: where another launcher starts the run again, add --resume", error=True)
    return launch


def _command(loaded: Loaded) -> str:
    """`fttool run …`, each word quoted for the shell."""
    path = str(loaded.path)
    overrides = [word for override in loaded.overrides for word in ("--set", override)]
    return shlex.join(["fttool", "run", f"./{path}" if path.startswith("-") else path, *overrides])


# -- launchers that configure an engine ----------------------------------------------------------------------------

ACCELERATE = """\
# accelerate launch --config_file FILE -m fttool run RECIPE, with the --set that this was rendered with
"""
ON_EACH_MACHINE = """\
# on each machine, with --machine_rank N (from 0), and --main_process_ip HOST --main_process_port PORT of machine 0
"""
DEEPSPEED_IN_THE_RECIPE = """\
# What DeepSpeed does comes from the recipe: accelerate refuses to have it, or mixed_precision, set twice.
# For a script of your own, add under deepspeed_config: deepspeed_config_file, from fttool render RECIPE --to deepspeed
"""


def accelerate(loaded: Loaded) -> str:
    """A configuration file; it names no layers to wrap, so that no model has to be loaded for it."""
    import yaml

    launch = _launch(loaded.recipe)
    plan, numerics = plan_for_gpus(loaded)
    config: dict[str, Any] = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO"}
    head = ACCELERATE + (ON_EACH_MACHINE if launch.nodes > 1 else "")
    if plan.arguments.get("deepspeed"):
        head += DEEPSPEED_IN_THE_RECIPE
        config["distributed_type"] = "DEEPSPEED"
        config["deepspeed_config"] = {"deepspeed_multinode_launcher": "standard"}
    else:
        if not _hardware_decides(loaded, numerics):
            config["mixed_precision"] = numerics.autocast
        if plan.arguments.get("fsdp"):
            config |= {"distributed_type": "FSDP", "fsdp_config": _fsdp(plan.arguments.get("fsdp_config") or {})}
        elif launch.processes > 1:
            config["distributed_type"] = "MULTI_GPU"
    config |= {"num_machines": launch.nodes, "num_processes": launch.processes}
    return head + yaml.safe_dump(config, sort_keys=False)


def _fsdp(options: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's `fsdp_config` in accelerate's words."""
    # accelerate's own default loads the weights in the first process only, which the run does not.
    settings: dict[str, Any] = {"cpu_ram_efficient_loading": False} | {
        key.removeprefix("fsdp_"): option for key, option in options.items()
    }
    if "cpu_offload" in settings:
        settings["offload_params"] = settings.pop("cpu_offload")
    layers = settings.pop("transformer_layer_cls_to_wrap", None)
    if layers:
        settings["transformer_layer_cls_to_wrap"] = layers if isinstance(layers, str) else ",".join(layers)
    return {f"fsdp_{key}": value for key, value in settings.items()}


def deepspeed(loaded: Loaded) -> str:
    """A configuration that stands on its own: with numbers where the strategy leaves them to the Trainer."""
    recipe = loaded.recipe
    plan, numerics = plan_for_gpus(loaded)
    config = plan.arguments.get("deepspeed")
    if not config:
        raise UsageError(
            f"sharding '{recipe.sharding.id()}' does not run on DeepSpeed",
            hint='choose one that does: sharding = {name = "zero", processes = …}',
        )
    if not isinstance(config, Mapping):
        message = f"sharding '{recipe.sharding.id()}' has its DeepSpeed configuration in '{config}'"
        raise UsageError(message, hint="use that file")
    if _hardware_decides(loaded, numerics):
        chosen = recipe.precision.id()
        show(f"precision '{chosen}' depends on the GPU: {numerics.autocast}, for one that has bf16", error=True)
    known = {
        "train_micro_batch_size_per_gpu": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "train_batch_size": recipe.global_batch,
        "gradient_clipping": recipe.optimizer.max_grad_norm,
        "bf16.enabled": numerics.autocast == "bf16",
        "fp16.enabled": numerics.autocast == "fp16",
    }
    return json.dumps(_filled(cast("Mapping[str, Any]", config), known), indent=2) + "\n"


def _filled(config: Mapping[str, Any], known: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """`config` with what is known at each `auto`; raises `UsageError` where nothing is."""
    filled: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            filled[key] = _filled(cast("Mapping[str, Any]", value), known, f"{place}{key}.")
        elif value != "auto":
            filled[key] = value
        elif f"{place}{key}" in known:
            filled[key] = known[f"{place}{key}"]
        else:
            message = f"'{place}{key}' is left to the run, which finds it when the model is there"
            raise UsageError(message, hint="start the run itself: fttool run RECIPE")
    return filled


def _hardware_decides(loaded: Loaded, numerics: Numerics) -> bool:
    """True where the recipe's precision is another one on a GPU without bf16."""
    try:
        _, elsewhere = plan_for_gpus(loaded, native_bf16=False)
    except RecipeError:  # bf16 or nothing
        return False
    return elsewhere.autocast != numerics.autocast


TARGETS: dict[str, Callable[[Loaded], str]] = {
    "accelerate": accelerate,
    "deepspeed": deepspeed,
    "torchrun": torchrun,
    "slurm": slurm,
}

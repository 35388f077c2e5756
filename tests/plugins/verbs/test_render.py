"""`fttool render`: other launchers take what it writes, and no name in a recipe becomes a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main

from ...core.distributions import install
from ...probes import imported_by

NASTY = [
    "two words.toml",
    'it\'s "quoted".toml',
    "$(touch pwned)`touch pwned`.toml",
    "; touch pwned; #.toml",
    "a\n#SBATCH --exclusive\ntouch pwned\n.toml",
    "-x.toml",
    "*[a]?~!{a,b}.toml",
    "back\\slash é.toml",
]
OVERRIDE = "run.output=it's $(touch pwned)\n#SBATCH --exclusive\n-x"
SEVERAL = {"name": "ddp", "processes": 4}
AUTO = "precision 'auto' depends on the GPU: bf16, for one that has bf16"

Render = Callable[..., str]


@pytest.fixture
def render(
    fttool_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Render:
    """Render the recipe, with some of its tables changed, from a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    fttool_recipe["run"] |= {"micro_batch": 2, "global_batch": 16}

    def call(to: str, *words: str, file: str = "my.toml", **tables: Any) -> str:
        Path(file).write_text(dumps({**fttool_recipe, **tables}))
        code = main(["render", f"./{file}", "--to", to, *words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return call


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., list[str]]:
    """Run a text in bash where launchers do nothing but tell their words; returns these."""
    fakes, record = tmp_path / "fakes", tmp_path / "argv.json"
    fakes.mkdir()
    for name in ("torchrun", "srun"):
        (fakes / name).write_text(
            f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(record)!r}, 'x'))\n"
        )
        (fakes / name).chmod(0o755)

    def run(text: str, **environment: str) -> list[str]:
        record.unlink(missing_ok=True)
        path = f"{fakes}:{os.environ['PATH']}"
        done = subprocess.run(["bash"], input=text, text=True, env={"PATH": path, **environment}, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.rglob("pwned"))
        return json.loads(record.read_text())

    return run


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    assert main(["render", *words]) == code
    return capsys.readouterr().err


# -- command lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", NASTY)
def test_torchrun_gets_each_word_as_it_is(render: Render, recorded: Callable[..., list[str]], file: str) -> None:
    from torch.distributed.run import get_args_parser

    words = recorded(render("torchrun", "--set", OVERRIDE, file=file, sharding=SEVERAL))
    path = f"./{file}" if file.startswith("-") else file
    expected = ["run", path, "--set", OVERRIDE]
    assert words == ["--standalone", "--nproc-per-node", "4", "-m", "fttool", *expected]
    parsed = get_args_parser().parse_args(words)
    assert parsed.module and parsed.training_script == "fttool" and parsed.training_script_args == expected


@pytest.mark.parametrize("file", NASTY)
def test_slurm_gets_each_word_as_it_is(render: Render, recorded: Callable[..., list[str]], file: str) -> None:
    text = render("slurm", "--set", OVERRIDE, file=file, sharding={**SEVERAL, "nodes": 2})
    path = f"./{file}" if file.startswith("-") else file
    assert recorded(text) == ["--kill-on-bad-exit=1", "fttool", "run", path, "--set", OVERRIDE]
    head, blank, _ = text.partition("\n\n")
    assert blank and head.startswith("#!/bin/bash\n#SBATCH --job-name=")
    options = [line for line in head.splitlines() if line.startswith("#SBATCH")]
    assert options[1:] == ["#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=2", "#SBATCH --gpus-per-node=2"]
    assert set(options[0].partition("=")[2]) <= set("abcdefghijklmnopqrstuvwxyzSBATCH0123456789_.-")
    assert all(line.startswith("#") for line in head.splitlines())


def test_on_several_machines_what_the_recipe_cannot_know_is_asked_for(
    render: Render, recorded: Callable[..., list[str]], tmp_path: Path
) -> None:
    from torch.distributed.run import get_args_parser

    text = render("torchrun", sharding={**SEVERAL, "nodes": 2})
    words = recorded(text, NODE_RANK="1", MASTER_ADDR="node a", MASTER_PORT="29400")
    parsed = get_args_parser().parse_args(words)
    assert (parsed.nnodes, parsed.node_rank, parsed.nproc_per_node) == ("2", 1, "2")
    assert (parsed.rdzv_backend, parsed.rdzv_endpoint) == ("static", "node a:29400")
    assert parsed.training_script_args == ["run", "my.toml"]
    for missing in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        given = {name: "1" for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name != missing}
        bash = shutil.which("bash") or ""
        done = subprocess.run([bash], input=text, text=True, env={"PATH": "", **given}, capture_output=True)
        assert done.returncode != 0 and f"{missing}: " in done.stderr and "torchrun" not in done.stderr


def test_one_process_is_one_task(render: Render, recorded: Callable[..., list[str]]) -> None:
    assert recorded(render("torchrun"))[:3] == ["--standalone", "--nproc-per-node", "1"]
    assert "--ntasks-per-node=1\n" in render("slurm")


def test_restarts_are_fttools_own(
    render: Render, capsys: pytest.CaptureFixture[str], recorded: Callable[..., list[str]]
) -> None:
    assert "--max-restarts" not in recorded(render("torchrun", sharding={**SEVERAL, "max_restarts": 2}))
    assert main(["render", "my.toml", "--to", "slurm"]) == 0
    assert "max_restarts is left out" in capsys.readouterr().err


def test_a_path_of_any_bytes_goes_into_a_file(render: Render, capsys: pytest.CaptureFixture[str]) -> None:
    file = os.fsdecode(b"caf\xe9.toml")
    render("torchrun", "-o", "run.sh", file=file)
    assert b"caf\xe9.toml" in Path("run.sh").read_bytes()
    assert "-o FILE" in refused(capsys, file, "--to", "torchrun")


# -- accelerate ----------------------------------------------------------------------------------------------------


def taken_by_accelerate(text: str) -> Any:
    """What `accelerate launch` makes of a configuration file."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    Path("acc.yaml").write_text(text)
    words = ["--config_file", "acc.yaml", "-m", "fttool", "run", "my.toml"]
    launch, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    return launch


@pytest.mark.parametrize(
    ("precision", "expected"), [("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "no"), ("auto", None)]
)
def test_accelerate_takes_processes_and_precision(render: Render, precision: str, expected: str | None) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    launch = taken_by_accelerate(render("accelerate", sharding=SEVERAL, precision={"name": precision}))
    assert launch.multi_gpu and (launch.num_processes, launch.num_machines) == (4, 1)
    assert launch.mixed_precision == (expected or "no")
    config = load_config_from_file("acc.yaml")
    assert config.mixed_precision == expected and config.distributed_type == "MULTI_GPU"


def test_accelerate_takes_one_process_and_several_machines(render: Render) -> None:
    launch = taken_by_accelerate(render("accelerate"))
    assert not launch.multi_gpu and launch.num_processes == 1
    text = render("accelerate", sharding={**SEVERAL, "nodes": 2})
    launch = taken_by_accelerate(text)
    assert (launch.num_machines, launch.num_processes) == (2, 4)
    assert launch.main_process_ip is None and "--main_process_ip HOST" in text


def test_accelerate_shards_as_the_recipe_says(render: Render) -> None:
    from accelerate.utils.launch import prepare_multi_gpu_env

    fsdp = {"name": "fsdp", "processes": 4, "cpu_offload": True, "reshard_after_forward": False, "state": "full"}
    launch = taken_by_accelerate(render("accelerate", sharding=fsdp))
    assert launch.use_fsdp
    launch.main_process_port = 0
    environment = prepare_multi_gpu_env(launch)
    expected = {
        "VERSION": "2",
        "AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "OFFLOAD_PARAMS": "true",
        "RESHARD_AFTER_FORWARD": "false",
        "STATE_DICT_TYPE": "FULL_STATE_DICT",
        "ACTIVATION_CHECKPOINTING": "false",
        "CPU_RAM_EFFICIENT_LOADING": "false",
    }
    assert {name: environment[f"FSDP_{name}"] for name in expected} == expected
    assert "FSDP_TRANSFORMER_CLS_TO_WRAP" not in environment


@pytest.mark.filterwarnings("ignore")  # deepspeed's own
def test_accelerate_leaves_deepspeed_to_the_recipe(render: Render) -> None:
    pytest.importorskip("deepspeed")
    launch = taken_by_accelerate(render("accelerate", sharding={"name": "zero", "processes": 4, "nodes": 2}))
    assert launch.use_deepspeed and launch.deepspeed_multinode_launcher == "standard"
    assert launch.zero_stage is None and launch.gradient_clipping is None


@pytest.mark.dist
@pytest.mark.full
def test_a_run_joins_what_accelerate_has_launched(render: Render, tmp_path: Path) -> None:
    text = render("accelerate", sharding={"name": "ddp", "processes": 2}, precision={"name": "fp32"})
    Path("acc.yaml").write_text(text)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "acc.yaml"]
    command = [*launcher, "--main_process_port", "0", "-m", "fttool", "run", "my.toml", "--set", "run.name=r"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("**/r/summary.json")
    found = json.loads(summary.read_text())
    assert found["status"] == "finished" and len(found["sharding"]["ranks"]) == 2


# -- DeepSpeed -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # deepspeed's own
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_deepspeed_takes_the_recipes_numbers(
    render: Render, stage: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepspeed = pytest.importorskip("deepspeed")
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    offloads = {"offload_optimizer": True, "offload_parameters": stage == 3}
    zero = {"name": "zero", "processes": 4, "stage": stage, **offloads}
    adamw = {"name": "adamw", "max_grad_norm": 0.5}
    text = render("deepspeed", sharding=zero, precision={"name": precision}, optimizer=adamw)
    assert "auto" not in text
    config = json.loads(text)
    assert HfDeepSpeedConfig(json.loads(text)).is_zero3() == (stage == 3)
    monkeypatch.setattr(deepspeed.comm, "get_rank", lambda: 0)
    processes = SimpleNamespace(get_data_parallel_world_size=lambda: 4)
    taken = deepspeed.runtime.config.DeepSpeedConfig(config, mpu=processes)
    assert (taken.train_micro_batch_size_per_gpu, taken.gradient_accumulation_steps) == (2, 2)
    assert taken.train_batch_size == 16
    assert taken.gradient_clipping == 0.5
    assert (taken.bfloat16_config.enabled, taken.float16_config.enabled) == (precision == "bf16", precision == "fp16")
    assert taken.zero_config.stage == stage and taken.zero_config.offload_optimizer.device == "cpu"
    assert (taken.zero_config.offload_param is not None) == (stage == 3)


@pytest.mark.filterwarnings("ignore")  # deepspeed's own
def test_where_the_gpu_decides_it_says_what_it_took(
    render: Render, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed")
    zero = {"name": "zero", "processes": 4}
    assert json.loads(render("deepspeed", sharding=zero, precision={"name": "auto"}))["bf16"] == {"enabled": True}
    assert main(["render", "my.toml", "--to", "deepspeed"]) == 0
    assert AUTO in capsys.readouterr().err


def test_only_what_runs_on_deepspeed_has_its_configuration(render: Render, capsys: pytest.CaptureFixture[str]) -> None:
    render("torchrun", sharding=SEVERAL)
    said = refused(capsys, "my.toml", "--to", "deepspeed")
    assert said.splitlines()[0] == "sharding 'ddp' does not run on DeepSpeed" and "zero" in said


# -- strategies of others ------------------------------------------------------------------------------------------

FAR = """\
    from typing import ClassVar, Literal
    from fttool.api import Launch, Sharding, ShardingPlan, hookimpl

    class Away(Sharding):
        \"\"\"Elsewhere.\"\"\"
        name: Literal["far.away"] = "far.away"
        bucket: str = "auto"

        @property
        def launch(self):
            return Launch(processes=4, nodes=2)

        def build(self, ctx):
            config = {
                "train_batch_size": "auto",
                "zero_optimization": {"stage": 1, "reduce_bucket_size": self.bucket},
            }
            return ShardingPlan(processes=4, arguments={"deepspeed": config}, prove=lambda trainer: {})

    @hookimpl
    def fttool_strategies():
        return [Away]
"""


def test_a_strangers_sharding_is_asked_as_our_own(
    render: Render,
    recorded: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(tmp_path / "site", "far", {"far": "far_sharding"}, far_sharding=FAR)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    away = {"name": "far.away", "bucket": "5"}
    words = recorded(render("torchrun", sharding=away), NODE_RANK="0", MASTER_ADDR="a", MASTER_PORT="1")
    assert words[:2] == ["--nnodes", "2"] and words[words.index("--nproc-per-node") + 1] == "2"
    assert json.loads(render("deepspeed", sharding=away, precision={"name": "fp32"})) == {
        "train_batch_size": 16,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": "5"},
    }
    said = refused(capsys, "my.toml", "--to", "deepspeed", "--set", "sharding.bucket=auto")
    assert "'zero_optimization.reduce_bucket_size' is left to the run" in said


# -- files and start-up --------------------------------------------------------------------------------------------


def test_a_file_is_new_or_refused(render: Render, capsys: pytest.CaptureFixture[str]) -> None:
    text = render("slurm")
    assert render("slurm", "-o", "my.sbatch") == "my.sbatch: for slurm\n"
    assert Path("my.sbatch").read_text() == text
    assert "never overwritten" in refused(capsys, "my.toml", "--to", "torchrun", "-o", "my.sbatch")
    assert Path("my.sbatch").read_text() == text
    assert "cannot write 'no/where'" in refused(capsys, "my.toml", "--to", "torchrun", "-o", "no/where")


def test_torch_is_not_imported_where_no_engine_is_asked(render: Render) -> None:
    render("torchrun", sharding=SEVERAL)
    asked = {"torchrun": 0, "slurm": 0, "deepspeed', '--set', 'optimizer.lr=-1": 3}
    calls = [f"assert main(['render', 'my.toml', '--to', '{words}']) == {code}" for words, code in asked.items()]
    assert imported_by("\n".join(["from fttool.cli import main", *calls])) == set()

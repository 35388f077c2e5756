"""What people type who come from elsewhere, and what does that job here."""

from __future__ import annotations

_RUN = "fttool run my.toml"
_FOLDER = "runs/NAME/model is a folder of safetensors with its tokenizer, as save_pretrained writes it"
_SEARCH = "fttool sweep my.toml --over optimizer.lr=1e-5..1e-3:log"
_SERVE = f"{_FOLDER}: vllm serve runs/NAME/model, or `fttool generate RUN` for a question"
_PUSH = f"{_FOLDER}, its card included: hf upload OWNER/NAME runs/NAME/model"
_EXPORT = f"{_FOLDER}; llama.cpp's convert_hf_to_gguf.py makes a GGUF file of it"
_ASK = 'fttool generate RUN "question", or without a question one per line from standard input'
_MEASURE = "fttool evaluate RUN rows.jsonl; what a run has measured itself, `fttool compare runs/*` shows"
_FREEZE = "a recipe says what trains: `fttool plugins --family freezing`"
_METHOD = "what is learned from rows is a recipe's [task]: `fttool plugins --family task`"

DONE_BY = {
    **dict.fromkeys(("train", "finetune", "fine-tune", "fit", "sft", "tune", "start", "launch"), _RUN),
    **dict.fromkeys(("resume", "continue", "restart"), f"{_RUN} --resume"),
    **dict.fromkeys(("dry-run", "plan", "memory"), f"{_RUN} --dry-run"),
    **dict.fromkeys(("cost", "price"), "fttool estimate my.toml"),
    **dict.fromkeys(("search", "grid", "hpo", "hparams", "optimize"), _SEARCH),
    **dict.fromkeys(("lr-find", "find", "range-test"), "fttool find-lr my.toml"),
    **dict.fromkeys(("export", "convert", "quantize", "gguf", "save", "onnx"), _EXPORT),
    **dict.fromkeys(("push", "upload", "publish", "deploy", "hub", "share"), _PUSH),
    **dict.fromkeys(("serve", "server", "api", "host"), _SERVE),
    **dict.fromkeys(("chat", "ask", "talk", "infer", "inference", "complete", "prompt", "repl"), _ASK),
    **dict.fromkeys(("eval", "test", "score", "measure", "benchmark", "bench", "metrics"), _MEASURE),
    **dict.fromkeys(("classify", "label"), 'fttool predict RUN --text "…"'),
    **dict.fromkeys(("merge", "merge-adapter", "fuse", "soup"), "fttool merge RUN --alpha 0.5"),
    **dict.fromkeys(("check", "lint", "doctor"), "fttool validate my.toml"),
    **dict.fromkeys(("new", "create", "config", "configure", "template"), "fttool init my.toml --data rows.jsonl"),
    **dict.fromkeys(("example", "examples", "quickstart", "demo"), "fttool recipes copy quickstart"),
    **dict.fromkeys(("show", "inspect", "view", "tokenize", "data", "dataset"), "fttool preview my.toml"),
    **dict.fromkeys(("list", "ls", "runs", "status", "report", "diff", "plot"), "fttool compare runs/*"),
    **dict.fromkeys(("strategies", "plugin", "strategy", "explain"), "fttool plugins"),
    **dict.fromkeys(("lora", "qlora", "adapter", "freeze"), _FREEZE),
    **dict.fromkeys(("dpo", "ppo", "grpo", "rlhf", "reward", "pretrain", "distill"), _METHOD),
    **dict.fromkeys(("login", "auth", "token"), "a token comes from the environment alone: export HF_TOKEN=…"),
    **dict.fromkeys(("download", "pull", "fetch"), "what a recipe names on the hub is fetched by `fttool run` itself"),
    "help": "fttool --help; fttool COMMAND --help explains one",
    "version": "fttool --version",
}
"""By what is typed: what does it, as far as fttool does."""

"""The notebook and the page about Python do what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "recipes" / "from_python.ipynb"


@pytest.mark.full
def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "copy", "quickstart"]) == 0
    capsys.readouterr()
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and all(cell.get("outputs", []) == [] for cell in content["cells"])
    known: dict[str, Any] = {}
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), known)
    said = capsys.readouterr().out
    assert "did you mean 'cosine'?" in said and "learned:" in said
    change = re.search(r"^loss ([\d.]+) → ([\d.]+)$", said, re.MULTILINE)
    assert change is not None and float(change[2]) < float(change[1])
    assert (tmp_path / "runs" / "notebook" / "model" / "README.md").is_file()


def test_the_pages_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    talks = [[{"role": "user", "content": f"Is {n} odd?"}, {"role": "assistant", "content": "Yes."}] for n in range(6)]
    Path("chats.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL))
    exec(compile(code, "python.md", "exec"), {})
    assert "\nfinished " in capsys.readouterr().out


def test_a_notebook_shows_a_bar_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from fttool.watch import screen

    class ZMQInteractiveShell:
        """What IPython's own is called in a notebook."""

    for widgets, shell, kind in (
        (True, ZMQInteractiveShell(), screen.Bar),
        (False, ZMQInteractiveShell(), screen.Lines),
        (True, None, screen.Lines),
    ):
        fake: Any = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(screen.sys.modules, "IPython", fake)
        monkeypatch.setattr(screen, "find_spec", lambda name, widgets=widgets: object() if widgets else None)
        assert type(screen.choose(quiet=False, as_json=False)) is kind

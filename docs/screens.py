"""Make the pictures of `docs/screens.md`: `pip install pyte && python docs/screens.py`, three minutes on two cores.

`python docs/screens.py page` makes the picture of a run's page, `docs/report.png`, in Chromium.

Each is what a command writes on a terminal of its own, in colour, at its end or at a moment in between; nothing is
drawn or edited but for the prompt in front. Words are the pictures to make, by default all; `compare` needs `run`.
A test holds those to the commands whose output is always the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

PICTURES = Path(__file__).parent / "screens"
COLUMNS, LINES = 100, 400
MIDDLE = 0.6
"""Share of what a run writes on its terminal after which its screen is taken for the picture `running`."""

PREPARED = "fttool recipes copy quickstart"
BEFORE: Mapping[str, str] = {  # picture → what is run before it, and not shown
    "compare": "fttool run quickstart.toml -q --set run.epochs=1 --set optimizer.lr=1e-4 --set run.name=low",
}
PAGE = (
    "fttool run remember.toml -q --set run.epochs=1 --set run.log_every=2 --set evaluation.every=20"
    " --set checkpoints.every=30"
)
"""The run of which `report.png` shows the page; `remember` measures what is forgotten, too."""
SCREENS: Mapping[str, str] = {  # picture → command, in their order
    "first": "fttool",
    "validate": "fttool validate quickstart.toml",
    "wrong": "fttool validate quickstart.toml --set schedule.name=cosin --set run.epoch=3",
    "advise": "fttool validate quickstart.toml --advise --set run.epochs=30 --set run.global_batch=304",
    "audit": "fttool audit rows.jsonl -q",
    "preview": "fttool preview quickstart.toml --rows 2",
    "run": "fttool run quickstart.toml --set run.epochs=1",
    "compare": "fttool compare runs/quickstart runs/low",
}

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="-14 -8 {width} {height}">
<style>
text {{ font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
{styles}
</style>
<defs>{lines}</defs>
<rect x="-14" y="-8" width="{width}" height="{height}" rx="8" fill="#1e1e2a"/>
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</svg>
"""


def taken(command: str, folder: Path) -> Iterator[bytes]:
    """What a command writes on a terminal of its own, as it comes; raises where it fails to start."""
    us, them = pty.openpty()
    fcntl.ioctl(them, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    there = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(COLUMNS)}
    there.pop("NO_COLOR", None)
    process = subprocess.Popen(command.split(), cwd=folder, env=there, stdin=them, stdout=them, stderr=them)
    os.close(them)
    while True:
        try:
            some = os.read(us, 65536)
        except OSError:  # the terminal closes with its last writer
            break
        yield some
    os.close(us)
    process.wait()


def picture(command: str, parts: list[bytes], unique: str) -> str:
    """The screen after these bytes, as an SVG without fonts of its own."""
    import pyte
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    screen = pyte.Screen(COLUMNS, LINES)
    pyte.ByteStream(screen).feed(b"".join(parts))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text(f"$ {command}", style="bold"))
        last = max((y for y in range(LINES) if screen.display[y].strip()), default=0)
        for y in range(last + 1):
            line = Text()
            for style, chars in groupby((screen.buffer[y][x] for x in range(COLUMNS)), key=_style):
                line.append("".join(char.data for char in chars), style)
            line.rstrip()
            console.print(line)
        made = console.export_svg(code_format=SVG, theme=MONOKAI, unique_id=unique)
    # Blanks count in it, so it must have no line's ends among them.
    return re.sub(r"<text[^>]*>\n</text>", "", made).replace("\n</text>", "</text>")


def _style(char: Any) -> str:
    """rich's words for how pyte says that a character looks."""
    colour = {"brown": "yellow"}.get(char.fg, char.fg).replace("bright", "bright_")
    colour = f"#{colour}" if re.fullmatch(r"[0-9a-f]{6}", colour) else colour
    words = ("bold" * char.bold, "underline" * char.underscore, "reverse" * char.reverse, colour)
    return " ".join(filter(None, words))


def spoil(folder: Path) -> None:
    """Write `rows.jsonl` for the audit: rows of the quickstart, and some of each of five faults."""
    lines = (folder / "data" / "stdlib-qa.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines[:240]]
    faults = [(f"Please: {question}", answer) for question, answer in turns[:12]]
    faults += [(question, "I'm sorry, but I cannot help with that.") for question, _ in turns[200:208]]
    faults += [(question, f"{answer} Itâ€™s cafÃ©.") for question, answer in turns[208:214]]
    faults += [(question, "It is a function, and " * 12) for question, _ in turns[214:219]]
    faults += [(question, f"{answer} Ask j.doe{n}@example.com.") for n, (question, answer) in enumerate(turns[219:223])]
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in (*map(tuple, turns[:200]), *faults)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def page(folder: Path) -> None:
    """Write `report.png`: what Chromium shows of a report; raises where there is no Chromium."""
    subprocess.run(PAGE.split(), cwd=folder, check=True)
    subprocess.run(["fttool", "report", "runs/remember", "-o", "report.html"], cwd=folder, check=True)
    words = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,1500"]
    picture = f"--screenshot={PICTURES.parent / 'report.png'}"
    subprocess.run(["chromium", *words, picture, (folder / "report.html").as_uri()], cwd=folder, check=True)


def main(wanted: Collection[str]) -> None:
    """Run the commands in order in a new folder, and write a picture of each, or of those that are wanted."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if list(wanted) == ["page"]:
            subprocess.run(["fttool", "recipes", "copy", "remember"], cwd=folder, check=True)
            page(folder)
            return
        subprocess.run(PREPARED.split(), cwd=folder, check=True)
        spoil(folder)
        for name, command in SCREENS.items():
            if wanted and name not in wanted:
                continue
            if name in BEFORE:
                subprocess.run(BEFORE[name].split(), cwd=folder, check=True)
            parts = list(taken(command, folder))
            (PICTURES / f"{name}.svg").write_text(picture(command, parts, name), encoding="utf-8")
            if name == "run":
                text = picture(command, parts[: round(MIDDLE * len(parts))], "running")
                (PICTURES / "running.svg").write_text(text, encoding="utf-8")
            print(name, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])

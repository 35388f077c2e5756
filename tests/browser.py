"""Pages in a real browser without a screen, and what it says of them: how wide they are, what they show and run, and
what its console has.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AROUND = """<!doctype html><iframe id="page" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre id="said"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const inside = frame.contentDocument, shown = [], style = frame.contentWindow.getComputedStyle(inside.body);
  inside.querySelectorAll("details").forEach(one => one.open = true);
  for (const one of inside.querySelectorAll("body *")) {{
    const box = one.getBoundingClientRect();
    if (box.right > {width} + 0.5 && !one.closest(".wide")) shown.push(`${{one.tagName}}.${{one.className}}`);
  }}
  document.getElementById("said").textContent = JSON.stringify({{
    width: inside.documentElement.scrollWidth, beyond: shown, elements: inside.querySelectorAll("body *").length,
    back: style.backgroundColor, fore: style.color, text: inside.body.innerText,
    foreign: inside.querySelectorAll("script, img[src^=x], iframe, link").length,
    hacked: Boolean(window.hacked || frame.contentWindow.hacked)
  }});
}};
frame.src = "{page}";
</script>"""
"""A page of that width within another one, whose script measures it: a browser's own window cannot be so narrow."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a browser made of a page."""

    width: int
    """Pixels that its content takes from left to right."""
    beyond: list[str]
    """Elements that end to the right of its edge, but for what moves sideways by itself."""
    elements: int
    back: str
    """The colour behind it, `rgb(r, g, b)`."""
    fore: str
    """The colour of its text."""
    text: str
    """What a reader sees of it, with what is folded away."""
    foreign: int
    """Elements that run or fetch something."""
    hacked: bool
    """True where a script of the page has set `hacked`, in its own window or in the one around it."""
    console: list[str]
    """Errors, and all else that the browser has noted of it."""


def contrast(seen: Looked) -> float:
    """Of the text to what is behind it, by WCAG 2.2: 1 to 21."""
    light, dark = sorted((_luminance(seen.fore), _luminance(seen.back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def looked_at(file: Path, folder: Path, *, width: int = 400, dark: bool = False) -> Looked:
    """Open a file in Chromium; the test is skipped where there is none. `folder` receives what is needed for it."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no page is looked at: none of {', '.join(PROGRAMS)} is installed")
    around = folder / "around.html"
    around.write_text(AROUND.format(width=width, page=file.resolve().as_uri()), encoding="utf-8")
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    words += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--window-size=1200,1000"]
    words += ["--blink-settings=preferredColorScheme=0"] if dark else []
    ran = subprocess.run(
        [program, *words, "--virtual-time-budget=5000", around.as_uri()], capture_output=True, text=True, timeout=120
    )
    said = re.search(r'<pre id="said">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert said and said[1], ran.stderr[-2000:]
    found: dict[str, Any] = json.loads(unescape(said[1]))
    return Looked(**found, console=[line for line in ran.stderr.splitlines() if ":CONSOLE" in line])

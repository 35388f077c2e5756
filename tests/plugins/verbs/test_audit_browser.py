"""The page of an audit in a browser: it fits a phone and a desk, in light and dark, and hostile rows stay text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main

from ...rows import write_rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (400, 1400)
SCRIPT = "<script>parent.hacked = window.hacked = 1</script><img src=x onerror='parent.hacked = 1'>"
LOOK = """<!doctype html><pre id="found"></pre>
<script>
const found = [], errors = [];
addEventListener("error", event => errors.push(event.message));
const brightness = colour => {
  const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
for (const width of %s) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => {
    const page = frame.contentDocument, style = frame.contentWindow.getComputedStyle(page.body);
    page.querySelectorAll("details").forEach(one => one.open = true);
    const [dark, light] = [brightness(style.color), brightness(style.backgroundColor)].sort();
    const wide = [...page.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > width + 1);
    found.push({
      width, back: style.backgroundColor, contrast: (light + 0.05) / (dark + 0.05),
      overflow: page.documentElement.scrollWidth - width, wide: wide.map(one => one.outerHTML.slice(0, 80)),
      scripts: page.querySelectorAll("script, img, iframe, link").length, heads: page.querySelectorAll("h2").length,
      hacked: window.hacked || frame.contentWindow.hacked || 0, text: page.body.innerText,
    });
    document.getElementById("found").textContent = JSON.stringify({ found, errors });
  };
  frame.src = "audit.html";
  document.body.append(frame);
}
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of rows with some faults, one of them an attack."""
    folder = tmp_path_factory.mktemp("page")

    def chat(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    rows = [chat(f"What is number {n} of the list?", f"Number {n} is the {n * n}th of all.") for n in range(30)]
    rows += [rows[3], chat("Say more.", "and so it goes on, " * 20), chat("x" * 400, "mail me@example.com")]
    rows += [chat(f"{SCRIPT} \u202egnp.exe", f"{SCRIPT} me@example.com"), chat("Who?", "I'm sorry, but I cannot help.")]
    write_rows(folder / "rows.jsonl", rows)
    assert main(["audit", str(folder / "rows.jsonl"), "-q", "-o", str(folder / "audit.html")]) == 0
    (folder / "look.html").write_text(LOOK % list(WIDTHS), encoding="utf-8")
    return folder / "look.html"


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here to open the page in")
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_fits_and_hostile_rows_stay_text(scheme: str, page: Path, tmp_path: Path) -> None:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--window-size=1500,1000"]
    flags += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--blink-settings=preferredColorScheme={('dark', 'light').index(scheme)}"]
    done = subprocess.run([str(CHROMIUM), *flags, page.as_uri()], capture_output=True, text=True, timeout=300)
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None and said[1], done.stderr
    seen = json.loads(unescape(said[1]))
    assert sorted(one["width"] for one in seen["found"]) == list(WIDTHS) and seen["errors"] == []
    assert "CONSOLE" not in done.stderr, done.stderr
    for one in seen["found"]:
        assert one["overflow"] <= 0 and one["wide"] == [], one["wide"]
        assert one["scripts"] == 0 and one["hacked"] == 0 and one["heads"] >= 5
        assert one["contrast"] >= 7 and (one["back"] == "rgb(255, 255, 255)") == (scheme == "light")
        assert SCRIPT in " ".join(one["text"].split()) and "\u202e" not in one["text"]

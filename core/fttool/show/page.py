"""A page for a browser in one file: no script, nothing fetched, and strangers' text is text.

Whatever is not made here goes through `html_text`: marks of HTML, and what would hide or turn text around. The page's
own policy forbids scripts and the network all the same, should something have been overlooked.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from fttool.visible import visible

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Html(str):
    """Markup that is written as it stands: what is made here, of parts that were escaped."""

    __slots__ = ()


def html_text(text: str) -> Html:
    """Any text as itself: `<` is a sign, and what would turn text around or hide it is written out."""
    return text if isinstance(text, Html) else Html(html.escape(visible(text)))


def html_element(name: str, *inside: str, kind: str = "", **attributes: str) -> Html:
    """`<name class="kind">…</name>` around what is escaped, or is `Html` already."""
    given = {**({"class": kind} if kind else {}), **attributes}
    said = "".join(f' {key}="{html.escape(visible(value))}"' for key, value in given.items())
    return Html(f"<{name}{said}>{''.join(map(html_text, inside))}</{name}>")


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), kind: str = "") -> Html:
    """Columns under headings; those in `numbers`, counted from 0, are set to the right."""

    def row(cells: Sequence[str], name: str) -> Html:
        kinds = ["number" if place in numbers else "" for place in range(len(cells))]
        parts = (html_element(name, cell, kind=kind) for cell, kind in zip(cells, kinds, strict=True))
        return html_element("tr", *parts)

    body = html_element("tbody", *(row(cells, "td") for cells in rows))
    return html_element("table", html_element("thead", row(head, "th")), body, kind=kind)


def html_bar(share: float, *, bad: bool = False) -> Html:
    """A bar that is filled to a share between 0 and 1."""
    width = f"width: {100 * min(1.0, max(0.0, share)):.1f}%"
    return html_element("span", html_element("i", style=width), kind="bar bad" if bad else "bar")


def html_steps(counts: Sequence[int], longest: int, limit: int, of: str) -> Html:
    """A histogram: `counts` of steps of one width from 0 to `longest`, with a line at a `limit` that lies within."""
    width, height, below = 640.0, 140.0, 30.0
    most, each = max(counts, default=0) or 1, width / max(1, len(counts))
    drawn = [
        f'<rect class="step" x="{place * each + 1:.1f}" y="{height - height * count / most:.1f}" '
        f'width="{each - 2:.1f}" height="{height * count / most:.1f}"><title>{count:,}</title></rect>'
        for place, count in enumerate(counts)
    ]
    drawn.append(f'<line class="axis" x1="0" x2="{width:.0f}" y1="{height:.0f}" y2="{height:.0f}"/>')
    drawn.append(f'<text x="0" y="{height + 16:.0f}">0</text>')
    drawn.append(f'<text x="{width:.0f}" y="{height + 16:.0f}" text-anchor="end">{longest:,} {html.escape(of)}</text>')
    if 0 < limit < longest:
        x = width * limit / longest
        drawn.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{height + 28:.0f}" text-anchor="middle">{limit:,}</text>')
    box = f"0 -4 {width:.0f} {height + below + 4:.0f}"
    return Html(f'<svg viewBox="{box}" role="img" style="max-width: {width:.0f}px; width: 100%">{"".join(drawn)}</svg>')


def html_page(title: str, *body: str, made_by: str = "") -> str:
    """The whole file; `made_by` is noted in it, so that whoever writes it again knows it as its own."""
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        + (f'<meta name="generator" content="{html.escape(made_by)}">\n' if made_by else "")
        + f"<title>{html_text(title)}</title>\n<style>{style}</style></head>\n<body>\n"
        + "\n".join(map(html_text, body))
        + "\n</body></html>\n"
    )

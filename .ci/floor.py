"""Is each file of core covered by the tests? Reads what `coverage json` wrote; exits with 1 below the floor.

    python .ci/floor.py coverage.json

Lines that only other processes run (a launcher's children, a worker) are not seen: files that mostly do are listed here
with a floor of their own and why.
"""

import json
import sys
from pathlib import Path

FLOOR = 90
"""Percent of the lines of a file."""
EARLY = "pytest loads it, as a plugin, before lines are counted"
OWN: dict[str, tuple[int, str]] = {
    "core/fttool/__main__.py": (0, "it is tested under the name __main__, which is not counted as a part of fttool"),
    "core/fttool/__init__.py": (33, EARLY),
    "core/fttool/testing/__init__.py": (23, EARLY),
    "core/fttool/testing/fixtures.py": (52, EARLY),
    "core/fttool/rows/workers.py": (80, "its workers are forks of the process whose lines are counted"),
}
"""File → its floor, and why it is lower."""


def below(report: dict[str, dict[str, dict[str, dict[str, float]]]]) -> list[str]:
    """A line for each file of core that is covered by less than its floor."""
    found: list[str] = []
    for name, file in sorted(report["files"].items()):
        place = Path(name).as_posix()
        percent, (floor, _) = file["summary"]["percent_covered"], OWN.get(place, (FLOOR, ""))
        if place.startswith("core/") and percent < floor:
            found.append(f"{place}: {percent:.0f}%, of which {floor}% are asked")
    return found


if __name__ == "__main__":
    lines = below(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(
        "\n".join(lines)
        or f"each file of core is covered by {FLOOR}% or more, but for {len(OWN)} with a floor of their own"
    )
    sys.exit(1 if lines else 0)

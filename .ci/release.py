"""Cut a release, or check that a tag is one.

    python .ci/release.py 0.2.0           write the version into pyproject.toml, and today's section into CHANGELOG.md
    python .ci/release.py --check v0.2.0  exit with 1 unless both speak of the version of that tag

What stood under [Unreleased] becomes the section of the version; nothing is committed, tagged or uploaded.
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+")
IN_PROJECT = re.compile(r'^version = "(.+)"$', re.MULTILINE)
UNRELEASED = "## [Unreleased]\n"


def cut(root: Path, version: str, day: str) -> None:
    """Give what is unreleased a version; `day` is YYYY-MM-DD. Raises `SystemExit` where that cannot be."""
    if not VERSION.fullmatch(version):
        raise SystemExit(f"'{version}' is not a version like 0.2.0")
    project, changes = root / "pyproject.toml", root / "CHANGELOG.md"
    text = changes.read_text(encoding="utf-8")
    before, found, after = text.partition(UNRELEASED)
    if not found or not re.match(r"\s*### ", after):
        raise SystemExit("CHANGELOG.md has nothing under [Unreleased]")
    if f"## [{version}]" in text:
        raise SystemExit(f"CHANGELOG.md has a section of {version} already")
    changes.write_text(f"{before}{UNRELEASED}\n## [{version}] - {day}\n{after}", encoding="utf-8")
    settings = IN_PROJECT.sub(f'version = "{version}"', project.read_text(encoding="utf-8"), count=1)
    project.write_text(settings, encoding="utf-8")


def faults(root: Path, tag: str) -> list[str]:
    """What speaks against the tag."""
    version = tag.removeprefix("v")
    stated = IN_PROJECT.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[str] = []
    if not tag.startswith("v") or not VERSION.fullmatch(version):
        found.append(f"'{tag}' is not a tag like v0.2.0")
    if stated is None or stated[1] != version:
        found.append(f"pyproject.toml says version {stated[1] if stated else 'nothing'}")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", _changes(root), re.MULTILINE):
        found.append(f"CHANGELOG.md has no section of {version} with its day")
    return found


def _changes(root: Path) -> str:
    return (root / "CHANGELOG.md").read_text(encoding="utf-8")


def main(words: list[str]) -> int:
    """Returns the exit code."""
    if len(words) == 2 and words[0] == "--check":
        found = faults(ROOT, words[1])
        print("\n".join(found), file=sys.stderr) if found else print(f"{words[1]}: version and changelog agree")
        return 1 if found else 0
    if len(words) == 1 and not words[0].startswith("-"):
        cut(ROOT, words[0], datetime.now(UTC).date().isoformat())
        print(f"now: look at it, commit it, and tag it v{words[0]}")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

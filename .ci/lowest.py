"""Can the lowest Python that pyproject.toml names install what fttool depends on? pip resolves, and installs nothing.

torch is left out: which of its builds is wanted is said elsewhere, and each brings gigabytes. With `--constraints` it
prints the oldest version of each that pyproject.toml lets in, as `pip install -c` takes them.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
if sys.argv[1:] == ["--constraints"]:
    for one in project["dependencies"]:
        print(re.sub(r">=(.+)", r"==\1.*", one))
    sys.exit()
lowest = re.fullmatch(r">=(\d+\.\d+)", project["requires-python"])
assert lowest, project["requires-python"]
wanted = [one for one in project["dependencies"] if not re.match(r"torch\b", one)]
print(f"Python {lowest[1]}: {', '.join(wanted)}", flush=True)
with tempfile.TemporaryDirectory() as target:
    options = [
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        lowest[1],
        "--target",
        target,
    ]
    sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *options, *wanted]).returncode)

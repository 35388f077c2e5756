"""What a Python of its own imports: starting up must stay light."""

from __future__ import annotations

import subprocess
import sys
from textwrap import indent

HEAVY = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy")
"""What takes seconds to import."""


def imported_by(code: str, *modules: str) -> set[str]:
    """Which of `modules` (default: `HEAVY`) are imported once the code has run; it may end with `SystemExit`."""
    asked = f"""
import sys
try:
{indent(code, "    ")}
except SystemExit:
    pass
print("\\nimported:", *[one for one in {modules or HEAVY} if one in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])

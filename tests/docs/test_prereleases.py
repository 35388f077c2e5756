"""`.ci/prereleases`, which needs a network: that it is a script, and that the tests that it names are there."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_is_a_script_whose_tests_are_there() -> None:
    script = ROOT / ".ci" / "prereleases"
    subprocess.run(["bash", "-n", str(script)], check=True)
    listed = subprocess.run([str(script), "--list"], check=True, capture_output=True, text=True).stdout.splitlines()
    tests = [line for line in listed if line.startswith("tests/")]
    assert len(tests) > 3 and all((ROOT / test).exists() for test in tests)
    assert "newest pre-release of transformers" in listed

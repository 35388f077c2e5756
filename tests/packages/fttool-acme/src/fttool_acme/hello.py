"""`fttool acme-hello`: a verb of this package's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fttool.api import ExitCode


def main(words: Sequence[str]) -> int:
    """Greet; `words` are the arguments behind the verb."""
    parser = argparse.ArgumentParser(prog="fttool acme-hello", description="Say hello.")
    parser.add_argument("name", nargs="?", default="world")
    print(f"hello, {parser.parse_args(words).name}")
    return ExitCode.OK

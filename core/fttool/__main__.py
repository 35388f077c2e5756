"""`python -m fttool` is `fttool`."""

import sys

from fttool.cli import main

if __name__ == "__main__":
    sys.exit(main())

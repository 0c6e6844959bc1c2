"""`python -m unified.cli`: the command line of `unified.apps.cli`."""

import sys

from unified.apps.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

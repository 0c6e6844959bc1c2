"""`python -m unified`: the command line."""

import sys

from unified.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())

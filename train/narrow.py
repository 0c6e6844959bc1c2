"""Former name of `unified.train.prune`: `python -m unified.train.narrow` takes the same options."""

import sys

from unified.train.prune import main

if __name__ == "__main__":
    sys.exit(main())

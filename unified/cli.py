"""The command `unified`. Errors of the user's making end in one line and exit status 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unified import __version__


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(
        prog="unified", description="One model that reads, draws and edits images and predicts worlds."
    )
    root.add_argument("--version", action="version", version=f"unified {__version__}")
    commands = root.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="a tour of the generation path; writes pictures")
    demo.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the pictures")
    demo.add_argument("--seed", type=int, default=0)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        from unified import demo

        demo.run(options.out, options.seed)
    except (ValueError, OSError) as error:
        print(f"unified: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

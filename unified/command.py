"""How every command line of the package ends.

Exit status: 0 done; 1 the work failed, or a bug; 2 bad input, or a file that could not be read or written;
130 stopped with Ctrl-C. Whatever went wrong is told in one line on the error stream; `--debug` shows the
traceback before it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from safetensors import SafetensorError

REFUSALS = (ValueError, OSError, SafetensorError)  # bad input; files, disks, permissions
FAILURES = (ImportError, RuntimeError, MemoryError)  # a package is missing, no memory, a device failed
LONGEST = 500  # letters of a line about an error
STATUSES = "exit status: 0 done, 1 failed, 2 bad input or an unusable file, 130 stopped with Ctrl-C"
DEBUG = "show the traceback of an error"


class Parser(argparse.ArgumentParser):
    """One line instead of the usage text; `--debug` is known to every command. `intermixed`: positional
    arguments may stand before, between and after options."""

    intermixed = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"epilog": STATUSES, **options})
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False  # what is called here calls this
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line} (see {self.prog} --help)\n")


def run(
    name: str,
    work: Callable[[argparse.Namespace], int],
    options: argparse.Namespace,
    stopped: str = "stopped",
) -> int:
    """The exit status of `work(options)`; `name` begins every line about an error."""
    _be_lenient(sys.stdout)
    try:
        status = int(work(options))
        if sys.stdout is not None:  # as it is where the shell closed it (>&-)
            sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _close_stdout()
        return 1
    except Exception as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        print(f"{name}: {told(error)}", file=sys.stderr)
        if isinstance(error, OSError):
            _close_stdout()
        return 2 if isinstance(error, REFUSALS) else 1


def told(error: BaseException) -> str:
    """An error in one line. What is neither bad input nor a failure of the machine is a bug."""
    text = " ".join(str(error).split())
    if isinstance(error, FAILURES):
        text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, OSError) and error.strerror:
        name = str(error.filename or "")
        name = name if len(name) <= 200 else f"{name[:200]} ..."  # the reason is what must not be cut off
        text = f"{name}: {error.strerror}" if name else error.strerror
    text = text.encode("utf-8", "backslashreplace").decode() or type(error).__name__
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    known = isinstance(error, REFUSALS + FAILURES)
    bug = not known or isinstance(error, RecursionError | NotImplementedError)
    return f"a bug: {type(error).__name__}: {text} (--debug shows where)" if bug else text


def show_warnings(name: str) -> None:
    """Warnings of ours (UserWarning) as one line each, the same one once; those of libraries about themselves
    are left out."""
    seen: set[str] = set()

    def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
        line = " ".join(str(message).split())
        if category is UserWarning and line not in seen:
            seen.add(line)
            print(f"{name}: warning: {line}", file=sys.stderr)

    warnings.showwarning = show


def _be_lenient(stream: Any) -> None:
    """Text that the terminal's encoding does not have is escaped and does not end the command."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _close_stdout() -> None:
    """What is left in the buffer of a full disk or a closed pipe must not be written again at the end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

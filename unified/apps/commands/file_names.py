"""Names of files in a line of a chat, written as in a shell."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from unified.text_files import at_home

DRIVE = re.compile(r"""["']?[A-Za-z]:\\""")


def paths(words: str) -> list[Path]:
    """The files that a line names as in a shell: quoted, with backslashes before blanks, `~` for the home
    folder; or one file whose name stands there as it is, blanks included. On Windows, and behind a drive such
    as C:, backslashes are those of paths."""
    whole = at_home(words)
    if words and whole.is_file():
        return [whole]
    lexer = shlex.shlex(words, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    lexer.escape = "" if os.name == "nt" or DRIVE.match(words) else "\\"
    try:
        names = list(lexer)
    except ValueError:
        raise ValueError(f"a quote or a backslash in {words!r:.80} is not followed by its end") from None
    return [at_home(name) for name in names]


def one_path(words: str) -> Path:
    """The same for one file; a name with blanks or an apostrophe needs no quotes."""
    try:
        (found,) = paths(words)
    except ValueError:  # several names, or a quote that does not end
        return at_home(words)
    return found

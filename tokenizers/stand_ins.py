"""What stands in a file's place where a download failed: a Git LFS pointer, a web page, nothing."""

from __future__ import annotations

from pathlib import Path

LFS_POINTER = "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
WEB_PAGE = "a web page, not the file itself: download that"


def is_lfs_pointer(content: bytes) -> bool:
    """Whether a file begins as what Git puts in the place of a large one."""
    return content.startswith(b"version https://git-lfs")


def is_web_page(content: bytes) -> bool:
    """Whether a file begins as a page that a server gives out in place of a file."""
    head = content[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def check_file(path: Path) -> None:
    """ValueError for what stands in a file's place where a download failed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    if not head:
        raise ValueError(f"{path}: the file is empty")
    if is_lfs_pointer(head):
        raise ValueError(f"{path}: {LFS_POINTER}")
    if is_web_page(head):
        raise ValueError(f"{path}: {WEB_PAGE}")

"""Uploading what `save_pretrained` writes, and the one line where the hub cannot be reached."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from unified.weight_files import first_line


def pushed(repository: str, save: Callable[[str], Any], **options: Any) -> str:
    """Write files by `save(folder)` and upload them to a repository of the hub (made if it is not there): the
    address of the commit. `options`: `private`, `token`, `revision`, `commit_message`. ValueError, in one
    line, where the hub cannot be reached or refuses."""
    from huggingface_hub import HfApi

    api = HfApi(token=options.pop("token", None))
    private = options.pop("private", None)
    with TemporaryDirectory() as folder:
        save(folder)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=folder, **options)
        except Exception as error:  # the hub has a dozen error types, each a reason for no upload
            reason = first_line(error)
            raise ValueError(
                f"{repository}: not uploaded ({reason}); save_pretrained(FOLDER) writes the same files"
            ) from None
    return str(commit.commit_url)

"""Checkpoints on the Hugging Face hub: which names mean a repository, fetching one, and putting one there.

Only our two files and the model card are fetched, and nothing is unpickled. What was fetched once is read from
huggingface_hub's cache when there is no network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from smidgen.checkpoints.layout import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILES_OF_WEIGHTS = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".json", ".yaml", ".onnx"})


class HubApi(Protocol):
    """What is used of huggingface_hub.HfApi."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any: ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any: ...


def is_repository(name: str) -> bool:
    """Whether `name` is owner/name of the hub rather than a path: nothing has it, and no folder is named like the
    owner.
    """
    if not _REPOSITORY.fullmatch(name) or Path(name).suffix.lower() in _FILES_OF_WEIGHTS:
        return False
    return not Path(name).exists() and not Path(name).parent.is_dir()


def fetch(
    repository: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder with a repository's checkpoint, fetched or from the cache. Raises ValueError that says why not."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, CARD_FILE],
        )
    except Exception as error:  # of huggingface_hub and of the three packages through which it talks
        raise ValueError(_unreachable(repository, error)) from error
    return Path(folder)


def put(folder: Path, repository: str, *, private: bool | None, message: str, api: HubApi) -> None:
    """Upload a folder's files as one commit; the repository is made if there is none. Raises OSError in words."""
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=message)
    except Exception as error:
        raise OSError(
            f"could not upload to {repository} of the Hugging Face hub ({_first_line(error)}); `hf auth login` gives "
            "the right to write, and a network is needed; smidgen.save_pretrained makes the same folder here"
        ) from error


def _unreachable(repository: str, error: Exception) -> str:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    beginning = f"there is no folder {repository} here, and "
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} of the Hugging Face hub has no such revision; see its page for those that it has"
    if isinstance(error, RepositoryNotFoundError):
        return beginning + "no such repository on the Hugging Face hub; if it is private, run `hf auth login` first"
    return (
        f"{beginning}the Hugging Face hub cannot be asked for {repository} ({_first_line(error)}); check the path, or "
        "fetch it where there is a network (`hf download`) and name the folder"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

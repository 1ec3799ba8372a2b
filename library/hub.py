"""Sharing through a Hugging Face Hub repository, laid out as a library is.

A push is one commit on top of the commit that it looked at (compare and swap): when another push
came between, it looks again. Versions on the hub are as immutable as those on disk.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from library.errors import BadFile, DamagedFile, DirectionsError, HubError
from library.exchange import (
    BUNDLE_ENTRY,
    LARGEST_ENTRY,
    MOST_ENTRIES,
    adopt,
    checked_direction,
    identity,
)
from library.layer import VersionPath

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library

__all__ = ["Pulled", "Pushed", "pull", "push"]

TRIES = 6
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, PRECONDITION_FAILED = 401, 403, 404, 409, 412


@dataclass(frozen=True)
class Pushed:
    """What a push sent, what the hub had already, and the commit that holds it all."""

    repo: str
    commit: str
    sent: list[str]
    present: list[str]


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: each version as it is called here, and whether it is new."""

    repo: str
    commit: str
    versions: list[tuple[Direction, bool]]


def push(
    library: Library,
    repo: str,
    references: Sequence[str],
    encoder: str | None = None,
    revision: str = "main",
    private: bool = False,
    api: Any = None,
) -> Pushed:
    """Send versions to `repo` (made if missing). Raises HubError, and DamagedFile before anything is sent.

    A number that the hub uses for another direction is refused: pull first, save again, push that. What was
    pulled counts as present. `repo` without `USER/` is the user's own.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    _check_repo(repo)
    api = api or HfApi()
    chosen = [library.find(reference, encoder) for reference in references]
    contents = {_remote_path(version): _checked_content(library, version) for version in chosen}
    with _hub_errors(repo, "push to"):
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
    for _ in range(TRIES):
        with _hub_errors(repo, "push to"):
            head, remote = _listing(api, repo, revision)
        sent = [path for path in contents if path not in remote]
        present = [path for path in contents if path in remote]
        for path in present:
            mine = contents[path]
            if remote[path] not in _digests(mine) and not _same(api, repo, head, path, mine):
                raise HubError(
                    f"{repo} has another {path}: a version never changes; `directions pull {repo}` and save "
                    "yours again, then it gets the next number"
                )
        if not sent:
            return Pushed(repo, head, [], present)
        operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=contents[path]) for path in sent]
        message = f"Add {', '.join(v.ref for v in chosen if _remote_path(v) in sent)}"[:200]
        try:
            with _hub_errors(repo, "push to"):
                info = api.create_commit(
                    repo, operations, commit_message=message, revision=revision, parent_commit=head
                )
            return Pushed(repo, info.oid, sent, present)
        except _Overtaken:
            continue
    raise HubError(f"cannot push to {repo}: others pushed {TRIES} times in between; try again")


def pull(
    library: Library, repo: str, names: Sequence[str] = (), revision: str | None = None, api: Any = None
) -> Pulled:
    """Save the versions in `repo` (of `names` only, if given), each checked; `revision` pins a commit or tag.

    `NAME` is every version of it, `NAME@3` one. All is checked before any is saved. Raises HubError, BadFile.
    """
    from huggingface_hub import HfApi

    _check_repo(repo)
    api = api or HfApi()
    with _hub_errors(repo, "pull from"):
        commit, remote = _listing(api, repo, revision)
    wanted = [path for path in sorted(remote) if not names or _asked_for(path, names)]
    missing = [name for name in names if not any(_asked_for(path, [name]) for path in wanted)]
    if missing or not wanted:
        raise HubError(f"{repo} at {commit[:12]} holds no direction {', '.join(missing)}".rstrip())
    if len(wanted) > MOST_ENTRIES:
        raise HubError(
            f"{repo} holds {len(wanted)} versions; at most {MOST_ENTRIES} are pulled at once: name some"
        )
    directions: list[Direction] = []
    for path in wanted:
        try:
            with _hub_errors(repo, "pull from"):
                directions.append(_fetched(api, repo, commit, path))
        except DamagedFile as fault:
            raise BadFile(f"{repo}:{path} is refused: {fault}; nothing was imported") from fault
    origin = {"repo": repo, "commit": commit}
    return Pulled(repo, commit, [adopt(library, d, origin | {"ref": d.ref}) for d in directions])


class _Overtaken(HubError):
    """Another commit came first."""


@contextlib.contextmanager
def _hub_errors(repo: str, action: str) -> Iterator[None]:
    """Turn the hub client's many failures into HubError lines."""
    try:
        yield
    except DirectionsError:
        raise
    except Exception as fault:
        raise _explained(fault, f"cannot {action} {repo}") from fault


def _explained(fault: Exception, what: str) -> HubError:
    status = getattr(getattr(fault, "response", None), "status_code", None)
    if status in (PRECONDITION_FAILED, CONFLICT):
        return _Overtaken(f"{what}: another push came first; try again")
    if status in (UNAUTHORIZED, FORBIDDEN):
        return HubError(f"{what}: not allowed; log in with `hf auth login` or set HF_TOKEN")
    if status == NOT_FOUND or type(fault).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return HubError(f"{what}: no such repository or revision, or it is private")
    reason = " ".join(str(fault).split())[:200]
    return HubError(f"{what}: {type(fault).__name__}: {reason}; is the network there?")


def _listing(api: Any, repo: str, revision: str | None) -> tuple[str, dict[str, str]]:
    """The commit that `revision` is now, and its version files with their digests."""
    commit = str(api.repo_info(repo, revision=revision).sha)
    files: dict[str, str] = {}
    for entry in api.list_repo_tree(repo, recursive=True, revision=commit):
        if BUNDLE_ENTRY.fullmatch(entry.path) and hasattr(entry, "blob_id"):
            files[entry.path] = entry.lfs.sha256 if entry.lfs else entry.blob_id
    return commit, files


def _check_repo(repo: str) -> None:
    """Raise HubError for what cannot be a repository's id."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as fault:
        raise HubError(f"{repo!r} names no repository: expected USER/REPO, such as ann/directions") from fault


def _fetched(api: Any, repo: str, commit: str, path: str) -> Direction:
    """A version on the hub; what the client's cache holds damaged is downloaded again. Raises DamagedFile."""
    try:
        return _downloaded(api, repo, commit, path)
    except DamagedFile:
        return _downloaded(api, repo, commit, path, force_download=True)


def _downloaded(api: Any, repo: str, commit: str, path: str, force_download: bool = False) -> Direction:
    local = api.hf_hub_download(repo, path, revision=commit, force_download=force_download)
    with open(local, "rb") as file:
        content = file.read(LARGEST_ENTRY + 1)
    if len(content) > LARGEST_ENTRY:
        raise DamagedFile(f"it has more than {LARGEST_ENTRY} bytes")
    return checked_direction(content, path, f"{repo}:{path}")


def _same(api: Any, repo: str, commit: str, path: str, content: bytes) -> bool:
    """Whether the hub's file is this version but for what a pull adds to the record."""
    try:
        with _hub_errors(repo, "push to"):
            theirs = _fetched(api, repo, commit, path)
    except DamagedFile:
        return False
    mine = checked_direction(content, path, path)
    return identity(theirs.record, theirs.name) == identity(mine.record, mine.name)


def _digests(content: bytes) -> tuple[str, str]:
    """What the hub calls this content: its SHA-256 as a large file, its git blob id as a small one."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return hashlib.sha256(content).hexdigest(), blob


def _checked_content(library: Library, version: VersionPath) -> bytes:
    library.read(version.path, version)
    return version.path.read_bytes()


def _remote_path(version: VersionPath) -> str:
    return f"{version.name}/{version.encoder}/{version.path.name}"


def _asked_for(path: str, names: Sequence[str]) -> bool:
    match = BUNDLE_ENTRY.fullmatch(path)
    if not match:
        return False
    name, version = match.group(1), int(match.group(3))
    return name in names or f"{name}@{version}" in names

"""Find and upload files in a repository of a Hugging Face hub, with the package huggingface_hub."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.bundle.config_files import suggest_name
from pipeline.bundle.sharing.place import HubPlace
from pipeline.issues import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_IN = "log in: hf auth login, or set HF_TOKEN"


@dataclass(frozen=True)
class HubFile:
    """A file of one commit, ready to be downloaded."""

    place: HubPlace  #: with the file and the commit
    url: str  #: its address at this commit
    headers: dict[str, str]  #: to be sent to the hub, and to no other host


@dataclass(frozen=True)
class Repository:
    """A repository as it is before an upload."""

    commit: str  #: newest one
    private: bool  #: only members of the owner see it
    card: str | None  #: its README.md, None if there is none


def connect() -> HfApi:
    """Return the client: without telemetry, and without Xet, which keeps copies in the user's cache.

    Raises:
        InputError: huggingface_hub is not installed, or ``HF_ENDPOINT`` is not an https address.
    """
    try:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]
    except ImportError as error:
        hint = 'type python -m pip install "huggingface_hub>=1,<3"'
        raise InputError(f"hf:// needs huggingface_hub, which is not installed ({error}); {hint}") from None
    constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_XET = True
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=constants.ENDPOINT, library_name="pipeline", library_version=__version__)
    if not api.endpoint.startswith("https://"):
        raise InputError(f"HF_ENDPOINT is {api.endpoint}; expected an https address: a token must not travel openly")
    return api


def find_file(place: HubPlace) -> HubFile:
    """Return a file's address at the commit that the place's revision names now.

    Args:
        place: without a file, the repository must have one zip file.

    Raises:
        InputError: the hub has no such file, does not show it, or does not answer.
    """
    api = connect()
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    with _one_line(api, place):
        place = place if place.file else replace(place, file=_find_only_zip(api, place))
        revision = place.revision or None
        url = hf_hub_url(place.repository, place.file, revision=revision, endpoint=api.endpoint)
        commit = api.get_hf_file_metadata(url=url).commit_hash
        if not commit:
            raise InputError(f"{place}: {api.endpoint} does not say which commit it is; is it a Hugging Face hub?")
        pinned = hf_hub_url(place.repository, place.file, revision=commit, endpoint=api.endpoint)
        headers = {name: value for name, value in build_hf_headers().items() if name.lower() == "authorization"}
    return HubFile(replace(place, revision=commit), pinned, headers)


def _find_only_zip(api: HfApi, place: HubPlace) -> str:
    siblings = api.model_info(place.repository, revision=place.revision or None).siblings or []
    names = [sibling.rfilename for sibling in siblings if sibling.rfilename.lower().endswith(".zip")]
    if len(names) != 1:
        known = suggest_name("", names, most=5)
        raise InputError(f"{place} has {len(names)} zip files; name one: hf://{place.repository}/FILE.zip; {known}")
    return names[0]


def prepare_repository(place: HubPlace, *, create: bool, public: bool) -> Repository:
    """Return the state of the repository to upload to, which is made if that is wished.

    Args:
        place: of the bundle.
        create: make the repository if there is none.
        public: make it visible to everyone.

    Raises:
        InputError: there is no repository, no token, or the hub does not answer.
    """
    api = connect()
    from huggingface_hub import get_token
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    if get_token() is None:
        raise InputError(f"{place}: there is no token for {api.endpoint}; {LOG_IN}")
    with _one_line(api, place):
        try:
            info = api.model_info(place.repository)
        except RepositoryNotFoundError as error:
            if not create or _status(error) == 403:
                raise
            api.create_repo(place.repository, private=not public)
            info = api.model_info(place.repository)
        card = None
        with contextlib.suppress(EntryNotFoundError), tempfile.TemporaryDirectory() as folder:
            path = api.hf_hub_download(place.repository, "README.md", revision=info.sha, local_dir=folder)
            card = Path(path).read_text(encoding="utf-8", errors="replace")
    return Repository(info.sha or "", bool(info.private), card)


def upload(place: HubPlace, files: Mapping[str, Path | bytes], digest: str, message: str, parent: str) -> str:
    """Upload files in one commit and return it.

    Args:
        place: with the file.
        files: by path in the repository.
        digest: SHA-256 that the place's file must have.
        message: of the commit.
        parent: commit that must still be the newest one.

    Raises:
        InputError: the hub refuses, or does not answer.
    """
    from huggingface_hub import CommitOperationAdd

    api = connect()
    added = [CommitOperationAdd(path, content) for path, content in files.items()]
    with _one_line(api, place):
        for operation in added:
            if operation.path_in_repo == place.file and operation.upload_info.sha256.hex() != digest:
                raise InputError(f"{files[place.file]!s} changed while it was looked at; push it again")
        commit = api.create_commit(place.repository, added, commit_message=message, parent_commit=parent)
    return str(commit.oid)


@contextlib.contextmanager
def _one_line(api: HfApi, place: HubPlace) -> Iterator[None]:
    """Raise what goes wrong as one line that says what to type."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # HfHubHTTPError, the errors of its HTTP library, ValueError, RuntimeError ...
        raise InputError(f"{place}: {_explain(api, place, error)}") from error


def _explain(api: HfApi, place: HubPlace, error: Exception) -> str:
    from huggingface_hub import errors

    create = "push makes it with --create (private; with --public for everyone)"
    known = (
        (errors.OfflineModeIsEnabled, "the hub may not be asked while HF_HUB_OFFLINE is set; unset it"),
        (errors.GatedRepoError, f"its owner grants access: ask at {api.endpoint}/{place.repository}, then {LOG_IN}"),
        (
            errors.RepositoryNotFoundError,
            f"{api.endpoint} has no repository {place.repository}, or does not show it to you: {LOG_IN}; {create}",
        ),
        (errors.RevisionNotFoundError, f"the repository has no revision {place.revision}; ask for the right one"),
        (errors.EntryNotFoundError, f"the repository has no file {place.file} at this revision; see its page"),
    )
    for kind, text in known:
        if isinstance(error, kind):
            return text
    causes = {
        401: f"{api.endpoint} does not accept your token; {LOG_IN}",
        403: f"your token does not allow this; make one with the right to write at {api.endpoint}/settings/tokens",
        412: "somebody changed the repository at the same moment; type the same command again",
    }
    status = _status(error)
    root = error
    while root.__cause__ is not None and isinstance(root.__cause__, Exception) and status == 0:
        root = root.__cause__
        status = _status(root)
    first = next((line.strip() for line in str(root).splitlines() if line.strip()), type(root).__name__)
    return causes.get(status, f"{api.endpoint} cannot be used: {first}; is the network there? try again")


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)

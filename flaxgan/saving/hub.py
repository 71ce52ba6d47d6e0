"""Models on the Hugging Face Hub: `hub:user/name@revision` to a file on this machine, and back.

`huggingface_hub` (extra `hub`) moves the files; it reads HF_ENDPOINT, HF_HOME and HF_TOKEN.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from flaxgan.errors import UserError, first_line
from flaxgan.saving.generator_file import discriminator_file

PREFIX = "hub:"
FILE = "model.safetensors"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Downloaded(NamedTuple):
    """A model's file on this machine.

    Attributes:
      path: in the cache of `huggingface_hub`.
      source: "hub:user/name@commit", with the whole hash of the commit.
    """

    path: Path
    source: str


def is_hub_name(what: Any) -> bool:
    """Whether this names a model on the hub."""
    return isinstance(what, str) and what.startswith(PREFIX)


def download(what: str) -> Downloaded:
    """Finds a model's file: in the cache, or on the hub; its discriminator too, if there is one.

    Args:
      what: "hub:user/name", or "hub:user/name@revision", a branch, a tag or a commit.

    Raises:
      UserError: no such model, file or revision, no right to read it, no network, or no
        `huggingface_hub`.
    """
    repo, at, revision = what.removeprefix(PREFIX).partition("@")
    _check_name(repo)
    if at and not revision:
        raise UserError(f"{what}: a revision must follow the @")
    hub = _import_hub()

    def fetch(name: str) -> Path:
        return Path(
            hub.hf_hub_download(
                repo, name, revision=revision or None, endpoint=_endpoint(), library_name="flaxgan"
            )
        )

    path = _explain(what, lambda: fetch(FILE))
    commit = path.parent.name
    revision = commit  # of the very same state
    try:
        fetch(discriminator_file(Path(FILE)).name)
    except hub.errors.EntryNotFoundError:  # most models have none
        pass
    except (hub.errors.HfHubHTTPError, OSError):
        pass  # only choosing the best of several needs it, and says so
    return Downloaded(path, f"{PREFIX}{repo}@{commit}")


def upload(folder: Path, repo: str, *, private: bool = False) -> str:
    """Uploads a folder of `flaxgan export --format hub`, and makes the repository if need be.

    Returns:
      The hash of the commit.

    Raises:
      UserError: the folder is none of a model, no token, no right to write, no network, or no
        `huggingface_hub`.
    """
    _check_name(repo)
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} has no {FILE}: make it with flaxgan export --format hub")
    hub = _import_hub()
    if hub.get_token() is None:
        raise UserError(
            "no token of the Hugging Face Hub: run hf auth login, or set HF_TOKEN, to one that may "
            "write"
        )
    api = hub.HfApi(endpoint=_endpoint(), library_name="flaxgan")

    def send() -> str:
        api.create_repo(repo, private=private, exist_ok=True)
        found = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload with flaxgan push"
        )
        return str(found.oid)

    return _explain(f"{PREFIX}{repo}", send)


def _check_name(repo: str) -> None:
    if not _NAME.fullmatch(repo):
        raise UserError(f"a model on the hub is named user/name, not {repo!r}")


def _endpoint() -> str | None:
    """Read at each call, as other settings are; None: the public hub's."""
    return os.environ.get("HF_ENDPOINT") or None


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise UserError(
            'models on the hub need the package huggingface_hub: pip install "flaxgan[hub]"'
        ) from error
    huggingface_hub.utils.logging.set_verbosity_error()  # it warns of each of six attempts
    return huggingface_hub


def _explain(what: str, call: Any) -> Any:
    """What the call returns; what can go wrong on the way becomes one line."""
    errors = _import_hub().errors
    try:
        return call()
    except errors.GatedRepoError as error:
        raise UserError(
            f"{what} is gated: ask for access on its page, then run hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{what} is not there, or private: check the name; of a private model, run hf auth "
            "login, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{what}: there is no such revision") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UserError(
            f"{what} cannot be reached, and is not in the cache: check the network, HF_ENDPOINT "
            "and HF_HUB_OFFLINE"
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{what} has no {FILE}, so it is no model of flaxgan") from error
    except errors.HFValidationError as error:
        raise UserError(f"{what}: {first_line(error)}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UserError(
                f"{what}: the hub refuses this token; run hf auth login with one that may do this"
            ) from error
        raise UserError(f"{what}: the hub answers {first_line(error)}") from error
    except OSError as error:  # also what a library of connections raises
        raise UserError(f"{what} cannot be reached: {first_line(error)}") from error
    except Exception as error:
        if _is_connection_error(error):
            raise UserError(
                f"{what} cannot be reached: {first_line(error)}; check the network and HF_ENDPOINT"
            ) from error
        raise


def _is_connection_error(error: BaseException) -> bool:
    """Whether an HTTP library says that a server was not reached: which one, depends on the hub's
    version."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"TransportError", "RequestError", "RequestException"})

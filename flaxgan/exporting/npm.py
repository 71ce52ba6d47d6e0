"""onnxruntime-web from the npm registry: one pinned release, whose bytes are known.

The registry is npm's own setting: `npm_config_registry`, or `registry=` in ~/.npmrc.
"""

import base64
import hashlib
import io
import os
import re
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from flaxgan.atomic_write import open_atomic
from flaxgan.errors import UserError, first_line
from flaxgan.machine import cache_dir

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILE = f"{PACKAGE}-{VERSION}.tgz"
REGISTRY = "https://registry.npmjs.org/"
SECONDS = 60.0  # without an answer


def runtime_files(names: list[str], archive: Path | None = None) -> dict[str, bytes]:
    """Files of the package's folder `dist`, by their names.

    Args:
      names: of the files.
      archive: `npm pack onnxruntime-web@…` where this machine has no network; None: out of the
        cache, or the registry.

    Raises:
      UserError: the archive cannot be had, or is not the one that is pinned.
    """
    data = _read(archive) if archive is not None else _cached()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for name in names:
            member = tar.extractfile(f"package/dist/{name}")  # nothing is written
            assert member is not None  # the digest is right
            found[name] = member.read()
    return found


def _cached() -> bytes:
    path = cache_dir("npm") / FILE
    if path.is_file():
        data = path.read_bytes()
        if _digest(data) == SHA512:
            return data
    data = _download(f"{registry()}{PACKAGE}/-/{FILE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as file:
            file.write(data)
    except OSError:
        pass  # it will be downloaded again
    return data


def registry() -> str:
    """Where npm on this machine looks for packages; ends in a slash."""
    names = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
    found = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if found is None:
        try:
            text = (Path.home() / ".npmrc").read_text(encoding="utf-8")
        except (OSError, UnicodeError, RuntimeError):
            text = ""
        line = re.search(r"^\s*registry\s*=\s*[\"']?(\S+?)[\"']?\s*$", text, re.MULTILINE)
        found = line.group(1) if line else REGISTRY
    return found.rstrip("/") + "/"


def _download(address: str) -> bytes:
    advice = f"or run npm pack {PACKAGE}@{VERSION} elsewhere, and name its file with --runtime"
    if not address.startswith(("https://", "http://")):
        raise UserError(f"npm's registry must be an address of http, not {address}")
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            data: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise UserError(f"{address}: the registry answers {error.code}; {advice}") from error
    except (OSError, ValueError) as error:
        reason = first_line(Exception(getattr(error, "reason", error)))
        raise UserError(
            f"cannot download {address}: {reason}; check the network, {advice}"
        ) from error
    return _checked(data, address)


def _read(path: Path) -> bytes:
    try:
        return _checked(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _checked(data: bytes, source: str) -> bytes:
    if _digest(data) != SHA512:
        raise UserError(f"{source} is not {FILE} as it was published: its sha512 differs")
    return data


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha512(data).digest()).decode()

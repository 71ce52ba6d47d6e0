"""Watches one case: how long it takes, what it writes, starts and connects to, what it warns of."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> positions of paths that it changes
CHANGES = {
    "os.chmod": (0,),
    "os.link": (1,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
}
# no input may start a program or open a connection
FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "pty.spawn", "webbrowser.open"),
)


class Outside(BaseException):
    """The case reached for something that it must not touch; no handler of the library sees it."""


class Hang(BaseException):
    """The case took longer than its limit."""


class Guard:
    """One for each process, as an audit hook cannot be removed.

    Attributes:
      root: everything of the run; the case may write in its own folder and nowhere else.
      secret: a folder in it that no case may even read.
    """

    def __init__(self, root: Path):
        """Makes the folders that stand for the rest of the machine, and sets the hook."""
        self.root, self.secret = root, root / "secret"
        self._temporary = os.path.realpath(root / "tmp")  # may be used, and must be left empty
        self._folder: str | None = None
        self._problems: list[str] = []
        for name in ("secret", "home", "tmp"):
            (root / name).mkdir(exist_ok=True)
        tempfile.gettempdir()  # which tries once whether it can be written
        sys.addaudithook(self._audit)

    @contextlib.contextmanager
    def case(self, folder: Path, limit: int):
        """Runs a case; yields a list that gets what it did wrong beside what it raised."""
        folder.mkdir()
        before = self._snapshot(folder)
        problems = self._problems = []
        self._folder = os.path.realpath(folder)
        signal.signal(signal.SIGALRM, self._alarm)
        signal.alarm(limit)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield problems
        finally:
            signal.alarm(0)
            self._folder = None
        problems += [
            f"warned: {warning.category.__name__}: {warning.message}"
            for warning in caught
            # of Python and Pillow, about the user's config and pictures
            if warning.category is not SyntaxWarning and "/PIL/" not in warning.filename
        ]
        if (after := self._snapshot(folder)) != before:
            problems.append(f"changed {sorted(map(str, set(before) ^ set(after)))[:3]}")
        for path, folders, _ in os.walk(folder):  # of folders that may not be entered
            for name in folders:
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o755)
        shutil.rmtree(folder)

    def _alarm(self, *_: object) -> None:
        raise Hang

    def _snapshot(self, folder: Path) -> list[tuple]:
        """Everything outside the case's folder; what C++ writes is not audited."""
        found = []
        for path, folders, files in os.walk(self.root):
            folders[:] = [n for n in folders if os.path.join(path, n) != str(folder)]
            for name in [*folders, *files]:
                if name.endswith("tfds"):  # TFDS forgets its empty folder for temporary files
                    continue
                status = os.lstat(os.path.join(path, name))
                size = 0 if name in folders else status.st_size
                time = 0 if name in folders else status.st_mtime_ns
                found.append((os.path.join(path, name), size, time))
        return sorted(found)

    def _audit(self, event: str, args: tuple) -> None:
        if self._folder is None:
            return
        paths: list = []
        if event == "open" and not isinstance(args[0], int):
            if args[2] & WRITES:
                paths = [args[0]]
            elif self._real(args[0]).startswith(str(self.secret)):
                self._refuse("read", args[0])
        elif event in CHANGES:
            fd = args[-1] if isinstance(args[-1], int) and args[-1] >= 0 else None
            for position in CHANGES[event]:
                path = args[position]
                if fd is not None and event in ("os.remove", "os.rmdir", "os.mkdir"):
                    path = os.path.join(os.readlink(f"/proc/self/fd/{fd}"), os.fsdecode(path))
                paths.append(path)
        elif event in FORBIDDEN:
            self._refuse(event, args)
        for path in paths:
            if isinstance(path, int) or os.fsdecode(path) == os.devnull:
                continue
            real = self._real(path)
            if real.startswith(self._temporary + os.sep):
                continue
            if real != self._folder and not real.startswith(self._folder + os.sep):
                self._refuse(event, path)

    @staticmethod
    def _real(path: object) -> str:
        """Links on the way to it followed; itself, a link is what is changed."""
        path = os.path.abspath(os.fsdecode(path))
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))

    def _refuse(self, event: str, what: object) -> None:
        self._problems.append(f"{event} {str(what)[:200]}")
        if threading.current_thread() is threading.main_thread():
            raise Outside(f"{event} {str(what)[:200]}")
        raise RuntimeError("outside")

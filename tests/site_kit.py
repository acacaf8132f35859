"""A PostgreSQL server that was set up as docs/postgres.md says, and controllers that serve as its service role.

Blocks of the page are run as they are written: `sh` in a shell, one line after the other, with the `text` below it as
what has to be said; `ini` as settings of the server. Only hosts and folders are other ones.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import grpc

from tests.acceptance.test_readme import ROOT, Shell, missing
from tests.pair_kit import ControllerProcess, PairFleet, ServedElsewhere
from tests.postgres_kit import PostgresServer
from tests.server_kit import HEARTBEAT_MS

PAGE: Final = ROOT / "docs" / "postgres.md"
DATABASE: Final = "quotafleet"
SERVICE: Final = "quotafleet"
OWNER: Final = "quotafleet_owner"
PASSWORD: Final = "hu#s h"
#: Who gets in how: the superuser as ever, everybody else by password.
_WHO = """
local all all trust
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host quotafleet all 127.0.0.1/32 scram-sha-256
"""


class Site:
    """One server, and a shell that goes on with the page."""

    def __init__(self, server: PostgresServer, folder: Path, shell: Shell) -> None:
        self.server = server
        self.folder = folder
        #: Where the server's own user writes.
        self.backup = server.folder / "backup"
        self.shell = shell
        #: Words of the page, and what stands for them here.
        self.words = {
            "/etc/quotafleet": str(folder),
            "/backup": str(self.backup),
            "db.example": f"127.0.0.1:{server.port}",
        }

    def prepare(self) -> None:
        """What the page takes for granted: folders, passwords in a file, and who may connect."""
        (self.backup / "wal").mkdir(parents=True)
        for made in (self.backup, self.backup / "wal"):
            made.chmod(0o777)
        self.server.give("pg_hba.conf", _WHO.encode())
        passwords = self.folder / "pgpass"
        passwords.touch(mode=0o600)
        passwords.write_text(f"*:*:{DATABASE}:*:{PASSWORD}\n")

    @property
    def url(self) -> str:
        """Of the database, for the service; its password is in a file."""
        return f"postgresql://{SERVICE}@127.0.0.1:{self.server.port}/{DATABASE}"

    def as_role(self, role: str) -> str:
        """Of the database, for this role, its password included."""
        return f"postgresql://{role}:{quote(PASSWORD)}@127.0.0.1:{self.server.port}/{DATABASE}"

    def blocks(self, title: str, kind: str) -> list[str]:
        """The blocks of one kind below a title, as they are here."""
        return [content for found, content in self._blocks(title) if found == kind]

    def settings(self, title: str) -> dict[str, str]:
        """What stands in the `ini` block below a title."""
        [block] = self.blocks(title, "ini")
        pairs = (line.split(" = ", 1) for line in block.splitlines())
        return {name: value.strip("'") for name, value in pairs}

    def play(self, title: str, *numbers: int) -> None:
        """Runs these `sh` blocks below a title, or all; each has to say what is promised below it."""
        said: list[str] | None = None
        number = -1
        for kind, content in self._blocks(title):
            if kind == "sh":
                number += 1
                said = self._run(content) if not numbers or number in numbers else None
            elif kind == "text" and said is not None:
                left = missing(content.splitlines(), said)
                assert not left, f"{left} was not said, but\n" + "\n".join(said)

    def _blocks(self, title: str) -> list[tuple[str, str]]:
        sections = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
        section = sections[sections.index(title) + 1]
        for written, here in self.words.items():
            section = section.replace(written, here)
        return re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    def _run(self, block: str) -> list[str]:
        said = []
        for command in block.replace("\\\n", " ").splitlines():
            typed = f"printf '%s\\n' '{PASSWORD}' '{PASSWORD}' | " if r"\password" in command else ""
            code, lines = self.shell.run(typed + command)
            assert code == 0, (command, lines)
            said += lines
        return said


@asynccontextmanager
async def open_site_fleet(
    site: Site, folder: Path, url: str = "", heartbeat_ms: int = HEARTBEAT_MS
) -> AsyncIterator[PairFleet]:
    """Two controllers that serve as the service role, each with a data directory that holds nothing but the key."""
    async with AsyncExitStack() as stack:
        processes, served = [], []
        for number in range(2):
            data_dir = folder / f"controller-{number}"
            data_dir.mkdir(mode=0o700)
            shutil.copy(site.folder / "master.key", data_dir)
            process = ControllerProcess(data_dir, url or site.url, heartbeat_ms)
            stack.push_async_callback(process.kill)
            await process.start()
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(process.address))
            processes.append(process)
            served.append(ServedElsewhere(process.address, channel))
        yield PairFleet(folder, site.server, DATABASE, processes, served, stack)

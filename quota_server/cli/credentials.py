"""Credential files: secret, whole or not there at all, and never lost once the controller has made one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from quota_server.cli import exits
from quota_server.cli.output import as_dict
from quotafleet.v1 import agent_admin_service_pb2 as pb

CredentialOption = Annotated[
    Path | None,
    typer.Option(
        "--credential-file",
        metavar="PATH",
        help="Where the credential goes (mode 0600); default NAME.credential.json in this folder.",
    ),
]
NextCredentialOption = Annotated[
    Path | None,
    typer.Option(
        "--credential-file",
        metavar="PATH",
        help="Where the credential goes (mode 0600); default NAME.epoch-N.credential.json in this folder. Keep the "
        "old one: with it the old store can still report.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", metavar="", help="Overwrite the credential file.")]


class CredentialFile:
    """A place for a credential that was tried before the controller is asked for one."""

    def __init__(self, path: Path, draft: Path, handle: int, *, force: bool, as_json: bool) -> None:
        self.path = path
        self._draft = draft
        self._handle = handle
        self._force = force
        self._as_json = as_json

    def write(self, credential: pb.AgentCredential) -> None:
        """Puts the credential there, durably."""
        text = json.dumps(as_dict(credential), indent=2) + "\n"
        with os.fdopen(os.dup(self._handle), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if self._force:
            self._draft.replace(self.path)
        else:
            try:
                os.link(self._draft, self.path)
            except FileExistsError:
                kept = self.path.with_name(self._draft.name.removeprefix("."))
                self._draft.replace(kept)
                exits.fail(
                    f"{self.path} came into being meanwhile",
                    f"the credential is in {kept}",
                    exits.REFUSED,
                    as_json=self._as_json,
                )
        _sync(self.path.parent)


@contextmanager
def credential_file(
    path: Path | None, agent: str, *, force: bool, as_json: bool, epoch: int = 1
) -> Iterator[CredentialFile]:
    """Refuses before anything is asked for if the file is there, or cannot be made."""
    path = path or Path(
        f"{agent}.credential.json" if epoch == 1 else f"{agent}.epoch-{epoch}.credential.json"
    )
    if path.exists() and not force:
        exits.fail(
            f"{path} exists already",
            "name another with --credential-file" + (", or overwrite it with --force" if epoch == 1 else ""),
            exits.BAD_USAGE,
            as_json=as_json,
        )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        exits.fail(
            f"cannot write {path}: {error.strerror}",
            "name another place with --credential-file",
            exits.BAD_USAGE,
            as_json=as_json,
        )
    try:
        yield CredentialFile(path, draft, handle, force=force, as_json=as_json)
    finally:
        os.close(handle)
        draft.unlink(missing_ok=True)


def without_token(credential: pb.AgentCredential) -> None:
    """Takes the secret out of an answer before it is printed: output ends in logs."""
    credential.token = ""


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

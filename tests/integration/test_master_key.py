"""The master key and its database belong together, and nobody else can read the key."""

import stat
from pathlib import Path

import pytest

from quota_server import app
from quota_server.config import ServerConfig
from quota_server.keys import KeyUnusable, MasterKey, TokenInvalid, load_or_create
from quota_server.ledger.model import AgentKey
from tests.server_kit import open_controller


async def test_a_data_directory_is_made_with_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    async with open_controller(tmp_path):
        pass
    folder = tmp_path / "controller"
    assert stat.S_IMODE((folder / "master.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first = (folder / "master.key").read_bytes()
    async with open_controller(tmp_path):
        assert (folder / "master.key").read_bytes() == first


async def test_a_database_without_its_key_is_not_served_and_no_new_key_is_made(tmp_path: Path) -> None:
    async with open_controller(tmp_path):
        pass
    key = tmp_path / "controller" / "master.key"
    right = key.read_bytes()
    key.unlink()
    with pytest.raises(KeyUnusable, match="is missing"):
        async with open_controller(tmp_path):
            pass
    assert not key.exists()
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    with pytest.raises(KeyUnusable, match="is not the key"):
        async with open_controller(tmp_path):
            pass
    key.write_bytes(right)
    async with open_controller(tmp_path):
        pass


@pytest.mark.parametrize("there", [True, False])
async def test_a_new_database_beside_a_key_that_was_there_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    """Who forgot to name the fleet's database would otherwise look at an empty fleet and wonder."""
    if there:
        load_or_create(tmp_path / "master.key")
    config = ServerConfig(data_dir=tmp_path, listen="127.0.0.1:0")
    async with app.open_controller(config):
        assert ("name it with --database" in caplog.text) is there
    caplog.clear()
    async with app.open_controller(config):
        assert "name it with --database" not in caplog.text


def test_a_key_of_another_length_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(bytes(31))
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match=f"{path}: a master key has 32 bytes, not 31"):
        load_or_create(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_or_create(path)


def test_a_token_is_for_one_enrolment_under_one_key() -> None:
    key = MasterKey(b"k" * 32)
    token = key.token(AgentKey("uid", 3))
    assert key.agent_of(token) == AgentKey("uid", 3)
    for wrong in (token.replace(".3.", ".4."), token[:-1] + "~", "", "qfa1.uid.3", "qfa1.uid.x.y"):
        with pytest.raises(TokenInvalid):
            key.agent_of(wrong)
    with pytest.raises(TokenInvalid):
        MasterKey(b"l" * 32).agent_of(token)

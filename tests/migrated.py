"""A controller's database that is migrated already: made once a process, copied for each test that has use for one."""

import functools
import shutil
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from quota_server.storage.migrating import migrate


def put_database(path: Path) -> None:
    """Put a migrated, empty database at `path`, unless there is a database already."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="migrated-"))
    try:
        engine = create_engine(f"sqlite:///{folder / 'empty.db'}")
        with engine.begin() as connection:
            migrate(connection)
        engine.dispose()
        return (folder / "empty.db").read_bytes()
    finally:
        shutil.rmtree(folder)

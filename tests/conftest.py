"""Settings of all tests."""

import os

# Before gRPC is imported: its handlers around fork() may break the child, and none of ours uses gRPC before exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Imported before any test runs: pytest's Hypothesis plugin would import it in the summary of a failed run, where
# CPython 3.11 may trip over the stack of a greenlet and lose the summary.
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import chosen

# Speed is measured elsewhere: an example may take as long as it takes on a machine that has much else to do.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs on either kind of database; see `tests.databases`."""
    with chosen(request.param):
        yield


@pytest.fixture
def postgres_database() -> Iterator[None]:
    """The test runs on PostgreSQL."""
    with chosen("postgresql"):
        yield

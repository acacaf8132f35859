"""Whose fault it is when the database does not do what it should, and whether the same may be tried again."""

import asyncpg
import pytest
from sqlalchemy import exc

from quota_server.errors import StoreConflict, StoreUnavailable
from quota_server.storage.connected import translated


class Said(Exception):
    """What a driver raises, with PostgreSQL's state."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("as the server says it")
        self.sqlstate = sqlstate


def wrapped(sqlstate: str | None, *, lost: bool = False) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", {}, Said(sqlstate), connection_invalidated=lost)


def raised(error: Exception) -> Exception:
    with pytest.raises(Exception) as caught, translated():  # noqa: PT011 - which one is the question
        raise error
    return caught.value


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "23505"])
def test_what_another_transaction_was_in_the_way_of_is_certain_and_may_be_tried_again(sqlstate: str) -> None:
    for lost in (False, True):
        conflict = raised(wrapped(sqlstate, lost=lost))
        assert isinstance(conflict, StoreConflict)
        assert conflict.certain


@pytest.mark.parametrize("sqlstate", [None, "57P01", "08006"])
def test_a_lost_connection_may_be_tried_again_and_is_not_certain(sqlstate: str | None) -> None:
    conflict = raised(wrapped(sqlstate, lost=True))
    assert isinstance(conflict, StoreConflict)
    assert not conflict.certain


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "55P03", "57014", "57P03", "58030", "25006", "XX001"])
def test_a_server_that_cannot_is_unavailable_and_not_tried_again_at_once(sqlstate: str) -> None:
    refusal = raised(wrapped(sqlstate))
    assert type(refusal) is StoreUnavailable
    assert refusal.reason == "STORE_UNAVAILABLE"
    assert not refusal.unclear


@pytest.mark.parametrize("sqlstate", ["42P01", "42501", "22P02", "23503", "0A000", "21000"])
def test_a_mistake_of_the_program_stays_what_it_is(sqlstate: str) -> None:
    assert isinstance(raised(wrapped(sqlstate)), exc.DBAPIError)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.TargetServerAttributeNotMatched("no host is primary"),
        asyncpg.CannotConnectNowError("it starts up"),
        asyncpg.InterfaceError("the connection is closed"),
    ],
)
def test_what_fails_while_a_connection_is_made_is_unavailable(error: Exception) -> None:
    assert type(raised(error)) is StoreUnavailable

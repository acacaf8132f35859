"""An envelope that is kept to be judged again comes out as it went in."""

from hypothesis import given
from hypothesis import strategies as st

from quota_server.tariff.judging import PIECE_BYTES
from quota_server.tariff.spool import Spool


@given(st.lists(st.tuples(st.binary(max_size=100), st.integers(1, 2_000))))
def test_what_went_in_comes_out_in_pieces_any_number_of_times(parts: list[tuple[bytes, int]]) -> None:
    spool = Spool()
    for content, times in parts:
        spool.add(content * times)
    spool.close()
    whole = b"".join(content * times for content, times in parts)
    for _ in range(2):
        pieces = list(spool.pieces())
        assert b"".join(pieces) == whole
        assert all(len(piece) <= PIECE_BYTES for piece in pieces[:-1])

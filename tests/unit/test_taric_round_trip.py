"""Whatever well-formed records are written comes back as it was, in as far as TARIC3 carries it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from immutables import Map

from rules import records as r
from rules.dataset import Dataset
from rules.forms import EVENTS
from rules.malformed import malformed
from rules.periods import Period
from rules.records import Change, Record, UpdateType
from rules.taric import lexical as lex
from rules.taric import read_envelope, to_changes, to_taric_transaction, write_envelope
from rules.taric.body import KEPT, Body
from rules.taric.elements import BODIES
from rules.taric.lexical import Lexical
from rules.taric.resolving import DERIVED_SIDS
from tests.unit.test_taric_reader import GOOD

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS: Final = "0123456789"

sids: Final = st.integers(1, 99_999_999)
days: Final = st.dates(date(1900, 1, 1), date(2199, 12, 31))
#: All that may stand in XML.
texts: Final = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff").filter(
        lambda char: char >= " " or char in "\t\n\r"
    ),
    max_size=60,
)
amounts: Final = st.decimals(-(10**11), Decimal("99999999999.999"), places=3)
volumes: Final = st.decimals(0, Decimal("99999999999.999"), places=3)


def word(alphabet: str, *lengths: int) -> st.SearchStrategy[str]:
    return st.sampled_from(lengths).flatmap(
        lambda length: st.text(alphabet, min_size=length, max_size=length)
    )


@st.composite
def periods(draw: st.DrawFn, closed: bool = False) -> Period:
    start = draw(days)
    end = draw(
        st.dates(start, date(2199, 12, 31)) if closed else st.none() | st.dates(start, date(2199, 12, 31))
    )
    return Period(start, end)


units: Final = word(LETTERS, 3)
#: What may stand in an element that is kept by its name.
KEPT_TEXTS: Final[dict[Lexical, st.SearchStrategy[str]]] = {
    lex.SID: sids.map(str),
    lex.DATE: days.map(date.isoformat),
    lex.AMOUNT: amounts.map(lex.AMOUNT.write),
    lex.FLAG: st.sampled_from("YN"),
}


@st.composite
def kept(draw: st.DrawFn, body: Body, *without: str) -> Map[str, str]:
    """The elements of a body that are kept: the mandatory ones and some of the others."""
    slots = [slot for slot in body.slots if slot.field == KEPT and slot.element not in without]
    return Map(
        {
            slot.element: draw(KEPT_TEXTS.get(slot.lexical, st.just(GOOD[slot.lexical])))
            for slot in slots
            if not slot.optional or draw(st.booleans())
        }
    )


@st.composite
def definitions(draw: st.DrawFn) -> r.QuotaDefinition:
    money = draw(st.booleans())
    return r.QuotaDefinition(
        draw(sids),
        NUMBER.sid,
        draw(volumes),
        draw(volumes),
        draw(units) if money else None,
        None if money else draw(units),
        None if money else draw(st.none() | word(LETTERS, 1)),
        draw(st.integers(0, 3)),
        draw(st.booleans()),
        draw(st.integers(0, 100)),
        draw(texts),
        draw(periods()),
    )


@st.composite
def events(draw: st.DrawFn) -> r.QuotaEvent:
    code = draw(st.sampled_from(sorted(EVENTS)))
    body = BODIES[f"375 {code}"]
    if body.older is not None and draw(st.booleans()):
        body = body.older
    at = draw(
        st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(microsecond=0))
    )
    return r.QuotaEvent(code, draw(sids), at, draw(kept(body)))


@st.composite
def measures(draw: st.DrawFn) -> r.Measure:
    own = draw(kept(BODIES["430 00"])).set("geographical.area", AREA.area_id)
    numbered = draw(st.booleans())
    return r.Measure(
        draw(sids),
        NUMBER.sid if numbered else None,
        AREA.sid,
        draw(periods()),
        None,
        NUMBER.order_number if numbered else None,
        own,
    )


@st.composite
def certificates(draw: st.DrawFn) -> r.Certificate:
    kind, code = draw(word(LETTERS + DIGITS, 1)), draw(word(LETTERS + DIGITS, 3))
    return r.Certificate(DERIVED_SIDS + int(kind + code, 36), kind, code, draw(periods()))


#: What the records refer to; it is stored.
AREA: Final = r.GeographicalArea(11, "CL", 0, Period(date(1900, 1, 1)))
NUMBER: Final = r.QuotaOrderNumber(12, "054012", 1, 1, Period(date(1900, 1, 1)))
DATA: Final = Dataset.of([AREA, NUMBER])


def coded(kind: Callable[[str, Period], Record], code: st.SearchStrategy[str]) -> st.SearchStrategy[Record]:
    return st.builds(kind, code, periods())


records: Final[st.SearchStrategy[Record]] = st.one_of(
    st.builds(
        r.GeographicalArea,
        sids,
        word(LETTERS + DIGITS, 2, 4),
        st.integers(0, 2),
        periods(),
        kept(BODIES["250 00"]),
    ),
    st.builds(r.GeographicalMembership, sids, sids, periods()),
    certificates(),
    coded(r.MeasurementUnit, units),
    coded(r.MeasurementUnitQualifier, word(LETTERS, 1)),
    coded(r.MonetaryUnit, units),
    measures(),
    st.builds(r.QuotaOrderNumber, sids, word(DIGITS, 6), st.just(0), st.just(1), periods()).map(
        lambda number: replace(number, mechanism=int(number.order_number[2] == "4"))
    ),
    st.builds(r.QuotaOrderNumberOrigin, sids, sids, st.just(AREA.sid), periods()),
    st.builds(r.QuotaOrderNumberOriginExclusion, sids, sids),
    definitions(),
    st.builds(
        r.QuotaAssociation,
        sids,
        sids,
        st.sampled_from(["EQ", "NM"]),
        st.decimals(0, Decimal("99999999999.99999"), places=5),
    ),
    st.builds(r.QuotaSuspension, sids, sids, texts, periods(closed=True)),
    st.builds(r.QuotaBlocking, sids, sids, st.integers(1, 8), texts, periods(closed=True)),
    events(),
)


@settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(Change, st.sampled_from(UpdateType), records), min_size=1, max_size=6))
def test_what_is_written_comes_back(changes: list[Change]) -> None:
    """Every kind, every update type, with whatever texts and numbers the schema allows."""
    # What is stored stays what the records refer to.
    changes = [each for each in changes if each.record.key not in (AREA.sid, NUMBER.sid)]
    others = [
        each for each in changes if not isinstance(each.record, r.QuotaOrderNumber | r.GeographicalArea)
    ]
    for batch in [others, *([each] for each in changes if each not in others)]:
        if batch:
            assert malformed(batch) == ()
            (found,) = read_envelope(write_envelope("260001", [to_taric_transaction(batch, DATA)]))
            back = to_changes(found, DATA)
            assert back.problems == ()
            assert list(back.changes) == batch


@settings(deadline=None, print_blob=True)
@given(texts)
def test_every_text_that_xml_can_hold_survives(text: str) -> None:
    """Line ends, spaces at both ends, and signs beyond the basic plane too."""
    suspension = r.QuotaSuspension(1, 2, text, Period(date(2020, 1, 1), date(2020, 1, 2)))
    chunks = write_envelope("260001", [to_taric_transaction([Change(UpdateType.CREATE, suspension)], DATA)])
    (found,) = read_envelope(chunks)
    assert to_changes(found, DATA).changes[0].record == suspension

"""What a change makes be asked: of the changed record itself, of records linked to it, and of nothing else."""

import pytest

from rules.records import KIND_OF, Change, Record, RecordRef
from tests.rules_kit import (
    WORLD,
    area,
    asked,
    association,
    certificate,
    create,
    definition,
    delete,
    exclusion,
    judge,
    membership,
    money,
    order_number,
    origin,
    qualifier,
    ref,
    the,
    unit,
    update,
)

Asked = set[tuple[str, RecordRef]]
OF_ALL = {"UniqueIdentifyingFields", "UpdateValidity"}
#: By kind: the rules asked of one that is live after the transaction, of an updated, of a deleted one.
OWN: dict[str, tuple[str, str, str]] = {
    "geographical_area": ("", "", ""),
    "geographical_membership": ("ReferenceMustExist", "", ""),
    "certificate": ("", "", ""),
    "measurement_unit": ("", "", ""),
    "measurement_unit_qualifier": ("", "", ""),
    "monetary_unit": ("", "", ""),
    "measure": ("ReferenceMustExist ME116 ME119", "", ""),
    "quota_order_number": (
        "ON1 ON2 ON4 ON9 CertificatesMustExist CertificateValidityPeriodMustSpanQuotaOrderNumber",
        "",
        "ON11",
    ),
    "quota_order_number_origin": ("ReferenceMustExist ON5 ON6 ON7 ON10", "", "ON10 ON12"),
    "quota_order_number_origin_exclusion": ("ReferenceMustExist ON13 ON14", "", ""),
    "quota_definition": (
        "QD1 QD3 QD4 QD5 QD6 ON8 QD7 QD8 QD10 QD11 OverlappingQuotaDefinition VolumeAndInitialVolumeMustMatch",
        "QD12 QD13 QD15",
        "PreventQuotaDefinitionDeletion PreventDeletingLinkedQuotaDefinitions "
        "QuotaAssociationMustReferToANonDeletedSubQuota QuotaSuspensionMustReferToANonDeletedQuotaDefinition "
        "QuotaBlockingPeriodMustReferToANonDeletedQuotaDefinition",
    ),
    "quota_association": ("ReferenceMustExist QA1 QA2 QA3 QA4 QA5 QA6 SameMainAndSubQuota", "", "QA1"),
    "quota_suspension": ("QSP1 QSP2 SuspensionsOnlyToFCFSQuotas", "", ""),
    "quota_blocking": ("QBP1 QBP2 QBP3 BlockingOnlyOfFCFSQuotas", "", ""),
    "quota_event": ("ReferenceMustExist", "", ""),
}


def codes_about(record: Record, found: Asked) -> set[str]:
    return {code for code, about in found if about == ref(record)} - OF_ALL


@pytest.mark.parametrize("kind", OWN)
def test_of_a_changed_record_every_rule_about_its_kind_is_asked(kind: str) -> None:
    record = next(each for each in WORLD if each.kind == kind)
    rest = [each for each in WORLD if each is not record]
    live, updated, deleted = (set(codes.split()) for codes in OWN[kind])
    assert codes_about(record, asked(rest, create(record))) == live
    assert codes_about(record, asked(WORLD, update(record))) == live | updated
    assert codes_about(record, asked(WORLD, delete(record))) == deleted
    dead = {"QA1"} & live
    assert codes_about(record, asked(rest, delete(record))) == dead
    assert {(code, ref(record)) for code in OF_ALL} <= asked(rest, delete(record))


def test_every_kind_has_rules_asked_of_it() -> None:
    assert OWN.keys() == KIND_OF.keys()


# --- linked records --------------------------------------------------------------------------------------------------

ORDER_NUMBER, ORIGIN = ref(order_number(1)), ref(origin(21))
EXCLUSION, MEMBER = ref(exclusion(21, 13)), ref(membership(12, 13))
MEASURE, DEFINITION, IN_EUR = RecordRef("measure", 31), ref(definition(51)), ref(definition(53))
LINK, EVENT = ref(association(51, 52)), ref(WORLD[-1])
STOP, BLOCK = RecordRef("quota_suspension", 61), RecordRef("quota_blocking", 71)
REFER, MATCH = "ReferenceMustExist", "VolumeAndInitialVolumeMustMatch"
QUOTA_RULES = {("QA2", LINK), ("QA3", LINK), ("QA5", LINK)}
FIRST_COME = {("BlockingOnlyOfFCFSQuotas", BLOCK), ("SuspensionsOnlyToFCFSQuotas", STOP)}
OF_CERTIFICATE = {
    ("CertificatesMustExist", ORDER_NUMBER),
    ("CertificateValidityPeriodMustSpanQuotaOrderNumber", ORDER_NUMBER),
}
#: By changed record: what is asked of others after any change, and what besides after its deletion.
LINKED: list[tuple[RecordRef, Asked, Asked]] = [
    (
        ref(area(12)),
        {("ON4", ORDER_NUMBER), ("ON6", ORIGIN), ("ON13", EXCLUSION)},
        {(REFER, MEMBER), (REFER, ORIGIN), (REFER, MEASURE)},
    ),
    (ref(area(13)), set(), {(REFER, MEMBER), (REFER, EXCLUSION)}),
    (MEMBER, {("ON14", EXCLUSION)}, set()),
    (ref(certificate(41)), OF_CERTIFICATE, set()),
    (
        ref(unit()),
        {("QD10", DEFINITION), ("QD10", ref(definition(52)))},
        {("QD5", DEFINITION), ("QD5", ref(definition(52)))},
    ),
    (ref(qualifier()), {("QD11", DEFINITION)}, {("QD6", DEFINITION)}),
    (ref(money()), {("QD8", IN_EUR)}, {("QD4", IN_EUR)}),
    (
        ORDER_NUMBER,
        {("ON7", ORIGIN), ("ON8", DEFINITION), ("QD7", DEFINITION), *FIRST_COME},
        {(REFER, ORIGIN), (REFER, MEASURE), ("QD3", DEFINITION)},
    ),
    (ORIGIN, {("ON4", ORDER_NUMBER), ("ON13", EXCLUSION), ("ON14", EXCLUSION)}, {(REFER, EXCLUSION)}),
    (EXCLUSION, set(), set()),
    (MEASURE, set(), set()),
    (
        DEFINITION,
        {*QUOTA_RULES, *FIRST_COME, ("QBP2", BLOCK), ("QSP2", STOP)},
        {(REFER, LINK), (REFER, EVENT), ("QBP1", BLOCK), ("QSP1", STOP)},
    ),
    (ref(definition(52)), QUOTA_RULES, {(REFER, LINK)}),
    (LINK, {(MATCH, DEFINITION)}, set()),
    (STOP, set(), set()),
    (BLOCK, set(), set()),
    (EVENT, set(), set()),
]


@pytest.mark.parametrize(
    ("changed", "linked", "more"), LINKED, ids=[str(changed) for changed, _, _ in LINKED]
)
def test_a_change_makes_rules_be_asked_of_what_is_linked_to_it_and_of_nothing_else(
    changed: RecordRef, linked: Asked, more: Asked
) -> None:
    (record,) = (each for each in WORLD if ref(each) == changed)
    rest = [each for each in WORLD if each is not record]

    def of_others(found: Asked) -> Asked:
        return {(code, about) for code, about in found if about != changed}

    assert of_others(asked(WORLD, update(record))) == linked
    assert of_others(asked(rest, create(record))) == linked
    assert of_others(asked(WORLD, delete(record))) == linked | more
    assert of_others(asked(WORLD, delete(record), create(record))) == linked


def test_every_kind_is_among_the_changed() -> None:
    assert {changed.kind for changed, _, _ in LINKED} == KIND_OF.keys()


def test_no_rule_is_asked_of_a_deleted_record_that_is_linked() -> None:
    dead = [delete(each) for each in WORLD if ref(each) in (LINK, STOP, BLOCK, EVENT)]
    base: list[Record | Change] = [*WORLD, *dead]
    changed = definition(51, measurement_unit_qualifier="E")
    assert {about for _, about in asked(base, update(changed))} == {DEFINITION}


# --- before and after, and never in between --------------------------------------------------------------------------


def test_what_was_linked_before_only_is_asked() -> None:
    found = asked(WORLD, update(origin(21, of=2, area=12)))
    assert {("ON4", ORDER_NUMBER), ("ON4", ref(order_number(2)))} <= found


def test_what_was_linked_between_two_changes_only_is_not_asked() -> None:
    between = [update(origin(21, of=2, area=12)), update(origin(21, of=1, area=12))]
    assert ("ON4", ref(order_number(2))) not in asked(WORLD, *between)


def test_an_association_that_was_never_live_leads_to_no_definition() -> None:
    pair = association(53, 52)
    assert (MATCH, IN_EUR) in asked(WORLD, create(pair))
    assert (MATCH, IN_EUR) not in asked(WORLD, create(pair), delete(pair))


def test_deletion_of_a_referent_that_comes_back_is_none() -> None:
    again = [delete(area(13)), create(area(13))]
    assert (REFER, MEMBER) not in asked(WORLD, *again)


@pytest.mark.parametrize("moves", [0, 1])
def test_a_link_that_ends_in_the_transaction_is_among_the_triggers(moves: int) -> None:
    """The area leads to the order number through the origin as it was."""
    changes = [update(area(11)), update(origin(22, of=1, area=11))]
    changes = changes[moves:] + changes[:moves]
    found = the("ON4", judge(WORLD, *changes))
    assert found.record == ref(order_number(2))
    assert found.triggered_by == (0, 1)


# --- triggered_by ----------------------------------------------------------------------------------------------------


def test_the_triggers_are_the_changes_of_the_record_and_of_what_it_is_linked_to() -> None:
    changes = [
        update(membership(12, 13)),
        update(definition(51, end="2022-12-31", measurement_unit_qualifier="E")),
        update(money()),
        update(order_number(1, end="2021-12-31", certificates=(41,))),
    ]
    verdict = judge(WORLD, *changes)
    assert the("QD7", verdict).triggered_by == (1, 3)
    assert the("ON7", verdict).triggered_by == (3,)


def test_a_link_counts_for_the_rules_that_it_is_for_only() -> None:
    """A unit leads to QD10 of the definition, not to QD7."""
    changes = [
        update(unit(end="2022-06-30")),
        update(definition(51, end="2022-12-31", measurement_unit_qualifier="E")),
        update(order_number(1, end="2021-12-31", certificates=(41,))),
    ]
    verdict = judge(WORLD, *changes)
    assert the("QD10", verdict).triggered_by == (0, 1)
    assert the("QD7", verdict).triggered_by == (1, 2)


def test_two_changes_of_a_linked_record_are_both_triggers() -> None:
    changes = [update(area(11)), delete(membership(12, 13)), delete(membership(12, 13))]
    assert the("ON14", judge(WORLD, *changes)).triggered_by == (1, 2)


def test_the_triggers_are_in_the_order_of_the_changes() -> None:
    others = [create(area(sid)) for sid in range(101, 107)]
    longer = update(definition(51, end="2022-12-31", measurement_unit_qualifier="E"))
    shorter = update(order_number(1, end="2021-12-31", certificates=(41,)))
    assert the("QD7", judge(WORLD, create(area(100)), shorter, *others, longer)).triggered_by == (1, 8)
    assert the("QD7", judge(WORLD, create(area(100)), longer, *others, shorter)).triggered_by == (1, 8)


# --- the order of violations -----------------------------------------------------------------------------------------


def test_violations_are_in_the_order_of_first_trigger_then_code_then_key() -> None:
    changes = [
        create(order_number(9, "050009")),
        delete(membership(12, 13)),
        update(definition(52, of=2, end="2021-06-30", volume="7")),
        create(order_number(3, "050009")),
    ]
    assert [
        (each.triggered_by, each.rule, each.record.key) for each in judge(WORLD, *changes).violations
    ] == [
        ((0,), "ON1", 9),
        ((0,), "ON2", 9),
        ((0,), "ON4", 9),
        ((1,), "ON14", (21, 13)),
        ((2,), "OverlappingQuotaDefinition", 52),
        ((2,), "QA2", (51, 52)),
        ((3,), "ON1", 3),
        ((3,), "ON2", 3),
        ((3,), "ON4", 3),
    ]


def test_keys_are_in_the_order_of_numbers_not_of_text() -> None:
    base = [definition(sid, of=sid) for sid in (100, 16, 9)]
    verdict = judge(base, update(unit("KGM", end="2020-06-30")))
    assert [each.record.key for each in verdict.violations if each.rule == "QD10"] == [9, 16, 100]

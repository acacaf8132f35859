"""Rules about associations of a sub-quota with its main quota."""

from __future__ import annotations

from decimal import Decimal

from rules.catalogue import on, rule
from rules.proposals import check_qa2, check_qa3, check_qa5, check_qa6
from rules.records import Key, QuotaAssociation, QuotaDefinition, RecordRef
from rules.references import ASSOCIATION_MAIN, ASSOCIATION_SUB
from rules.state import Finding, State, refs

_EITHER_DEFINITION = (on(ASSOCIATION_MAIN), on(ASSOCIATION_SUB))


@rule(QuotaAssociation, triggers=_EITHER_DEFINITION)
def QA2(state: State, association: QuotaAssociation) -> Finding | None:
    """The sub-quota's validity period must be entirely enclosed within the validity period of the main quota."""
    definitions = _main_and_sub(state, association)
    if definitions is None:
        return None
    main, sub = definitions
    return _found(check_qa2(main.valid_between, sub.valid_between), definitions)


@rule(QuotaAssociation, triggers=_EITHER_DEFINITION)
def QA3(state: State, association: QuotaAssociation) -> Finding | None:
    """When converted to the measurement unit of the main quota, the volume of a sub-quota must always be lower than or
    equal to the volume of the main quota.
    """
    definitions = _main_and_sub(state, association)
    if definitions is None:
        return None
    main, sub = definitions
    wrong = check_qa3(
        main_measurement_unit=main.measurement_unit,
        sub_measurement_unit=sub.measurement_unit,
        main_monetary_unit=main.monetary_unit,
        sub_monetary_unit=sub.monetary_unit,
        main_volume=main.volume,
        sub_volume=sub.volume,
        main_initial_volume=main.initial_volume,
        sub_initial_volume=sub.initial_volume,
    )
    return _found(wrong, definitions)


@rule(QuotaAssociation)
def QA4(state: State, association: QuotaAssociation) -> Finding | None:
    """Whenever a sub-quota receives a coefficient, this has to be a strictly positive decimal number. When it is not
    specified a value 1 is always assumed.
    """
    if association.coefficient > 0:
        return None
    return Finding(f"The coefficient is {association.coefficient}.")


@rule(QuotaAssociation, triggers=_EITHER_DEFINITION)
def QA5(state: State, association: QuotaAssociation) -> Finding | None:
    """Whenever a sub-quota is defined with the 'equivalent' type, it must have the same volume as the ones associated
    with the parent quota. Moreover it must be defined with a coefficient not equal to 1. A sub-quota defined with the
    'normal' type must have a coefficient of 1.
    """
    volumes = state.once(_volumes_of_subs, association.main_quota_sid)
    wrong = check_qa5(association.sub_quota_relation_type, association.coefficient, volumes)
    return None if wrong is None else Finding(wrong, (_main(association),))


@rule(QuotaAssociation)
def QA6(state: State, association: QuotaAssociation) -> Finding | None:
    """Sub-quotas associated with the same main quota must have the same relation type."""
    wrong = check_qa6(state.once(_relation_types, association.main_quota_sid))
    if wrong is None:
        return None
    siblings = state.bucket(ASSOCIATION_MAIN, association.main_quota_sid)
    return Finding.naming(wrong, [each for key, each in siblings.items() if key != association.key])


@rule(QuotaAssociation, only_uk=True)
def SameMainAndSubQuota(state: State, association: QuotaAssociation) -> Finding | None:
    """A quota association may only exist between two distinct quota definitions."""
    if association.main_quota_sid != association.sub_quota_sid:
        return None
    return Finding("The main quota is its own sub-quota.", (_main(association),))


def _main_and_sub(
    state: State, association: QuotaAssociation
) -> tuple[QuotaDefinition, QuotaDefinition] | None:
    main = state.live(QuotaDefinition, association.main_quota_sid)
    sub = state.live(QuotaDefinition, association.sub_quota_sid)
    return None if main is None or sub is None else (main, sub)


def _volumes_of_subs(state: State, main_quota_sid: Key) -> set[Decimal]:
    siblings = state.bucket(ASSOCIATION_MAIN, main_quota_sid).values()
    subs = (state.live(QuotaDefinition, each.sub_quota_sid) for each in siblings)
    return {sub.volume for sub in subs if sub is not None}


def _relation_types(state: State, main_quota_sid: Key) -> set[str]:
    siblings = state.bucket(ASSOCIATION_MAIN, main_quota_sid).values()
    return {each.sub_quota_relation_type for each in siblings}


def _main(association: QuotaAssociation) -> RecordRef:
    return RecordRef(QuotaDefinition.kind, association.main_quota_sid)


def _found(wrong: str | None, definitions: tuple[QuotaDefinition, QuotaDefinition]) -> Finding | None:
    return None if wrong is None else Finding(wrong, refs(definitions))

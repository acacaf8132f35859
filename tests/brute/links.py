"""Which records a change of another record can break: asked of a state, a record of it, and the other's key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rules.records import (
    Certificate,
    GeographicalArea,
    GeographicalMembership,
    Key,
    MeasurementUnit,
    MeasurementUnitQualifier,
    MonetaryUnit,
    QuotaAssociation,
    QuotaDefinition,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    Record,
)
from tests.brute.world import State, every, find

Link = Callable[[State, Any, Key], bool]
#: By the kind of the record that was changed.
Links = dict[type[Record], Link]


def refers(field: str) -> Link:
    """The record's field holds the other's key."""
    return lambda state, record, key: bool(getattr(record, field) == key)


def is_main_or_sub(state: State, association: QuotaAssociation, sid: Key) -> bool:
    return sid in (association.main_quota_sid, association.sub_quota_sid)


def has_origin(state: State, number: QuotaOrderNumber, origin_sid: Key) -> bool:
    origin = find(state, QuotaOrderNumberOrigin, origin_sid)
    return origin is not None and origin.order_number_sid == number.sid


def has_origin_in(state: State, number: QuotaOrderNumber, area_sid: Key) -> bool:
    return any(
        each.order_number_sid == number.sid and each.geographical_area_sid == area_sid
        for each in every(state, QuotaOrderNumberOrigin)
    )


def requires(state: State, number: QuotaOrderNumber, certificate_sid: Key) -> bool:
    return certificate_sid in number.required_certificate_sids


def excludes_from(state: State, exclusion: QuotaOrderNumberOriginExclusion, area_sid: Key) -> bool:
    origin = find(state, QuotaOrderNumberOrigin, exclusion.origin_sid)
    return origin is not None and origin.geographical_area_sid == area_sid


def excludes_member(state: State, exclusion: QuotaOrderNumberOriginExclusion, membership_key: Key) -> bool:
    """The exclusion asks for the membership of that key, whether or not there is one."""
    assert isinstance(membership_key, tuple)
    group, member = membership_key
    is_excluded = member == exclusion.excluded_geographical_area_sid
    return is_excluded and isinstance(group, int) and excludes_from(state, exclusion, group)


def draws_on(state: State, record: Any, order_number_sid: Key) -> bool:
    """A suspension or blocking period of one of the order number's definitions."""
    definition = find(state, QuotaDefinition, record.quota_definition_sid)
    return definition is not None and definition.order_number_sid == order_number_sid


def is_main(state: State, definition: QuotaDefinition, association_key: Key) -> bool:
    association = find(state, QuotaAssociation, association_key)
    return association is not None and association.main_quota_sid == definition.sid


BY_ORDER_NUMBER: Links = {QuotaOrderNumber: refers("order_number_sid")}
BY_AREA: Links = {GeographicalArea: refers("geographical_area_sid")}
BY_ORIGIN_AND_AREA: Links = {QuotaOrderNumberOrigin: has_origin, GeographicalArea: has_origin_in}
BY_CERTIFICATE: Links = {Certificate: requires}
BY_EXCLUDED_ORIGIN: Links = {QuotaOrderNumberOrigin: refers("origin_sid")}
BY_ORIGINS_AREA: Links = {**BY_EXCLUDED_ORIGIN, GeographicalArea: excludes_from}
BY_MEMBERSHIP: Links = {**BY_EXCLUDED_ORIGIN, GeographicalMembership: excludes_member}
BY_MONETARY_UNIT: Links = {MonetaryUnit: refers("monetary_unit")}
BY_UNIT: Links = {MeasurementUnit: refers("measurement_unit")}
BY_QUALIFIER: Links = {MeasurementUnitQualifier: refers("measurement_unit_qualifier")}
BY_MAIN: Links = {QuotaAssociation: is_main}
BY_MAIN_AND_SUB: Links = {QuotaDefinition: is_main_or_sub}
BY_DEFINITION: Links = {QuotaDefinition: refers("quota_definition_sid")}
BY_DEFINITION_AND_NUMBER: Links = {**BY_DEFINITION, QuotaOrderNumber: draws_on}

"""Which records refer to which, and by what records are found. Each of these is an index of the data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rules.records import (
    Certificate,
    GeographicalArea,
    GeographicalMembership,
    Key,
    Measure,
    MeasurementUnit,
    MeasurementUnitQualifier,
    MonetaryUnit,
    QuotaAssociation,
    QuotaBlocking,
    QuotaDefinition,
    QuotaEvent,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    QuotaSuspension,
    Record,
)


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """The live records of kind `of` by each of `values(record)`."""

    of: type[Record]
    values: Callable[[Any], tuple[Any, ...]]


@dataclass(frozen=True, eq=False, slots=True)
class Reference(Index):
    """Records of kind `of` refer to records of kind `to`; what holds the referents' keys is `field`."""

    field: str
    to: type[Record]

    @classmethod
    def one(cls, of: type[Record], field: str, to: type[Record]) -> Reference:
        """A field that holds a key, or None."""
        # Compiled, for an index reads it of every record: `attrgetter` would need a second call to make the tuple.
        values: Callable[[Any], tuple[Key, ...]] = eval(
            f"lambda record: () if record.{field} is None else (record.{field},)"
        )
        return cls(of, values, field, to)

    @classmethod
    def many(cls, of: type[Record], field: str, to: type[Record]) -> Reference:
        """A field that holds a tuple of keys."""
        values: Callable[[Any], tuple[Key, ...]] = eval(f"lambda record: record.{field}")
        return cls(of, values, field, to)


MEMBERSHIP_GROUP: Final = Reference.one(GeographicalMembership, "group_sid", GeographicalArea)
MEMBERSHIP_MEMBER: Final = Reference.one(GeographicalMembership, "member_sid", GeographicalArea)
MEASURE_ORDER_NUMBER: Final = Reference.one(Measure, "order_number_sid", QuotaOrderNumber)
MEASURE_AREA: Final = Reference.one(Measure, "geographical_area_sid", GeographicalArea)
ORDER_NUMBER_CERTIFICATES: Final = Reference.many(QuotaOrderNumber, "required_certificate_sids", Certificate)
ORIGIN_ORDER_NUMBER: Final = Reference.one(QuotaOrderNumberOrigin, "order_number_sid", QuotaOrderNumber)
ORIGIN_AREA: Final = Reference.one(QuotaOrderNumberOrigin, "geographical_area_sid", GeographicalArea)
EXCLUSION_ORIGIN: Final = Reference.one(QuotaOrderNumberOriginExclusion, "origin_sid", QuotaOrderNumberOrigin)
EXCLUSION_AREA: Final = Reference.one(
    QuotaOrderNumberOriginExclusion, "excluded_geographical_area_sid", GeographicalArea
)
DEFINITION_ORDER_NUMBER: Final = Reference.one(QuotaDefinition, "order_number_sid", QuotaOrderNumber)
DEFINITION_MONETARY_UNIT: Final = Reference.one(QuotaDefinition, "monetary_unit", MonetaryUnit)
DEFINITION_UNIT: Final = Reference.one(QuotaDefinition, "measurement_unit", MeasurementUnit)
DEFINITION_QUALIFIER: Final = Reference.one(
    QuotaDefinition, "measurement_unit_qualifier", MeasurementUnitQualifier
)
ASSOCIATION_MAIN: Final = Reference.one(QuotaAssociation, "main_quota_sid", QuotaDefinition)
ASSOCIATION_SUB: Final = Reference.one(QuotaAssociation, "sub_quota_sid", QuotaDefinition)
SUSPENSION_DEFINITION: Final = Reference.one(QuotaSuspension, "quota_definition_sid", QuotaDefinition)
BLOCKING_DEFINITION: Final = Reference.one(QuotaBlocking, "quota_definition_sid", QuotaDefinition)
EVENT_DEFINITION: Final = Reference.one(QuotaEvent, "quota_definition_sid", QuotaDefinition)

ORDER_NUMBERS: Final = Index(QuotaOrderNumber, lambda record: (record.order_number,))
AREAS: Final = Index(GeographicalArea, lambda record: (record.area_id,))
CERTIFICATES: Final = Index(Certificate, lambda record: ((record.certificate_type, record.certificate_code),))

INDEXES: Final[tuple[Index, ...]] = tuple(
    each for each in list(globals().values()) if isinstance(each, Index)
)

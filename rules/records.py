"""The records of tariff quota data, as frozen values.

A record is identified by its kind and key. References hold the key of another record and always mean its current
version. Fields hold what their type says or, in a record from outside, whatever stood there: `rules.malformed` tells.
Field names are those of the cases' JSON form; TARIC3's names are in `rules.taric.elements`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import ClassVar, Final

from immutables import Map

from rules.periods import Period

#: One field's value where one field is the key, else a tuple of all.
Key = int | str | tuple[int | str | datetime, ...]

NO_ELEMENTS: Final[Map[str, str]] = Map()


class Mechanism(IntEnum):
    """How a quota is administered."""

    FIRST_COME_FIRST_SERVED = 0
    LICENSED = 1


class AreaCode(IntEnum):
    """What a geographical area is."""

    COUNTRY = 0
    GROUP = 1
    REGION = 2


class RelationType(StrEnum):
    """How a sub-quota draws on its main quota."""

    EQUIVALENT = "EQ"
    NORMAL = "NM"


class UpdateType(Enum):
    """What a change does to its record; TARIC3 numbers them 3, 1 and 2."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class Record(ABC):
    """What all kinds have in common."""

    __slots__ = ()

    #: The name of the kind in every outer form.
    kind: ClassVar[str]
    #: The fields that identify a record among its kind.
    key_fields: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def key(self) -> Key:
        """Identifies it among the records of its kind."""


class _BySid(Record):
    __slots__ = ()
    key_fields = ("sid",)
    sid: int

    @property
    def key(self) -> int:
        return self.sid


class _ByCode(Record):
    __slots__ = ()
    key_fields = ("code",)
    code: str

    @property
    def key(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class GeographicalArea(_BySid):
    """A country, a region, or a group of either."""

    kind = "geographical_area"
    sid: int
    area_id: str
    area_code: int
    valid_between: Period
    #: What TARIC3 says besides, by element; no rule asks for it.
    elements: Map[str, str] = NO_ELEMENTS


@dataclass(frozen=True, slots=True)
class GeographicalMembership(Record):
    """An area belongs to a group."""

    kind = "geographical_membership"
    key_fields = ("group_sid", "member_sid")
    group_sid: int
    member_sid: int
    valid_between: Period

    @property
    def key(self) -> tuple[int, int]:
        return self.group_sid, self.member_sid


@dataclass(frozen=True, slots=True)
class Certificate(_BySid):
    """A document that an order number may require. TARIC3 has no sid for it: see `rules.taric.resolving`."""

    kind = "certificate"
    sid: int
    certificate_type: str
    certificate_code: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class MeasurementUnit(_ByCode):
    """Three capitals, e.g. KGM."""

    kind = "measurement_unit"
    code: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class MeasurementUnitQualifier(_ByCode):
    """One capital."""

    kind = "measurement_unit_qualifier"
    code: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class MonetaryUnit(_ByCode):
    """Three capitals, e.g. EUR."""

    kind = "monetary_unit"
    code: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class Measure(_BySid):
    """A measure, as far as quotas are concerned."""

    kind = "measure"
    sid: int
    order_number_sid: int | None
    geographical_area_sid: int
    valid_between: Period
    #: When its regulation ends; its own end goes before.
    regulation_effective_end_date: date | None = None
    #: The number that TARIC3 names; `order_number_sid` is None beside it if no order number has it.
    order_number: str | None = None
    #: What TARIC3 says besides, by element; no rule asks for it.
    elements: Map[str, str] = NO_ELEMENTS

    @property
    def effective_period(self) -> Period:
        """Its own end, else that of the regulation, else open."""
        if self.valid_between.end is None and self.regulation_effective_end_date is not None:
            return Period(self.valid_between.start, self.regulation_effective_end_date)
        return self.valid_between


@dataclass(frozen=True, slots=True)
class QuotaOrderNumber(_BySid):
    """A quota as traders know it. Mechanism, category and certificates are not in TARIC3."""

    kind = "quota_order_number"
    sid: int
    order_number: str
    mechanism: int
    category: int
    valid_between: Period
    required_certificate_sids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaOrderNumberOrigin(_BySid):
    """Goods of this area may draw on the order number."""

    kind = "quota_order_number_origin"
    sid: int
    order_number_sid: int
    geographical_area_sid: int
    valid_between: Period


@dataclass(frozen=True, slots=True)
class QuotaOrderNumberOriginExclusion(Record):
    """An origin's group without one of its members."""

    kind = "quota_order_number_origin_exclusion"
    key_fields = ("origin_sid", "excluded_geographical_area_sid")
    origin_sid: int
    excluded_geographical_area_sid: int

    @property
    def key(self) -> tuple[int, int]:
        return self.origin_sid, self.excluded_geographical_area_sid


@dataclass(frozen=True, slots=True)
class QuotaDefinition(_BySid):
    """The volume of an order number in one period."""

    kind = "quota_definition"
    sid: int
    order_number_sid: int
    #: In the unit given, at most 3 decimals.
    volume: Decimal
    initial_volume: Decimal
    monetary_unit: str | None
    measurement_unit: str | None
    measurement_unit_qualifier: str | None
    maximum_precision: int
    quota_critical: bool
    #: Percent of the volume.
    quota_critical_threshold: int
    description: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class QuotaAssociation(Record):
    """A sub-quota draws on a main quota too; both are definitions."""

    kind = "quota_association"
    key_fields = ("main_quota_sid", "sub_quota_sid")
    main_quota_sid: int
    sub_quota_sid: int
    sub_quota_relation_type: str
    #: At most 5 decimals.
    coefficient: Decimal

    @property
    def key(self) -> tuple[int, int]:
        return self.main_quota_sid, self.sub_quota_sid


@dataclass(frozen=True, slots=True)
class QuotaSuspension(_BySid):
    """No requests are taken for a definition."""

    kind = "quota_suspension"
    sid: int
    quota_definition_sid: int
    description: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class QuotaBlocking(_BySid):
    """Requests for a definition are taken, but nothing is allocated."""

    kind = "quota_blocking"
    sid: int
    quota_definition_sid: int
    blocking_period_type: int
    description: str
    valid_between: Period


@dataclass(frozen=True, slots=True)
class QuotaEvent(Record):
    """Something that happened to a definition; `subrecord_code` says what (00 balance, 05 unblocking, ...)."""

    kind = "quota_event"
    key_fields = ("subrecord_code", "quota_definition_sid", "occurrence_timestamp")
    subrecord_code: str
    quota_definition_sid: int
    occurrence_timestamp: datetime
    #: The other elements of the event by their TARIC3 names, in TARIC3's text.
    data: Map[str, str] = NO_ELEMENTS

    @property
    def key(self) -> tuple[str, int, datetime]:
        return self.subrecord_code, self.quota_definition_sid, self.occurrence_timestamp


#: Every kind, referents before what refers to them.
KINDS: Final[tuple[type[Record], ...]] = (
    GeographicalArea,
    GeographicalMembership,
    Certificate,
    MeasurementUnit,
    MeasurementUnitQualifier,
    MonetaryUnit,
    QuotaOrderNumber,
    QuotaOrderNumberOrigin,
    QuotaOrderNumberOriginExclusion,
    Measure,
    QuotaDefinition,
    QuotaAssociation,
    QuotaSuspension,
    QuotaBlocking,
    QuotaEvent,
)
KIND_OF: Final[dict[str, type[Record]]] = {kind.kind: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class RecordRef:
    """Names a record: its kind and key."""

    kind: str
    key: Key

    @classmethod
    def to(cls, record: Record) -> RecordRef:
        """The name of `record`."""
        return cls(record.kind, record.key)

    def fields(self) -> dict[str, int | str | datetime]:
        """The key by field."""
        names = KIND_OF[self.kind].key_fields
        return dict(zip(names, self.parts(), strict=True))

    def parts(self) -> tuple[int | str | datetime, ...]:
        """The key as a tuple, whatever the number of its fields."""
        return self.key if isinstance(self.key, tuple) else (self.key,)

    def __str__(self) -> str:
        return f"{self.kind} {'/'.join(_shown(part) for part in self.parts())}"


def _shown(part: int | str | datetime) -> str:
    return part.isoformat() if isinstance(part, datetime) else str(part)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a transaction, with the whole record as it is to be (or, for a deletion, as it was)."""

    update_type: UpdateType
    record: Record

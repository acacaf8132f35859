"""What clients asked for and were told, and what follows from it: pure, incremental.

An entry is *certain* from the moment its answer was read until the moment before its release is asked for. At every
moment the certain units of a quota are a lower bound of its true total, however many calls are under way.
"""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.verdict import Violation


class Verb(enum.StrEnum):
    """What clients do with an entry."""

    COMMIT = "commit"
    CANCEL = "cancel"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Answer:
    """An entry as an agent answered it."""

    uid: str
    granted: int
    held: bool
    override_id: str = ""


@dataclass(slots=True)
class Ask:
    """A request that was sent, perhaps several times."""

    quota: str
    amount: int
    up_to: bool = False
    hold: bool = False
    override_id: str = ""
    #: The store was known to be fenced before the first try.
    after_fence: bool = False
    tries: int = 0
    #: The reason, if it was refused at its first try: then nothing of it may be found.
    refused: str = ""


@dataclass(slots=True)
class Told:
    """An entry that a client was told of."""

    request_id: str
    uid: str
    granted: int
    held: bool
    override_id: str
    #: The life of its store in which it was told; a store that is put back begins another.
    life: int
    #: Ends that were asked for; whether they happened may be unknown.
    asked: set[Verb] = field(default_factory=set)
    #: An end that was answered.
    ended: bool = False
    #: It may be in nobody's numbers yet: its store had been copied or put back.
    excused: bool = False

    @property
    def certain(self) -> bool:
        """Whether its units count, beyond doubt."""
        return not self.held and Verb.RELEASE not in self.asked


class History:
    """All stores' answers. Stores are named by keys; quotas by uid, unless a name is said."""

    def __init__(self) -> None:
        #: Units that count beyond doubt.
        self.certain: Counter[str] = Counter()
        #: Units whose release has been asked for since the beginning: only grows.
        self.releasing: Counter[str] = Counter()
        #: Of the certain ones, those that may be in nobody's numbers.
        self.excused: Counter[str] = Counter()
        #: Life of each store; 0 unless it was put back.
        self.lives: Counter[str] = Counter()
        #: Stores that spend unseen.
        self.unseen: set[str] = set()
        #: Amounts of overrides by id, as stores told them.
        self.overrides: dict[str, int] = {}
        self._asks: dict[str, dict[str, Ask]] = defaultdict(dict)
        #: By store and request; then by quota uid and life.
        self._told: dict[str, dict[str, dict[tuple[str, int], Told]]] = defaultdict(lambda: defaultdict(dict))
        self._spent: dict[str, tuple[str, str]] = {}

    def ask(self, store: str, request_id: str, ask: Ask) -> None:
        """A request is about to be sent for the first time."""
        self._asks[store][request_id] = ask

    def sent(self, store: str, request_id: str) -> None:
        """It is about to be sent, again or for the first time."""
        self._asks[store][request_id].tries += 1

    def asked(self, store: str, request_id: str) -> Ask | None:
        """The request of that id, if there was one."""
        return self._asks[store].get(request_id)

    def told(self, store: str) -> Iterator[Told]:
        """All that the store's clients were told."""
        for entries in self._told[store].values():
            yield from entries.values()

    def certain_of(self, store: str, uid: str) -> tuple[int, int]:
        """Units of one store that count beyond doubt: under its limits in all its lives, and under overrides."""
        certain = [told for told in self.told(store) if told.uid == uid and told.certain]
        paid = sum(told.granted for told in certain if told.override_id)
        return sum(told.granted for told in certain) - paid, paid

    def find(self, store: str, uid: str, request_id: str) -> Told | None:
        """One entry, if a client was told of it in the store's present life."""
        return self._told[store][request_id].get((uid, self.lives[store]))

    def granted(self, store: str, request_id: str, answer: Answer) -> Told:
        """A client read a grant. Raises Violation: S4 if it is another answer than before, S6 after a fence."""
        ask = self._asks[store][request_id]
        what = f"{request_id} on {store}"
        if ask.after_fence:
            raise Violation("S6", "a fenced store to grant nothing", f"{what} was granted {answer.granted}")
        if not (0 < answer.granted <= ask.amount and (ask.up_to or answer.granted == ask.amount)):
            raise Violation("S4", f"{what} to be granted {ask.amount}", f"granted {answer.granted}")
        known = self.find(store, answer.uid, request_id)
        if known is not None:
            if (known.granted, known.override_id) != (answer.granted, answer.override_id):
                seen = f"{known.granted} the first time, {answer.granted} when repeated"
                raise Violation("S4", f"{what} to get the same answer again", seen)
            return known
        told = Told(
            request_id, answer.uid, answer.granted, answer.held, answer.override_id, self.lives[store]
        )
        told.excused = store in self.unseen
        if answer.override_id:
            self._spend(store, request_id, answer, told)
        self._told[store][request_id][answer.uid, told.life] = told
        if told.certain:
            self._count(told)
        return told

    def refused(self, store: str, request_id: str, reason: str) -> None:
        """A client read a refusal."""
        ask = self._asks[store][request_id]
        if ask.tries == 1:
            ask.refused = reason

    def repeat_refused(self, store: str, told: Told, reason: str) -> None:
        """The repeat of a granted request was refused. Raises Violation (S4) unless the entry has ended."""
        if told.life == self.lives[store] and not told.held and not told.asked:
            seen = f"the repeat was refused with {reason}"
            raise Violation("S4", f"{told.request_id} on {store} to get its answer again", seen)

    def end_asked(self, store: str, request_id: str, verb: Verb) -> None:
        """The end of an entry is about to be asked for."""
        for told in self._told[store][request_id].values():
            if verb is Verb.RELEASE and told.certain:
                self.certain[told.uid] -= told.granted
                self.releasing[told.uid] += told.granted
                if told.excused:
                    self.excused[told.uid] -= told.granted
            told.asked.add(verb)

    def end_told(self, store: str, request_id: str, verb: Verb, uid: str) -> None:
        """A client read that it happened."""
        told = self.find(store, uid, request_id)
        if told is None:
            return
        if verb is not Verb.COMMIT:
            told.ended = True
        elif told.held:
            told.held = False
            if told.certain:
                self._count(told)

    def hide(self, store: str) -> None:
        """From now on what the store grants may be in nobody's numbers."""
        self.unseen.add(store)

    def put_back(self, store: str) -> None:
        """The store has forgotten something: what it told before is not asked of it any more."""
        self.lives[store] += 1
        self.hide(store)

    def lose(self, store: str, kept: frozenset[tuple[str, str]]) -> None:
        """The store was put back and nobody could notice: what it forgot is lost by that, and is not counted."""
        for told in self.told(store):
            if told.life < self.lives[store] and (told.uid, told.request_id) not in kept and told.certain:
                self.certain[told.uid] -= told.granted
                self.releasing[told.uid] += told.granted
                told.asked.add(Verb.RELEASE)

    def seen(self, store: str) -> None:
        """Whatever the store granted is in the controller's numbers now."""
        self.unseen.discard(store)
        for told in self.told(store):
            if told.excused:
                told.excused = False
                if told.certain:
                    self.excused[told.uid] -= told.granted

    def _count(self, told: Told) -> None:
        self.certain[told.uid] += told.granted
        if told.excused:
            self.excused[told.uid] += told.granted

    def _spend(self, store: str, request_id: str, answer: Answer, told: Told) -> None:
        """Raises Violation (S1) where an override pays twice, or more than it may."""
        amount = self.overrides.get(answer.override_id)
        if amount is None or answer.granted != amount:
            seen = f"it paid {answer.granted}"
            raise Violation("S1", f"override {answer.override_id} to pay {amount}", seen)
        before = self._spent.setdefault(answer.override_id, (store, request_id))
        if before != (store, request_id) and not told.excused:
            seen = f"{before[1]} on {before[0]}, then {request_id} on {store}"
            raise Violation("S1", f"override {answer.override_id} to pay once", seen)

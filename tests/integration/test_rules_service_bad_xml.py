"""RulesService over real gRPC and a real database: XML that is no TARIC3, and worse."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from quota_server.tariff import judging
from quotafleet.errors import QuotafleetError
from quotafleet.v1 import rules_service_pb2 as pb
from tests.agent_kit import fails
from tests.server_kit import Served, open_controller
from tests.tariff_kit import BAD, GOOD, OPTIONS, committed, committed_whole, envelope, listed, validated


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_controller(tmp_path) as served:
        yield served


_HEAD = b'<e:envelope xmlns:e="urn:publicid:-:DGTAXUD:GENERAL:ENVELOPE:1.0" id="1">'
_BOMB = (
    b'<!DOCTYPE e [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]>"
)
#: What is wrong, and something that the message says.
BAD_XML = {
    "empty": (b"", "no element"),
    "blank": (b"  \n ", ""),
    "no xml": (b"hello", ""),
    "gzip": (gzip.compress(envelope(*GOOD)), ""),
    "cut off": (envelope(*GOOD)[:-30], "end"),
    "another root": (b"<html/>", "envelope"),
    "another namespace": (b'<envelope xmlns="urn:x"/>', "envelope"),
    "entities": (_BOMB + _HEAD + b"&j;</e:envelope>", ""),
    "deep": (_HEAD + b"<a>" * 100_000, ""),
    "huge text": (_HEAD + b"a" * 3_000_000, ""),
    "broken": (_HEAD + b"<a></b>", ""),
    "two roots": (envelope(*GOOD) + envelope(*GOOD), ""),
    "bad bytes": (b'<?xml version="1.0" encoding="UTF-8"?>' + _HEAD + b"\xff\xfe", ""),
    "record astray": (_HEAD + b"<record xmlns='urn:publicid:-:DGTAXUD:TARIC:MESSAGE:1.0'/>", ""),
}


@pytest.mark.parametrize("name", BAD_XML)
async def test_bad_xml_is_a_clear_error_and_stores_nothing(served: Served, name: str) -> None:
    content, says = BAD_XML[name]
    whole = pb.ValidateTransactionRequest(envelope=content, options=OPTIONS)
    errors: list[QuotafleetError] = [
        await fails(call)
        for call in (
            committed(served, content, 500_000),
            committed_whole(served, content),
            validated(served, content, 500_000),
            served.rules.ValidateTransaction(whole),
        )
    ]
    for error in errors:
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ENVELOPE_INVALID")
        assert error.message == errors[0].message
        assert says in error.message
        assert len(error.message) < 700
        assert error.metadata["element"]
        assert int(error.metadata["line"]) >= 1
    assert await listed(served) == []


async def test_what_was_judged_before_bad_xml_has_been_answered(served: Served) -> None:
    content = envelope(*BAD)[:-30]
    call = served.rules.ValidateEnvelope(
        iter([pb.ValidateEnvelopeRequest(options=OPTIONS), pb.ValidateEnvelopeRequest(chunk=content)])
    )
    first: Any = await call.read()
    assert first.verdict.transaction_id == "2"
    assert (await fails(call.read())).reason == "ENVELOPE_INVALID"


async def test_an_envelope_with_more_changes_than_memory_is_meant_for_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = envelope(*GOOD)
    monkeypatch.setattr(judging, "MAX_CHANGES", 6)
    for call in (committed(served, content), validated(served, content)):
        error = await fails(call)
        assert error.reason == "ENVELOPE_INVALID"
        assert "must have at most 6 changes" in error.message
    assert await listed(served) == []
    monkeypatch.setattr(judging, "MAX_CHANGES", 7)
    assert (await committed(served, content)).data_version == 3

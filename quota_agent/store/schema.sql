-- The agent's store, version 1 (PRAGMA user_version). Amounts are in the quota's smallest unit, times are milliseconds
-- since 1970-01-01 UTC.

CREATE TABLE agent (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    agent TEXT NOT NULL,
    agent_uid TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    store_id TEXT NOT NULL,
    dial INTEGER NOT NULL,
    mark BLOB NOT NULL,
    generation INTEGER NOT NULL,
    welcomed INTEGER NOT NULL,
    fenced TEXT,
    fence_confirmed INTEGER NOT NULL,
    clock_mark_ms INTEGER NOT NULL,
    last_contact_ms INTEGER
) STRICT;

CREATE TABLE quota (
    number INTEGER PRIMARY KEY, -- order of arrival; entries refer to it, being many
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    decimals INTEGER NOT NULL,
    start_ms INTEGER,
    end_ms INTEGER,
    suspended INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    assigned INTEGER NOT NULL,
    active INTEGER NOT NULL,
    max_offline_ms INTEGER,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    "limit" INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    released INTEGER NOT NULL,
    override_consumed INTEGER NOT NULL,
    override_released INTEGER NOT NULL,
    held INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    -- Totals beside the last session mark known to be shown ...
    marked_consumed INTEGER NOT NULL,
    marked_released INTEGER NOT NULL,
    marked_override_consumed INTEGER NOT NULL,
    marked_override_released INTEGER NOT NULL,
    -- ... and beside the mark held.
    marking_consumed INTEGER NOT NULL,
    marking_released INTEGER NOT NULL,
    marking_override_consumed INTEGER NOT NULL,
    marking_override_released INTEGER NOT NULL,
    last_entry INTEGER NOT NULL,
    CHECK (consumed - released + held <= "limit") -- S1, once more
) STRICT;

CREATE TABLE entry (
    quota INTEGER NOT NULL, -- quota.number
    number INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    requested INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    mode INTEGER NOT NULL, -- as numbered in gate_service.proto
    state INTEGER NOT NULL, -- as numbered in gate_service.proto
    create_ms INTEGER NOT NULL,
    expire_ms INTEGER,
    override_id TEXT,
    labels TEXT, -- JSON array of [key, value]; NULL for none
    PRIMARY KEY (quota, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX entry_by_request ON entry (quota, request_id);

CREATE INDEX entry_due ON entry (expire_ms) WHERE state = 1;

CREATE TABLE override (
    override_id TEXT PRIMARY KEY,
    ask_id TEXT NOT NULL,
    quota_uid TEXT NOT NULL,
    amount INTEGER NOT NULL,
    state TEXT NOT NULL,
    spent INTEGER NOT NULL CHECK (spent <= amount),
    named INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ask (
    quota_uid TEXT NOT NULL,
    ask_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    heard INTEGER NOT NULL,
    override_id TEXT NOT NULL,
    PRIMARY KEY (quota_uid, ask_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    what TEXT NOT NULL,
    before INTEGER NOT NULL,
    after INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    filler BLOB NOT NULL
) STRICT;

-- Streams. One table each, so that a sequence number is the row id and every insert appends.
-- `key` is the hash of the ordering key (0: none); `priority` is 0 (normal) or 1 (critical).
CREATE TABLE inbound (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE tasks (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE actions (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE replies (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE events (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE dead (seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, rest TEXT NOT NULL, at_ms INTEGER NOT NULL, priority INTEGER NOT NULL, key INTEGER NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
-- What is read by tenant.
CREATE INDEX inbound_by_tenant ON inbound (tenant, seq);
CREATE INDEX events_by_tenant ON events (tenant, seq);
CREATE INDEX dead_by_tenant ON dead (tenant, seq);

-- One row a stream, written once a commit.
CREATE TABLE streams (stream INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, messages INTEGER NOT NULL) STRICT;

-- Dedupe ids in order of arrival: one row a commit and stream, 16 bytes an id, for
-- `first_seq`, `first_seq + 1`, and so on.
CREATE TABLE seen (n INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first_seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, ids BLOB NOT NULL) STRICT;

-- Older dedupe ids: segments with a filter each, and their entries in buckets.
CREATE TABLE segments (id INTEGER PRIMARY KEY, ids INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, filter BLOB NOT NULL) STRICT;
CREATE TABLE segment_ids (at INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;

-- Consumers. Of a history stream everything up to `floor` is done, and what `acked` says above it.
CREATE TABLE consumers (id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, name TEXT NOT NULL, floor INTEGER NOT NULL, UNIQUE (stream, name)) STRICT;
CREATE TABLE acked (consumer INTEGER NOT NULL, chunk INTEGER NOT NULL, bits BLOB NOT NULL, PRIMARY KEY (consumer, chunk)) STRICT, WITHOUT ROWID;
CREATE TABLE retries (consumer INTEGER NOT NULL, seq INTEGER NOT NULL, failures INTEGER NOT NULL, due_at_ms INTEGER NOT NULL, PRIMARY KEY (consumer, seq)) STRICT, WITHOUT ROWID;

-- Day budgets.
CREATE TABLE spent (day INTEGER NOT NULL, scope TEXT NOT NULL, total INTEGER NOT NULL, PRIMARY KEY (day, scope)) STRICT, WITHOUT ROWID;
CREATE TABLE charges (day INTEGER NOT NULL, scope TEXT NOT NULL, charge_id TEXT NOT NULL, PRIMARY KEY (day, scope, charge_id)) STRICT, WITHOUT ROWID;

-- Records. `tenant` comes first in every key.
CREATE TABLE runs (tenant TEXT NOT NULL, run BLOB NOT NULL, start TEXT NOT NULL, checkpoint TEXT, ended TEXT, at_ms INTEGER NOT NULL, PRIMARY KEY (tenant, run)) STRICT, WITHOUT ROWID;
CREATE TABLE turns (n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, flow TEXT NOT NULL, session TEXT NOT NULL, at_ms INTEGER NOT NULL, turn TEXT NOT NULL) STRICT;
CREATE INDEX turns_by_session ON turns (tenant, flow, session, n);
CREATE TABLE approvals (n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id BLOB NOT NULL, status TEXT NOT NULL, digest TEXT NOT NULL, expires_at_ms INTEGER NOT NULL, action TEXT NOT NULL, votes TEXT NOT NULL, posted TEXT, settled_at_ms INTEGER, outcome TEXT, UNIQUE (tenant, id)) STRICT;
CREATE INDEX approvals_pending ON approvals (expires_at_ms) WHERE status = 'pending';
CREATE INDEX approvals_by_status ON approvals (tenant, status, n);
CREATE TABLE posted (tenant TEXT NOT NULL, platform TEXT NOT NULL, instance TEXT NOT NULL, channel TEXT NOT NULL, message TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (tenant, platform, instance, channel, message)) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, id BLOB NOT NULL, headers BLOB NOT NULL, ordering_key TEXT, priority INTEGER NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE TABLE sends (tenant TEXT NOT NULL, reply BLOB NOT NULL, at_ms INTEGER NOT NULL, sent INTEGER NOT NULL, platform_id TEXT, PRIMARY KEY (tenant, reply)) STRICT, WITHOUT ROWID;
CREATE TABLE api_keys (id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, tenant TEXT, record TEXT NOT NULL, revoked_at_ms INTEGER) STRICT;
CREATE TABLE channels (tenant TEXT NOT NULL, platform TEXT NOT NULL, instance TEXT NOT NULL, id TEXT NOT NULL, name TEXT, asked_at_ms INTEGER NOT NULL, PRIMARY KEY (tenant, platform, instance, id)) STRICT, WITHOUT ROWID;

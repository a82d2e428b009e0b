-- Runs and sends are appended; `located` says where the row of a random id is. A B-tree of
-- random ids writes a page for each of them. How a run ended stands beside it, so that its
-- row does not grow where rows follow.
ALTER TABLE runs RENAME TO runs_001;
ALTER TABLE sends RENAME TO sends_001;
CREATE TABLE runs (n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, run BLOB NOT NULL, start TEXT NOT NULL, checkpoint TEXT, at_ms INTEGER NOT NULL) STRICT;
CREATE TABLE run_ends (n INTEGER PRIMARY KEY, ended TEXT NOT NULL) STRICT;
CREATE TABLE sends (n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, reply BLOB NOT NULL, at_ms INTEGER NOT NULL, sent INTEGER NOT NULL, platform_id TEXT) STRICT;
INSERT INTO runs SELECT row_number() OVER (ORDER BY at_ms, tenant, run), tenant, run, start, checkpoint, at_ms FROM runs_001;
INSERT INTO run_ends SELECT n, ended FROM (SELECT row_number() OVER (ORDER BY at_ms, tenant, run) AS n, ended FROM runs_001) WHERE ended IS NOT NULL;
INSERT INTO sends SELECT row_number() OVER (ORDER BY at_ms, tenant, reply), tenant, reply, at_ms, sent, platform_id FROM sends_001;
DROP TABLE runs_001;
DROP TABLE sends_001;
-- The index: its log, its segments, and their entries; see `seen`, `segments`, `segment_ids`.
CREATE TABLE located (n INTEGER PRIMARY KEY, space INTEGER NOT NULL, first_n INTEGER NOT NULL, at_ms INTEGER NOT NULL, ids BLOB NOT NULL) STRICT;
CREATE TABLE located_segments (id INTEGER PRIMARY KEY, ids INTEGER NOT NULL, last_at_ms INTEGER NOT NULL, filter BLOB NOT NULL) STRICT;
CREATE TABLE located_ids (at INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;

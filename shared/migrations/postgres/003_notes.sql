-- What platforms' adapters keep for later; see `NoteKey`.
CREATE TABLE notes (
    tenant text COLLATE "C" NOT NULL,
    platform text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    name bytea NOT NULL,
    value bytea NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, platform, instance, name)
);
CREATE INDEX notes_by_expiry ON notes (expires_at_ms);

-- What platforms' adapters keep for later; see `NoteKey`.
CREATE TABLE notes (tenant TEXT NOT NULL, platform TEXT NOT NULL, instance TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, expires_at_ms INTEGER NOT NULL, PRIMARY KEY (tenant, platform, instance, name)) STRICT, WITHOUT ROWID;
CREATE INDEX notes_by_expiry ON notes (expires_at_ms);

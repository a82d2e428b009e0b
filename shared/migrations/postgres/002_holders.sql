-- Who works on a run: a delivery's own id. A worker that was cut off and replaced meanwhile
-- may not save what it then does.
ALTER TABLE runs ADD COLUMN holder uuid;

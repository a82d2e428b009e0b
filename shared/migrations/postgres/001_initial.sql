-- Records. `tenant` comes first in every key. Documents are JSON in `text`, which never holds
-- a NUL; what people and platforms write is `bytea`, because PostgreSQL's `text` cannot hold one.
-- Names compare byte by byte, whatever the database's language is.

-- Room on the pages lets a run's end replace its begin in place, without touching an index.
CREATE TABLE runs (
    tenant text COLLATE "C" NOT NULL,
    run uuid NOT NULL,
    start text NOT NULL,
    checkpoint text,
    ended text,
    at_ms bigint NOT NULL,
    ended_at_ms bigint,
    PRIMARY KEY (tenant, run)
) WITH (fillfactor = 60);
CREATE INDEX runs_by_age ON runs (at_ms);

CREATE TABLE turns (
    n bigint GENERATED ALWAYS AS IDENTITY,
    tenant text COLLATE "C" NOT NULL,
    flow text COLLATE "C" NOT NULL,
    session bytea NOT NULL,
    at_ms bigint NOT NULL,
    turn text NOT NULL,
    PRIMARY KEY (tenant, flow, session, n)
);

CREATE TABLE approvals (
    n bigint GENERATED ALWAYS AS IDENTITY,
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    status text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    expires_at_ms bigint NOT NULL,
    action text NOT NULL,
    votes text NOT NULL,
    posted bytea,
    settled_at_ms bigint,
    outcome bytea,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX approvals_pending ON approvals (expires_at_ms) WHERE status = 'pending';
CREATE INDEX approvals_by_age ON approvals (tenant, n);
CREATE INDEX approvals_by_status ON approvals (tenant, status, n);

-- Which platform message shows which approval.
CREATE TABLE posted (
    tenant text COLLATE "C" NOT NULL,
    platform text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    channel bytea NOT NULL,
    message bytea NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (tenant, platform, instance, channel, message)
);

-- `claimed_by` publishes it until `claimed_until`; then anybody may.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    id uuid NOT NULL,
    headers text NOT NULL,
    ordering_key bytea,
    priority smallint NOT NULL,
    payload bytea NOT NULL,
    claimed_by uuid,
    claimed_until timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE sends (
    tenant text COLLATE "C" NOT NULL,
    reply uuid NOT NULL,
    at_ms bigint NOT NULL,
    sent boolean NOT NULL,
    platform_id bytea,
    PRIMARY KEY (tenant, reply)
) WITH (fillfactor = 80);
CREATE INDEX sends_by_age ON sends (at_ms);

CREATE TABLE api_keys (
    id bytea PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    tenant text COLLATE "C",
    record text NOT NULL,
    revoked_at_ms bigint
);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, id);

CREATE TABLE channels (
    tenant text COLLATE "C" NOT NULL,
    platform text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    id bytea NOT NULL,
    name bytea,
    asked_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, platform, instance, id)
);

-- A journal as the first version of the worker wrote it. Never changed: it stands for the files in the field.
PRAGMA journal_mode = WAL;
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    message BLOB NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_key ON jobs (kind, key);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    job_id TEXT UNIQUE,
    payload BLOB NOT NULL,
    deadline INTEGER,
    made_at INTEGER NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX answers_to_send ON answers (id) WHERE sent = 0;
CREATE TABLE results (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    result TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;
CREATE INDEX results_by_age ON results (made_at);
INSERT INTO jobs (job_id, kind, key, message, started, received_at) VALUES
    ('waiting', 'add', 'waiting', CAST('waiting message' AS BLOB), 0, 1790000000000),
    ('running', 'add', 'running', CAST('running message' AS BLOB), 1, 1790000000001);
INSERT INTO answers (job_id, payload, deadline, made_at, sent) VALUES
    ('to-send', CAST('answer to send' AS BLOB), 1790000060000, 1790000000002, 0),
    ('sent', CAST('sent answer' AS BLOB), NULL, 4000000000000, 1);
INSERT INTO results (kind, key, result, made_at) VALUES ('sql', 'order-7', '{"rows":1}', 4000000000000);
PRAGMA user_version = 1;

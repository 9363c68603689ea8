CREATE TABLE postern_answers (
  kind varchar(128) NOT NULL,
  idempotency_key varchar(128) NOT NULL,
  answer text NOT NULL,
  created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (kind, idempotency_key)
)

CREATE TABLE postern_answers (
  kind text NOT NULL,
  idempotency_key text NOT NULL,
  answer text NOT NULL,
  created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (kind, idempotency_key)
)

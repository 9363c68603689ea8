CREATE TABLE postern_answers (
  kind varbinary(256) NOT NULL,
  idempotency_key varbinary(512) NOT NULL,
  answer mediumtext CHARACTER SET utf8mb4 NOT NULL,
  created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (kind, idempotency_key)
) ENGINE = InnoDB

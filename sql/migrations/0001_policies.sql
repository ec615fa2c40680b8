-- One row a policy domain: the MTA-STS policy in its raw form, and the last attempt to fetch one (RFC 8461 §3.3, §10.2).
-- Times are seconds since 1970-01-01 UTC, up to the year 9999. Without a policy its four columns are NULL.
-- The constraints keep out what nobody could make sense of later; policy bodies are parsed when they are read.
CREATE TABLE policies (
  domain       TEXT PRIMARY KEY NOT NULL CHECK (length(domain) BETWEEN 1 AND 253),
  policy_id    TEXT,
  body         BLOB CHECK (length(body) <= 65536),
  fetched      INTEGER CHECK (fetched BETWEEN 0 AND 253402300799),
  txt_seen     INTEGER CHECK (txt_seen BETWEEN 0 AND 253402300799),
  attempted    INTEGER NOT NULL CHECK (attempted BETWEEN 0 AND 253402300799),
  attempted_id TEXT NOT NULL,
  error        TEXT NOT NULL,
  CHECK ((policy_id IS NULL) = (body IS NULL)
     AND (policy_id IS NULL) = (fetched IS NULL)
     AND (policy_id IS NULL) = (txt_seen IS NULL))
) STRICT;

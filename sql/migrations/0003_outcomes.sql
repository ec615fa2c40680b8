-- How connections to the hosts of a domain ended: what RFC 8460 §4 reports, counted. Seven days of it, within bounds; it
-- is dropped before any policy is. `day`: of UTC since 1970-01-01. `teller`: user id of the process that told it.
CREATE TABLE outcomes (
  domain    TEXT NOT NULL CHECK (length(domain) BETWEEN 1 AND 253),
  day       INTEGER NOT NULL CHECK (day BETWEEN 0 AND 2932896),
  mechanism TEXT NOT NULL,
  host      TEXT NOT NULL,
  result    TEXT NOT NULL,
  teller    INTEGER NOT NULL,
  attempts  INTEGER NOT NULL CHECK (attempts > 0),
  last      INTEGER NOT NULL CHECK (last BETWEEN 0 AND 253402300799),
  detail    TEXT NOT NULL,
  PRIMARY KEY (domain, day, mechanism, host, result, teller)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_day ON outcomes (day);

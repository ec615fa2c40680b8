-- Steady time (core/sts/lifecycle.h), refresh without mail (RFC 8461 §10.2), and what is dropped first when the store is
-- full. `learned`, `asked`, `refresh` and `expires` are steady time, which begins here as wall time.
ALTER TABLE policies ADD COLUMN learned INTEGER CHECK (learned BETWEEN 0 AND 253402300799);
ALTER TABLE policies ADD COLUMN failures INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0);
ALTER TABLE policies ADD COLUMN asked INTEGER NOT NULL DEFAULT 0 CHECK (asked BETWEEN 0 AND 253402300799);
-- NULL: not without mail.
ALTER TABLE policies ADD COLUMN refresh INTEGER CHECK (refresh BETWEEN 0 AND 253402300799);
-- 0: no policy, 1: a policy that enforces nothing, 2: enforce. 2 where it is not known: that goes last.
ALTER TABLE policies ADD COLUMN worth INTEGER NOT NULL DEFAULT 2;
ALTER TABLE policies ADD COLUMN expires INTEGER NOT NULL DEFAULT 253402300799;

-- The moment of the last entry, on both clocks.
CREATE TABLE moment (
  only   INTEGER PRIMARY KEY CHECK (only = 1),
  wall   INTEGER NOT NULL CHECK (wall BETWEEN 0 AND 253402300799),
  steady INTEGER NOT NULL CHECK (steady BETWEEN 0 AND 253402300799)
) STRICT;
INSERT INTO moment VALUES (1, unixepoch(), unixepoch());

-- What was seen lately is refreshed within the next day, spread over it; what is there tells no more of who asked.
UPDATE policies SET
  learned = min(fetched, unixepoch()),
  asked = min(max(txt_seen, fetched), unixepoch()),
  refresh = unixepoch() + abs(random() % 86400),
  worth = CASE WHEN instr(body, CAST('enforce' AS BLOB)) > 0 THEN 2 ELSE 1 END
  WHERE body IS NOT NULL;
UPDATE policies SET worth = 0, expires = 0 WHERE body IS NULL;

CREATE INDEX policies_refresh ON policies (refresh) WHERE refresh IS NOT NULL;
CREATE INDEX policies_worth ON policies (worth, expires);

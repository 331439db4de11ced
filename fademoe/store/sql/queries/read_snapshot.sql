-- Snapshots for several statements.

-- name: take
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: begin
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: bulk_limits
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL work_mem = '64MB'

-- name: end
ROLLBACK

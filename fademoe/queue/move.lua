-- Move a waiting job to the front of another queue.
-- KEYS    the queue it waits in, the other queue, the job's hash
-- ARGV    id of the job, name of the other queue
-- Result  1 when it waited there, else 0
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
    return 0
end
redis.call('HSET', KEYS[3], 'origin', ARGV[2])
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1

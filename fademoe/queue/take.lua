-- Take the first job of a queue whose rate limit is not exhausted.
-- KEYS    the queue (list of job ids), its intermediate queue
-- ARGV    is it to be taken (1) or only looked for (0), most ids to look at; then the sources whose jobs are passed over
-- Result  the id of the job; nil when there is none
local CHUNK = 500
local is_taken, depth = ARGV[1] == '1', tonumber(ARGV[2])
local passed_over = {}
for n = 3, #ARGV do
    passed_over[ARGV[n]] = true
end
for first = 0, depth - 1, CHUNK do
    local ids = redis.call('LRANGE', KEYS[1], first, math.min(first + CHUNK, depth) - 1)
    for _, id in ipairs(ids) do
        local source = string.match(id, '^%l%l%-([^_]+)_')
        if not source or not passed_over[source] then
            if is_taken then
                redis.call('LREM', KEYS[1], 1, id)
                redis.call('RPUSH', KEYS[2], id)
            end
            return id
        end
    end
    if #ids < CHUNK then
        return nil
    end
end
return nil

-- Close budgets until a moment; a later end that is set already stays.
--
-- KEYS    hashes of budgets (see take.lua)
-- ARGV    for how many ms, why
-- Result  the end, ms by Redis's clock
local time = redis.call('TIME')
local until_ms = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 + tonumber(ARGV[1]))
for _, key in ipairs(KEYS) do
    if until_ms > (tonumber(redis.call('HGET', key, 'closed_until')) or 0) then
        redis.call('HSET', key, 'closed_until', until_ms, 'closed_why', ARGV[2])
    end
    if redis.call('PTTL', key) < tonumber(ARGV[1]) + 3600000 then
        redis.call('PEXPIRE', key, tonumber(ARGV[1]) + 3600000)
    end
end
return until_ms

-- Adds to the counter of a day, once for each charge.
--
-- KEYS: the set of charges, the total.
-- ARGV: charge, amount, life of the charges in ms, life of the total in ms.
-- Returns the total as text: a Lua number is exact to 2^53 only.
local MOST = '9223372036854775807'
if call('SADD', KEYS[1], ARGV[1]) == 1 then
    call('PEXPIRE', KEYS[1], ARGV[3])
    if type(redis.pcall('INCRBY', KEYS[2], ARGV[2])) == 'table' then
        call('SET', KEYS[2], MOST)
    end
    call('PEXPIRE', KEYS[2], ARGV[4])
end
return call('GET', KEYS[2])

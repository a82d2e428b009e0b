-- Gives a holder's places back.
--
-- KEYS: a sorted set for each place; with no place, the holder's grant.
-- ARGV: holder, number of places.
local places = tonumber(ARGV[2])
for n = 1, places do
    call('ZREM', KEYS[n], ARGV[1])
end
if places == 0 then
    call('DEL', KEYS[1])
end
return 0

-- Keeps a holder's places for another ttl.
--
-- KEYS: a sorted set for each place; with no place, the holder's grant.
-- ARGV: time, holder, ttl in us, number of places.
-- Returns 1, or 0 when some were lost.
local now = now_us(ARGV[1])
local holder, ttl, places = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local all = 1
for n = 1, places do
    if holds(KEYS[n], holder, now) then
        hold(KEYS[n], holder, now, ttl)
    else
        all = 0
    end
end
if places == 0 and remembers(KEYS[1], now) then
    remember(KEYS[1], now, ttl)
end
return all

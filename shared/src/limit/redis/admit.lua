-- Takes everything that a demand asks for, or nothing.
--
-- KEYS: a list for each window, a sorted set for each place; with no place but a ttl, the
--       holder's grant.
-- ARGV: time, holder, ttl in us, number of windows; limit and length in us of each window;
--       limit of each place.
-- Returns 0 for granted, else the number of the KEY that refused and the wait in ms.
--
-- A window's list has the times of its newest admissions, oldest first, `limit` of them at
-- most. One more fits when the one `limit` places before it is out of the window: what a
-- clock that goes back leaves in the list only seems younger than it is.
local MAX_PLACE_WAIT_US = 250 * 1000 -- a place may be given back at any time before its end
local now = now_us(ARGV[1])
local holder, ttl, windows = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local first_limit = 4 + 2 * windows
local places = #ARGV - first_limit
local grant = KEYS[windows + places + 1]

-- The wait, and whether nobody has a place.
local function place_wait(key, limit)
    local held = call('ZCARD', key)
    if held < limit then
        return 0, held == 0
    end
    call('ZREMRANGEBYSCORE', key, '-inf', now)
    held = call('ZCARD', key)
    if held < limit or call('ZSCORE', key, holder) then
        return 0, held == 0
    end
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    return first and math.min(tonumber(first) - now, MAX_PLACE_WAIT_US) or MAX_PLACE_WAIT_US
end

-- Who has the places was granted: they are taken with everything else or not at all.
local before = places > 0
if grant then
    before = remembers(grant, now)
end
for n = windows + 1, windows + places do
    before = before and holds(KEYS[n], holder, now)
end
if before then
    for n = windows + 1, windows + places do
        hold(KEYS[n], holder, now, ttl)
    end
    if grant then
        remember(grant, now, ttl)
    end
    return 0
end

local refused, longest, empty = 0, 0, {}
for n = 1, windows do
    local limit, length = tonumber(ARGV[3 + 2 * n]), tonumber(ARGV[4 + 2 * n])
    local wait = length
    if limit > 0 then
        local at = call('LINDEX', KEYS[n], -limit)
        wait = at and tonumber(at) + length - now or 0
    end
    if wait > 0 and wait >= longest then
        refused, longest = n, wait
    end
end
if refused == 0 then
    for n = 1, places do
        local wait
        wait, empty[n] = place_wait(KEYS[windows + n], tonumber(ARGV[first_limit + n]))
        if wait > longest then
            refused, longest = windows + n, wait
        end
    end
end
if refused > 0 then
    return { refused, math.ceil(longest / 1000) }
end

for n = 1, windows do
    local limit = tonumber(ARGV[3 + 2 * n])
    if call('RPUSH', KEYS[n], now) > limit then
        call('LTRIM', KEYS[n], -limit, -1)
    end
    call('PEXPIRE', KEYS[n], expiry_ms(tonumber(ARGV[4 + 2 * n])))
end
for n = 1, places do
    hold(KEYS[windows + n], holder, now, ttl, empty[n])
end
if grant then
    remember(grant, now, ttl)
end
return 0

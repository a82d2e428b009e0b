-- Stands before each script. Times are microseconds of the server's clock since the epoch.
local call = redis.call

-- Keys outlive what they hold by this. Decisions look at times; expiry only frees memory.
local EXPIRY_MARGIN_MS = 10 * 1000

-- `given` is milliseconds, or empty for the server's own time.
local function now_us(given)
    if given ~= '' then
        return tonumber(given) * 1000
    end
    local time = call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function expiry_ms(us)
    return math.ceil(us / 1000) + EXPIRY_MARGIN_MS
end

-- True while `holder` has its place.
local function holds(key, holder, now)
    local ends = call('ZSCORE', key, holder)
    return ends and tonumber(ends) > now
end

-- Holders of one place may have different ttls: the key lives as long as the longest.
local function hold(key, holder, now, ttl, is_new)
    call('ZADD', key, now + ttl, holder)
    if is_new then
        call('PEXPIRE', key, expiry_ms(ttl))
    else
        call('PEXPIRE', key, expiry_ms(ttl), 'GT')
    end
end

local function remember(grant, now, ttl)
    call('SET', grant, now + ttl, 'PX', expiry_ms(ttl))
end

local function remembers(grant, now)
    local ends = call('GET', grant)
    return ends and tonumber(ends) > now
end

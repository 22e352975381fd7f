-- How often one may call: a leaky bucket a caller, in a dictionary that all workers share. No nginx.
--
-- A bucket is the time, in milliseconds, at which it has run empty; its entry ends then. So a charge is one atomic addition, whichever
-- worker makes it, and no more than what is stated ever passes.

local M = {}

-- A rate that lets `calls` pass in any window of `seconds`, `burst` of them at once.
function M.rate(calls, seconds, burst)
    return { interval = seconds * 1000 / math.max(calls - burst, 1), burst = burst }
end

-- Charge a bucket with calls. True where they pass; else false, nothing is charged, and the seconds until they would.
function M.charge(dict, key, count, rate, now_ms)
    local room = rate.burst * rate.interval
    local cost = count * rate.interval
    local empty_at = dict:incr(key, cost, now_ms, room / 1000)
    if not empty_at then
        return false, 1
    end
    if empty_at - cost < now_ms then
        -- It ran empty in the millisecond before it would have ended.
        empty_at = dict:incr(key, now_ms - empty_at + cost) or now_ms + cost
    end
    local over = empty_at - now_ms - room
    -- A tenth of a millisecond is what sums of fractions are off by.
    local passes = over <= 0.1
    if not passes then
        empty_at = dict:incr(key, -cost) or now_ms
    end
    dict:expire(key, math.max(0.001, (empty_at - now_ms) / 1000))
    return passes, not passes and math.max(1, math.ceil(over / 1000)) or nil
end

-- Whether a bucket would let one call pass.
function M.has_room(dict, key, rate, now_ms)
    local empty_at = dict:get(key)
    return not empty_at or empty_at - now_ms + rate.interval <= rate.burst * rate.interval + 0.1
end

local MAPPED = string.rep("\0", 10) .. "\255\255"

-- An address as hex digits, IPv4 within IPv6 as IPv4. `binary` is nginx' $binary_remote_addr.
local function digits(binary)
    if #binary == 16 and binary:sub(1, 12) == MAPPED then
        binary = binary:sub(13)
    end
    return (binary:gsub(".", function(byte)
        return string.format("%02x", byte:byte())
    end))
end

-- Who a caller is by address, as text: IPv4 whole, IPv6 by its /64.
function M.address(binary)
    return digits(binary):sub(1, 16)
end

-- The same as a network, 192.0.2.1/32 or 2001:0db8:0000:0001::/64; nil where the caller has no address.
function M.network(binary)
    local address = M.address(binary)
    if #address == 8 then
        local octets = address:gsub("%x%x", function(octet)
            return tonumber(octet, 16) .. "."
        end)
        return octets:sub(1, -2) .. "/32"
    end
    return #address == 16 and address:gsub("%x%x%x%x", "%0:") .. ":/64" or nil
end

-- Whether an address is in one of the ranges [{first, last}, ...], hex digits each.
function M.is_within(binary, ranges)
    local address = digits(binary)
    for _, range in ipairs(ranges) do
        if #address == #range[1] and range[1] <= address and address <= range[2] then
            return true
        end
    end
    return false
end

return M

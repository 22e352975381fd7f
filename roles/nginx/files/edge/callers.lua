-- Who calls, and how often one may: tiers, API keys, rates.

local calls = require("edge.calls")
local connections = require("edge.connections")
local keys = require("edge.keys")
local limits = require("edge.limits")

local buckets = ngx.shared.buckets
local now = ngx.now
local problem = calls.problem

local M = {}

local PUBLIC = "public"

local directory, rights
local tiers, rates, ceilings = {}, {}, {}

-- init_by_lua: the facts, and what each tier may on each chain.
function M.start(facts, rights_of_tiers)
    directory, rights = facts.keys, rights_of_tiers
    -- Whose tier is not known yet may have as many connections as some tier.
    local most_connections = 0
    for _, tier in ipairs(facts.tiers) do
        tiers[tier.name] = tier
        rates[tier.name] = limits.rate(tier.requests_per_minute, 60, tier.burst)
        most_connections = math.max(most_connections, tier.connections)
    end
    for _, one in ipairs(facts.ceilings) do
        ceilings[one.chain] = limits.rate(one.calls_per_second + one.burst, 1, one.burst)
    end
    connections.start(facts.uncounted_ranges, most_connections)
end

-- What is known of a request before it is read.
function M.context(chain)
    local var = ngx.var
    local context = {
        chain = chain,
        tier = PUBLIC,
        address = limits.address(var.binary_remote_addr),
        is_limited = var.limited ~= "0",
        calls = 0,
        methods = {},
    }
    local key = keys.named(var.http_authorization, var.http_x_api_key)
    if key then
        local found = keys.find(directory, key, ngx.time())
        if found and rates[found.tier] then
            context.key, context.tier = found, found.tier
        else
            context.is_stranger = true
        end
    end
    context.rights = rights[chain][context.tier]
    return context
end

-- "free" of limits, "keyed" or "public".
function M.kind(context)
    return not context.is_limited and "free" or context.key and "keyed" or "public"
end

-- Whether a key with which a WebSocket began is valid still.
function M.is_known(context)
    return not context.key or keys.known(directory, context.key.id, ngx.time()) ~= nil
end

-- Whether the address has more connections than its tier may, idle ones among them.
function M.has_too_many_connections(context)
    return context.is_limited and connections.of(context.address) > tiers[context.tier].connections
end

local function too_many(seconds, words, reason)
    local trouble = problem(calls.LIMIT, 429, reason or "rate", words .. string.format("; try again in %d s", seconds))
    trouble.seconds = seconds
    return trouble
end

local function bucket_of(context)
    return context.key and "key:" .. context.key.id or context.address
end

-- Nothing, or the problem of one who calls too often.
function M.charge(context, count)
    local at = now() * 1000
    if context.is_limited then
        local passes, seconds = limits.charge(buckets, bucket_of(context), count, rates[context.tier], at)
        if not passes then
            return too_many(seconds, "too many calls")
        end
    end
    local ceiling = ceilings[context.chain]
    if ceiling then
        local passes, seconds = limits.charge(buckets, "chain:" .. context.chain, count, ceiling, at)
        if not passes then
            return too_many(seconds, "the chain's limit for all callers is reached", "ceiling")
        end
    end
end

-- As charge, for what has not been read yet: nothing is charged.
function M.fault(context)
    if context.is_limited and not limits.has_room(buckets, bucket_of(context), rates[context.tier], now() * 1000) then
        return too_many(1, "too many calls")
    end
end

return M

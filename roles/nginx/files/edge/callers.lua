-- Who calls, and how often one may: tiers, API keys, rates.

local calls = require("edge.calls")
local connections = require("edge.connections")
local emergency = require("edge.emergency")
local keys = require("edge.keys")
local limits = require("edge.limits")

local buckets = ngx.shared.buckets
local now = ngx.now
local problem = calls.problem

local M = {}

local PUBLIC = "public"
local ZERO = ("0"):byte()
M.NO_PUBLIC = "this is not given without an API key for the time being"

local directory, rights
local tiers, rates, ceilings = {}, {}, {}
-- What the public may during an emergency: {connections, rate, rights by chain}.
local narrow

local function narrowed(facts)
    local public, limit = tiers[PUBLIC], {}
    for _, name in ipairs({ "requests_per_minute", "burst", "connections" }) do
        limit[name] = math.min(public[name], tonumber(facts[name]))
    end
    local paused = {}
    for _, method in ipairs(facts.paused_methods) do
        paused[method] = true
    end
    local found = { connections = limit.connections, rate = limits.rate(limit.requests_per_minute, 60, limit.burst), rights = {} }
    for chain, by_tier in pairs(rights) do
        local usual = by_tier[PUBLIC]
        found.rights[chain] = {
            methods = usual.methods,
            paused = paused,
            batch_calls = math.min(usual.batch_calls, limit.burst),
            log_blocks = usual.log_blocks,
        }
    end
    return found
end

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
    narrow = narrowed(facts.emergency)
end

-- What is said of callers whose address was seen lately, by $binary_remote_addr.
local MOST_REMEMBERED = 10000
local remembered, count = {}, 0

-- {address, network, text}: what limits.lua makes of an address, and nginx.
function M.caller(binary)
    local known = remembered[binary]
    if not known then
        if count >= MOST_REMEMBERED then
            remembered, count = {}, 0
        end
        known = { address = limits.address(binary), network = limits.network(binary), text = ngx.var.remote_addr }
        remembered[binary], count = known, count + 1
    end
    return known
end

-- What is known of a request before it is read.
function M.context(chain)
    local var = ngx.var
    local caller = M.caller(var.binary_remote_addr)
    -- One variable tells of most requests that they name no key: each that is read costs as much as all else here.
    local said = var.edge_said
    local context = {
        chain = chain,
        tier = PUBLIC,
        caller = caller,
        address = caller.address,
        is_limited = said:byte() ~= ZERO,
        calls = 0,
        methods = {},
    }
    local key = #said > 1 and keys.named(var.http_authorization, var.http_x_api_key)
    if key then
        local found = keys.find(directory, key, ngx.time())
        if found and rates[found.tier] then
            context.key, context.tier = found, found.tier
        else
            context.is_stranger = true
        end
    end
    context.rights = rights[chain][context.tier]
    -- What becomes of the public at this moment; one whose key is not valid is no better.
    local state = emergency.state()
    if state and M.kind(context) == "public" then
        context.emergency, context.ends, context.rights = state.public, state.ends, narrow.rights[chain]
    end
    return context
end

-- "free" of limits, "keyed" or "public".
function M.kind(context)
    return not context.is_limited and "free" or context.key and "keyed" or "public"
end

-- Why an open WebSocket may not stay, or nothing.
function M.fault(context)
    if context.key and not keys.known(directory, context.key.id, ngx.time()) then
        return "the API key is not valid any more"
    elseif M.kind(context) == "public" and emergency.state() then
        return M.NO_PUBLIC
    end
end

-- The problem of the public that is not served at all, or not by this.
function M.refusal(context)
    local trouble = problem(calls.LIMIT, 503, "emergency", M.NO_PUBLIC)
    trouble.seconds = math.min(600, math.max(1, (context.ends or ngx.time() + 60) - ngx.time()))
    return trouble
end

-- Whether the address has more connections than its tier may, idle ones among them.
function M.has_too_many_connections(context)
    local most = context.emergency and narrow.connections or tiers[context.tier].connections
    return context.is_limited and connections.of(context.address) > most
end

local function too_many(seconds, words, reason)
    local trouble = problem(calls.LIMIT, 429, reason or "rate", words .. string.format("; try again in %d s", seconds))
    trouble.seconds = seconds
    return trouble
end

-- The bucket that a caller's calls are charged to, and its rate.
local function bucket_of(context)
    if context.emergency then
        return "emergency:" .. context.address, narrow.rate
    end
    return context.key and "key:" .. context.key.id or context.address, rates[context.tier]
end

-- Nothing, or the problem of one who calls too often.
function M.charge(context, count)
    local at = now() * 1000
    if context.is_limited then
        local bucket, rate = bucket_of(context)
        local passes, seconds = limits.charge(buckets, bucket, count, rate, at)
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
function M.is_over(context)
    local bucket, rate = bucket_of(context)
    return context.is_limited and not limits.has_room(buckets, bucket, rate, now() * 1000) and too_many(1, "too many calls") or nil
end

return M

-- What a caller may ask for: methods by tier and chain, and how many blocks of logs. No nginx.

local calls = require("edge.calls")
local problem = calls.problem

local M = {}

-- Whatever is configured, these steer a node or hold its keys.
M.NEVER = { admin = true, engine = true, miner = true, personal = true, anvil = true, evm = true, hardhat = true }

-- From the facts {pools: {chain: {family}}, method_sets: [...], tiers: [...]} to chain -> tier's name -> rights, and the names of all
-- methods that some tier has on some chain.
function M.rights(facts)
    local sets, found, known = {}, {}, {}
    for _, set in ipairs(facts.method_sets) do
        sets[set.name] = set
    end
    local function holds(list, name)
        for _, one in ipairs(list) do
            if one == name then
                return true
            end
        end
        return #list == 0
    end
    for chain, about in pairs(facts.pools) do
        found[chain] = {}
        for _, tier in ipairs(facts.tiers) do
            local methods = {}
            for _, name in ipairs(tier.method_sets) do
                local set = sets[name]
                if holds(set.chains or {}, chain) and holds(set.families or {}, about.family) then
                    for _, method in ipairs(set.methods) do
                        if not M.NEVER[method:match("^[^_]*")] then
                            methods[method], known[method] = true, true
                        end
                    end
                end
            end
            found[chain][tier.name] = { methods = methods, batch_calls = tier.batch_calls, log_blocks = tier.log_blocks }
        end
    end
    return found, known
end

local TAGS = { latest = true, pending = true, safe = true, finalized = true }

-- What the chain has come to long ago, perhaps, where finality has stopped.
local SETTLED = { safe = true, finalized = true }

-- A block's number as a node would take it: hex, or a tag. Nil for what is neither.
local function block_of(value, head)
    if value == nil or value == calls.null or TAGS[value] then
        return head
    elseif value == "earliest" then
        return 0
    elseif type(value) == "string" and #value <= 15 and value:find("^0x%x+$") then
        return tonumber(value:sub(3), 16)
    end
end

local FILTER = { fromBlock = true, toBlock = true, address = true, topics = true, blockHash = true }

local function is_said(value)
    return value ~= nil and value ~= calls.null
end

-- One block's logs are no range; but a hash that some node reads as none, or beside a range, would be one.
local function fault_of_hash(filter)
    local hash = filter.blockHash
    local is_hash = type(hash) == "string" and #hash == 66 and hash:find("^0x%x+$")
    if not is_hash or is_said(filter.fromBlock) or is_said(filter.toBlock) then
        return problem(calls.PARAMS, 400, "params", "blockHash is 0x and 64 hex digits, and neither fromBlock nor toBlock beside it")
    end
end

local function fault_of_filter(filter, most, head, final)
    if type(filter) ~= "table" or filter == calls.null or filter[1] ~= nil then
        return problem(calls.PARAMS, 400, "params", "a filter is an object")
    end
    for name in pairs(filter) do
        if not FILTER[name] then
            return problem(calls.PARAMS, 400, "params", "a filter has fromBlock, toBlock, address, topics or blockHash, and nothing else")
        end
    end
    if is_said(filter.blockHash) then
        return fault_of_hash(filter)
    end
    local from = SETTLED[filter.fromBlock] and (final or 0) or block_of(filter.fromBlock, head)
    local to = block_of(filter.toBlock, head)
    if not from or not to then
        return problem(calls.PARAMS, 400, "params", "fromBlock and toBlock are 0x and hex digits, or latest, earliest, pending, safe or finalized")
    end
    if to - from + 1 > most then
        local words = string.format("logs of at most %d blocks at a time are given", most)
        return problem(calls.LIMIT, 400, "log_range", words)
    end
end

-- Methods with a filter of logs, and where in their params.
local FILTERED = { eth_getLogs = 1, eth_newFilter = 1, erigon_getLogs = 1, erigon_getLatestLogs = 1, bor_getLogs = 1, trace_filter = 1 }
local TRACE_FILTER = { fromBlock = true, toBlock = true, fromAddress = true, toAddress = true, after = true, count = true, mode = true }

local function fault_of_traces(filter, most, head, final)
    if type(filter) ~= "table" or filter == calls.null then
        return problem(calls.PARAMS, 400, "params", "a filter is an object")
    end
    for name in pairs(filter) do
        if not TRACE_FILTER[name] then
            return problem(calls.PARAMS, 400, "params", "a filter of traces has no member of that name")
        end
    end
    -- What is not said is the first block here, and the newest.
    local from = filter.fromBlock == nil and "earliest" or filter.fromBlock
    return fault_of_filter({ fromBlock = from, toBlock = filter.toBlock }, most, head, final)
end

local function fault_of_call(call, rights, head, final)
    if call.problem then
        return call.problem
    end
    if not rights.methods[call.method] then
        local name = #call.method <= 64 and call.method:gsub("[^%w_]", "?") or "the method"
        return problem(calls.NOT_ALLOWED, 403, "method", name .. " is not allowed here")
    end
    -- Allowed, but not for the time being.
    if rights.paused and rights.paused[call.method] then
        local trouble = problem(calls.LIMIT, 503, "emergency", call.method .. " is not given without an API key for the time being")
        trouble.seconds = 60
        return trouble
    end
    local at = FILTERED[call.method]
    if at then
        local filter = call.params and call.params[at]
        local judge = call.method == "trace_filter" and fault_of_traces or fault_of_filter
        return judge(filter, rights.log_blocks, head(), final())
    end
end

-- The first problem of a request, or nil where all of it may pass. Each call's own is noted in it. `head` gives the pool's best, `final`
-- the newest final block, nil where nobody knows.
function M.judge(request, rights, head, final)
    if #request.calls > rights.batch_calls then
        return problem(calls.LIMIT, 413, "batch", string.format("a batch holds at most %d calls", rights.batch_calls)), true
    end
    local first
    for _, call in ipairs(request.calls) do
        call.problem = fault_of_call(call, rights, head, final)
        first = first or call.problem
    end
    return first, false
end

return M

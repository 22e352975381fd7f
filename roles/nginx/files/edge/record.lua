-- What is counted and what is written down of each request: Prometheus' figures, and a line of JSON a request.
--
-- A worker counts in memory of its own and adds that to the shared dictionary twice a second, so that a request pays for none of it.

local M = {}

local dict -- set by start
local pending = {}
-- Seconds.
local BUCKETS = { 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10 }
local MOST_METHODS = 10

-- Per bucket, its metric's name without chain and method.
local BUCKET_NAMES = {}
for at = 1, #BUCKETS + 1 do
    local most = BUCKETS[at] or "+Inf"
    BUCKET_NAMES[most] = 'request_seconds_bucket{,le="' .. tostring(most) .. '"}'
end

function M.start(dictionary)
    dict = dictionary
end

local function add(name, value)
    if ngx.worker.exiting() then
        -- A worker that only ends what it has, such as WebSockets after a reload, has no timers any more.
        dict:incr(name, value, 0)
        return
    end
    pending[name] = (pending[name] or 0) + value
end

-- Names of counts by chain, method and metric. All are of the configuration's words, so there are not many.
local names = {}

local function name_of(chain, method, metric)
    local of_chain = names[chain]
    if not of_chain then
        of_chain = {}
        names[chain] = of_chain
    end
    local of_method = of_chain[method]
    if not of_method then
        of_method = {}
        of_chain[method] = of_method
    end
    local name = of_method[metric]
    if not name then
        name = metric:gsub("{", '{chain="' .. chain .. '",method="' .. method .. '"', 1)
        of_method[metric] = name
    end
    return name
end

-- Count something once: its metric's name, and its labels as Prometheus writes them. Labels come from configuration only.
function M.count(metric, labels, value)
    add(metric .. "{" .. labels .. "}", value or 1)
end

-- Count a call by its method.
function M.call(chain, method)
    add(name_of(chain, method, "calls_total{}"), 1)
end

local function bucket_of(seconds)
    for _, most in ipairs(BUCKETS) do
        if seconds <= most then
            return most
        end
    end
    return "+Inf"
end

-- The buckets are summed up where they are read.
function M.time(chain, method, seconds)
    add(name_of(chain, method, BUCKET_NAMES[bucket_of(seconds)]), 1)
    add(name_of(chain, method, "request_seconds_sum{}"), seconds)
end

-- Hand over what was counted here since the last time.
function M.flush()
    local counted = pending
    pending = {}
    for name, value in pairs(counted) do
        dict:incr(name, value, 0)
    end
end

local HELP = {
    { "calls_total", "counter", "Calls by method, those of batches and WebSockets among them; methods that nobody may call are one." },
    { "refusals_total", "counter", "Requests and WebSocket messages that were refused, by why." },
    { "key_calls_total", "counter", "Calls by API key." },
    { "cache_total", "counter", "Calls that have an answer which cannot change, by whether it was there." },
    { "connections_refused_total", "counter", "Handshakes that were refused, because their address has too many connections." },
    { "websockets_ended_total", "counter", "WebSockets that have ended, by why." },
    { "request_seconds", "histogram", "From a request's first byte to its answer's last; a batch is method batch." },
}

local function histogram(lines, entries)
    local series = {}
    for name, value in pairs(entries) do
        local labels, most = name:match('^request_seconds_bucket{(.*),le="(.-)"}$')
        if labels then
            series[labels] = series[labels] or {}
            series[labels][most] = value
        end
    end
    for labels, counts in pairs(series) do
        local sum = 0
        for _, most in ipairs(BUCKETS) do
            sum = sum + (counts[tostring(most)] or 0)
            lines[#lines + 1] = string.format('edge_request_seconds_bucket{%s,le="%s"} %d', labels, most, sum)
        end
        sum = sum + (counts["+Inf"] or 0)
        lines[#lines + 1] = string.format('edge_request_seconds_bucket{%s,le="+Inf"} %d', labels, sum)
        lines[#lines + 1] = string.format("edge_request_seconds_count{%s} %d", labels, sum)
        lines[#lines + 1] = string.format("edge_request_seconds_sum{%s} %s", labels, entries["request_seconds_sum{" .. labels .. "}"] or 0)
    end
end

-- Add the figures to lines of Prometheus' text format.
function M.metrics(lines)
    M.flush()
    local entries = {}
    for _, name in ipairs(dict:get_keys(0)) do
        entries[name] = dict:get(name)
    end
    for _, metric in ipairs(HELP) do
        local name, kind, help = metric[1], metric[2], metric[3]
        lines[#lines + 1] = "# HELP edge_" .. name .. " " .. help
        lines[#lines + 1] = "# TYPE edge_" .. name .. " " .. kind
        if kind == "histogram" then
            histogram(lines, entries)
        else
            for entry, value in pairs(entries) do
                if entry:sub(1, #name + 1) == name .. "{" then
                    lines[#lines + 1] = "edge_" .. entry .. " " .. value
                end
            end
        end
    end
end

-- What a method counts as, as a list of one: itself where it is `known`, else "other".
function M.labels(known)
    local labels = {}
    for method in pairs(known) do
        labels[method] = { method }
    end
    local other = { "other" }
    return setmetatable(labels, {
        __index = function()
            return other
        end,
    })
end

-- The distinct methods of calls, as labels.
function M.methods(calls, labels)
    local found, seen = {}, {}
    for _, call in ipairs(calls) do
        local label = labels[call.method][1]
        if not seen[label] and #found < MOST_METHODS then
            seen[label] = true
            found[#found + 1] = label
        end
    end
    return found
end

-- What a request counts as among methods.
function M.label(context)
    return context.is_batch and "batch" or context.methods[1] or "none"
end

local function text(value)
    return value and '"' .. value .. '"' or "null"
end

-- The line of the access log for a request of which `context` says what is known. Nothing in it is a caller's own text but the address.
function M.line(context, time, status, node, seconds, bytes)
    local methods, caller, key = context.methods, context.caller, context.key
    return string.format(
        '{"time":"%s","chain":"%s","client":"%s","network":%s,"transport":"%s","calls":%d,"methods":[%s],"key":%s,"tier":%s,"status":%d,'
            .. '"refused":%s,"cache":%s,"node":%s,"seconds":%.3f,"bytes":%d}',
        time,
        context.chain,
        caller.text,
        text(caller.network),
        context.is_socket and "websocket" or "http",
        context.calls,
        methods[1] and '"' .. table.concat(methods, '","') .. '"' or "",
        text(key and key.name),
        text(context.tier),
        status,
        text(context.refused),
        text(context.cache),
        text(node),
        seconds,
        bytes
    )
end

return M

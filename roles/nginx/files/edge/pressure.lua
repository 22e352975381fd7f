-- How much is in flight, and who is refused at once because it is as much as is taken: no queue grows. A request is in flight from when it
-- is to be sent to a node until its answer has gone; a batch is one, because that is what a node carries out one after the other.

local held = require("edge.held")

local M = {}

local REQUESTS = "requests"
local bounds, share, most_sockets
-- What a chain's requests are counted as.
local names = {}

-- init_by_lua: what the facts of pools.json say under `pressure`.
function M.start(facts)
    bounds = { edge = tonumber(facts.requests), chain = tonumber(facts.chain_requests) }
    share = tonumber(facts.public_percent) / 100
    most_sockets = tonumber(facts.websockets)
end

-- A caller is "free" (of limits), "keyed" or "public".
local function room(bound, kind)
    return kind == "free" and math.huge or kind == "public" and math.max(1, math.floor(bound * share)) or bound
end

local function name_of(chain)
    local name = names[chain]
    if not name then
        name = REQUESTS .. ":" .. chain
        names[chain] = name
        held.remember(name)
        held.remember(REQUESTS)
    end
    return name
end

-- Count a request as in flight; false, and it is not, where there is no room for it.
function M.enter(chain, kind)
    if held.add(REQUESTS, 1) <= room(bounds.edge, kind) then
        if held.add(name_of(chain), 1) <= room(bounds.chain, kind) then
            return true
        end
        held.add(name_of(chain), -1)
    end
    held.add(REQUESTS, -1)
    return false
end

function M.leave(chain)
    held.add(REQUESTS, -1)
    held.add(name_of(chain), -1)
end

-- Whether a WebSocket's message is refused. What becomes of it at the node is not known, so it is not counted.
function M.is_full(chain, kind)
    return held.get(REQUESTS) >= room(bounds.edge, kind) or held.get(name_of(chain)) >= room(bounds.chain, kind)
end

-- As enter and leave, for a WebSocket.
function M.open(kind)
    if held.add("sockets", 1) <= room(most_sockets, kind) then
        return true
    end
    held.add("sockets", -1)
    return false
end

function M.close()
    held.add("sockets", -1)
end

-- More or fewer subscriptions of open WebSockets; each WebSocket has a bound of its own.
function M.subscribe(change)
    if change ~= 0 then
        held.add("subscriptions", change)
    end
end

-- Add what is held to lines of Prometheus' text format.
function M.metrics(lines, chains)
    local function gauge(name, text, each)
        lines[#lines + 1] = "# HELP edge_" .. name .. " " .. text
        lines[#lines + 1] = "# TYPE edge_" .. name .. " gauge"
        each(function(labels, value)
            lines[#lines + 1] = "edge_" .. name .. labels .. " " .. value
        end)
    end
    gauge("connections", "Callers' open connections; those of proxies and of unlimited networks are not counted.", function(add)
        add("", held.get("connections"))
    end)
    gauge("websockets", "Callers' open WebSockets.", function(add)
        add("", held.get("sockets"))
    end)
    gauge("subscriptions", "Subscriptions of callers' open WebSockets.", function(add)
        add("", held.get("subscriptions"))
    end)
    gauge("requests_in_flight", "Requests that are at a node, or whose answer is on its way.", function(add)
        for _, chain in ipairs(chains) do
            add('{chain="' .. chain .. '"}', held.get(name_of(chain)))
        end
    end)
    gauge("requests_in_flight_limit", "How many there may be; the edge's, and each chain's.", function(add)
        add('{of="edge"}', bounds.edge)
        add('{of="chain"}', bounds.chain)
    end)
end

return M

-- How the pools stand, for who asks: edge-pools as JSON, Prometheus as its text.

local cjson = require("cjson.safe")
local emergency = require("edge.emergency")
local held = require("edge.held")
local judge = require("edge.judge")
local pools = require("edge.pools")

local dict = ngx.shared.pools
local now = ngx.now

local M = {}

local facts -- pools.json
local loaded_at -- when nginx read what it runs with, in seconds since 1970

-- init_by_lua, after the pools know their nodes.
function M.start(about)
    facts = about
    ngx.update_time()
    loaded_at = now()
end

-- What the workers that live have counted: key of a node -> {calls_begun, calls_ended, sockets_begun, sockets_ended}.
local function counted()
    local found, alive = {}, {}
    for _, pool in pairs(facts.pools) do
        for _, node in ipairs(pool.nodes) do
            found[node.key] = { calls_begun = 0, calls_ended = 0, sockets_begun = 0, sockets_ended = 0 }
        end
    end
    for _, name in ipairs(dict:get_keys(0)) do
        local counter, pid, key = name:match("^(%l+_%l+):(%d+):(.+)$")
        local counts = counter and found[key]
        if counts then
            if alive[pid] == nil then
                alive[pid] = held.is_alive(pid)
            end
            if alive[pid] then
                counts[counter] = counts[counter] + (dict:get(name) or 0)
            else
                dict:delete(name)
            end
        end
    end
    return found
end

-- Everything that is known: {loaded_at, polled_seconds_ago, emergency, pools: {chain: {members, retries, nodes: [...]}}}.
local function report()
    local known, counts_of, found = pools.states(), counted(), {}
    for chain, pool in pairs(facts.pools) do
        local listed = {}
        for at, node in ipairs(pool.nodes) do
            local state, counts = known[node.key] or {}, counts_of[node.key]
            listed[at] = {
                host = node.host,
                member = state.member or false,
                drained = state.drained or false,
                reason = state.drained and "drained" or state.reason or "not asked yet",
                share = state.member and judge.share(state.since, now(), facts.slow_start_seconds) or 0,
                reached = dict:get(node.avoid) == nil,
                head = state.head,
                head_age_seconds = state.age,
                calls = counts.calls_begun - counts.calls_ended,
                calls_begun = counts.calls_begun,
                sockets = counts.sockets_begun - counts.sockets_ended,
            }
        end
        found[chain] = {
            members = #pools.members(chain),
            retries = dict:get("retries:" .. chain) or 0,
            nodes = listed,
        }
    end
    local polled = dict:get("polled")
    return {
        loaded_at = loaded_at,
        polled_seconds_ago = polled and now() - polled,
        pools = found,
        emergency = emergency.state() or cjson.null,
    }
end

-- content_by_lua of the status socket: JSON.
function M.status()
    ngx.header["Content-Type"] = "application/json"
    ngx.say(cjson.encode(report()))
end

-- The pools as lines of Prometheus' text format.
function M.metrics()
    local lines = {}
    local known = report()
    local function metric(name, kind, text, each)
        lines[#lines + 1] = "# HELP edge_" .. name .. " " .. text
        lines[#lines + 1] = "# TYPE edge_" .. name .. " " .. kind
        for chain, pool in pairs(known.pools) do
            each(chain, pool, function(labels, value)
                lines[#lines + 1] = string.format('edge_%s{chain="%s"%s} %s', name, chain, labels, value)
            end)
        end
    end
    local function of_nodes(value)
        return function(_, pool, add)
            for _, node in ipairs(pool.nodes) do
                add(',host="' .. node.host .. '"', value(node))
            end
        end
    end
    metric("pool_members", "gauge", "Nodes that calls are sent to.", function(_, pool, add)
        add("", pool.members)
    end)
    metric("pool_retries_total", "counter", "Calls that were sent on to a further node.", function(_, pool, add)
        add("", pool.retries)
    end)
    metric("node_member", "gauge", "1 for a node that calls are sent to.", of_nodes(function(node)
        return node.member and 1 or 0
    end))
    metric("node_drained", "gauge", "1 for a node that is drained.", of_nodes(function(node)
        return node.drained and 1 or 0
    end))
    metric("node_reached", "gauge", "0 for a node to which a call could not connect.", of_nodes(function(node)
        return node.reached and 1 or 0
    end))
    metric("node_calls", "gauge", "Calls in flight.", of_nodes(function(node)
        return node.calls
    end))
    metric("node_calls_total", "counter", "Calls sent there since the edge's processes began.", of_nodes(function(node)
        return node.calls_begun
    end))
    metric("node_sockets", "gauge", "Open WebSockets.", of_nodes(function(node)
        return node.sockets
    end))
    return lines
end

return M

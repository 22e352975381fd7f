-- What is done and written down when a request is over, however it ended.

local kept = require("edge.kept")
local limits = require("edge.limits")
local pools = require("edge.pools")
local pressure = require("edge.pressure")
local record = require("edge.record")
local refusals = require("edge.refusals")
local requests = require("edge.requests")

local M = {}

local told_at, told_time, told_day

-- Now, as ISO 8601 in UTC, and its day; put into words once a second.
local function clock()
    local at = ngx.time()
    if at ~= told_at then
        told_at, told_time = at, os.date("!%Y-%m-%dT%H:%M:%SZ", at)
        told_day = told_time:sub(1, 10)
    end
    return told_time, told_day
end

-- log_by_lua: give back what was held, count, and write the line of the log.
function M.done(chain)
    local var = ngx.var
    local context = requests.over() or { chain = chain, methods = {}, calls = 0 }
    if context.has_room then
        pressure.leave(context.chain)
    end
    if context.has_socket then
        pressure.close()
    end
    kept.over(context)
    local node = pools.done()
    -- What nginx itself has ended, without an answer or before it was known whose it is.
    local reason = not context.address and refusals.reason(ngx.status) or not node and ngx.status == 408 and "slow"
    if reason and not context.refused then
        refusals.count(context, reason)
    end
    local seconds = ngx.now() - ngx.req.start_time()
    if not context.is_socket and not context.refused then
        record.time(context.chain, record.label(context), seconds)
    end
    local time, day = clock()
    var.edge_log = "access-" .. day .. ".log"
    -- Who comes by a proxy is not who connects, so that no ban at this host would reach him.
    local is_direct = var.remote_addr == var.realip_remote_addr
    var.edge_offence = refusals.OFFENCES[context.refused] and is_direct and var.limited ~= "0" and "offences.log" or ""
    var.edge_line = record.line({
        time = time,
        chain = context.chain,
        client = var.remote_addr,
        network = limits.network(var.binary_remote_addr),
        transport = context.is_socket and "websocket" or "http",
        calls = context.calls,
        methods = context.methods,
        key = context.key and context.key.name,
        tier = context.tier,
        status = ngx.status,
        refused = context.refused,
        cache = context.cache,
        node = node,
        seconds = seconds,
        bytes = tonumber(var.bytes_sent) or 0,
    })
end

return M

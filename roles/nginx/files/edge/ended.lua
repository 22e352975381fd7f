-- What is done and written down when a request is over, however it ended.

local bodies = require("edge.bodies")
local callers = require("edge.callers")
local journal = require("edge.journal")
local kept = require("edge.kept")
local pools = require("edge.pools")
local pressure = require("edge.pressure")
local record = require("edge.record")
local refusals = require("edge.refusals")
local requests = require("edge.requests")

local M = {}

local told_at, told_time

-- Now, as ISO 8601 in UTC; put into words once a second.
local function clock()
    local at = ngx.time()
    if at ~= told_at then
        told_at, told_time = at, os.date("!%Y-%m-%dT%H:%M:%SZ", at)
    end
    return told_time
end

-- What is known of a request that has ended before it was known whose it is.
local function unknown(chain)
    local caller = callers.caller(ngx.var.binary_remote_addr)
    return { chain = chain, caller = caller, is_limited = ngx.var.limited ~= "0", is_unknown = true, methods = {}, calls = 0 }
end

-- log_by_lua: give back what was held, count, and write the line of the log.
function M.done(chain)
    local context = requests.over() or unknown(chain)
    if context.has_room then
        pressure.leave(context.chain)
    end
    if context.has_socket then
        pressure.close()
    end
    kept.over(context)
    bodies.over(context)
    local status = ngx.status
    local node = pools.done(context, status)
    local refused = context.refused
    if not refused then
        -- What nginx itself has ended, without an answer or before it was known whose it is.
        refused = context.is_unknown and refusals.reason(status) or not node and (status == 408 or context.is_slow) and "slow" or nil
        if refused then
            refusals.count(context, refused)
        end
    end
    local var = ngx.var
    local seconds = ngx.now() - ngx.req.start_time()
    if not refused and not context.is_socket then
        record.time(context.chain, record.label(context), seconds)
    end
    local line = record.line(context, clock(), status, node, seconds, tonumber(var.bytes_sent) or 0)
    journal.add(line)
    -- Who comes by a proxy is not who connects, so that no ban at this host would reach him.
    if refusals.OFFENCES[refused] and context.is_limited and var.remote_addr == var.realip_remote_addr then
        var.edge_line, var.edge_offence = line, "offences.log"
    end
end

return M

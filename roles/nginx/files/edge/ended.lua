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

-- A time as ISO 8601 in UTC; put into words once a second.
local function clock(at)
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

-- A request's line, of what was known of it when it was over.
local function line_of(context)
    return record.line(context, clock(context.ended_at), context.status, context.node, context.seconds, context.bytes)
end

-- Requests that are over and neither counted nor written down yet: many at a stroke cost less each than one between two others' steps.
-- So many take a tenth of a millisecond or two, for which the calls that come meanwhile wait.
local MOST_WAITING = 100
local waiting, count = {}, 0

-- Count and write down what waits. Called twice a second, and when the worker ends.
function M.flush()
    local over, many = waiting, count
    waiting, count = {}, 0
    for at = 1, many do
        local context = over[at]
        if context.uncounted then
            record.call(context.chain, context.uncounted)
        end
        if not context.refused and not context.is_socket then
            record.time(context.chain, record.label(context), context.seconds)
        end
        journal.add(line_of(context))
    end
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
    if context.subscriptions then
        pressure.subscribe(-context.subscriptions.count)
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
    context.status, context.node, context.ended_at = status, node, ngx.time()
    context.seconds, context.bytes = ngx.now() - ngx.req.start_time(), tonumber(var.bytes_sent) or 0
    count = count + 1
    waiting[count] = context
    -- A worker that only ends what it has, such as WebSockets after a reload, has no timers any more.
    if count >= MOST_WAITING or ngx.worker.exiting() then
        M.flush()
    end
    -- Who comes by a proxy is not who connects, so that no ban at this host would reach him.
    if refused and refusals.OFFENCES[refused] and context.is_limited and var.remote_addr == var.realip_remote_addr then
        var.edge_line, var.edge_offence = line_of(context), "offences.log"
    end
end

return M

-- What nginx runs for a caller's request, phase by phase: who it is, what it may, how often, and what is kept of it.

local cjson = require("cjson.safe")
local bodies = require("edge.bodies")
local cache = require("edge.cache")
local callers = require("edge.callers")
local calls = require("edge.calls")
local complaints = require("edge.complaints")
local connections = require("edge.connections")
local emergency = require("edge.emergency")
local finality = require("edge.finality")
local held = require("edge.held")
local limits = require("edge.limits")
local pools = require("edge.pools")
local pressure = require("edge.pressure")
local record = require("edge.record")
local rules = require("edge.rules")
local sockets = require("edge.sockets")

local shared, answers = ngx.shared.pools, ngx.shared.answers
local now = ngx.now

local M = {}

-- A fetch that takes longer is no longer waited for.
local FETCH_SECONDS, WAIT_SECONDS = 10, 2
local problem = calls.problem

-- Refusals for which an address may be banned (the role detection), where it goes on with them. The whole chain's ceiling is no caller's fault.
local OFFENCES = {
    key = true,
    method = true,
    rate = true,
    connections = true,
    parse = true,
    invalid = true,
    handshake = true,
    length = true,
    path = true,
    http_method = true,
    http = true,
    slow = true,
}

local facts, rights, known
local chains = {}
-- A request's context by $edge_request: internal redirects lose ngx.ctx.
local contexts = {}

-- init_by_lua: read what is configured.
function M.start(path)
    local file = assert(io.open(path))
    facts = assert(cjson.decode(file:read("*a")))
    file:close()
    -- Inventories write numbers as text as well.
    for _, list in ipairs({ facts.tiers, facts.ceilings }) do
        for _, one in ipairs(list) do
            for name, value in pairs(one) do
                one[name] = tonumber(value) or value
            end
        end
    end
    rights, known = rules.rights(facts)
    emergency.start(facts.emergency.file)
    callers.start(facts, rights)
    for chain in pairs(facts.pools) do
        chains[#chains + 1] = chain
    end
    record.start(ngx.shared.figures)
    bodies.start(tonumber(facts.body_seconds))
    pressure.start(facts.pressure)
    sockets.start(facts.sockets)
    pools.start(facts)
end

local function every(seconds, name, action)
    local function tick(premature)
        if premature or (name and not shared:add(name, true, seconds * 0.8)) then
            return
        end
        local ok, trouble = pcall(action)
        if not ok then
            ngx.log(ngx.ERR, "the edge's work in the background failed: ", trouble)
        end
    end
    assert(ngx.timer.every(seconds, tick))
end

-- init_worker_by_lua: begin what goes on beside requests.
function M.work()
    pools.work()
    held.work()
    emergency.look()
    every(emergency.LOOK_SECONDS, nil, emergency.look)
    every(0.5, "mend", held.mend)
    every(0.5, nil, held.follow)
    every(0.5, nil, connections.look)
    every(0.5, nil, record.flush)
    every(0.5, nil, complaints.flush)
    every(finality.SECONDS, "finality", function()
        finality.poll(chains)
    end)
end

local kept_up = 0

-- A worker that only ends what it has, such as WebSockets after a reload, has no timers any more: its WebSockets do what those did.
local function keep_up()
    if ngx.worker.exiting() and now() - kept_up >= emergency.LOOK_SECONDS then
        kept_up = now()
        emergency.look()
        held.follow()
        connections.look()
    end
end

local function current()
    return ngx.ctx.edge or contexts[ngx.var.edge_request]
end

-- rewrite_by_lua: who calls. The variables that it sets are what nginx counts connections by.
function M.enter(chain)
    local var = ngx.var
    local id = var.edge_request
    if contexts[id] then
        return
    end
    local context = callers.context(chain)
    contexts[id], ngx.ctx.edge = context, context
    if context.is_limited then
        var.edge_caller, var.edge_tier = context.address, context.tier
        var.edge_narrow = callers.narrow_name(context)
    end
end

local function label_of(context)
    local methods = context.methods
    return context.is_batch and "batch" or methods[1] or "none"
end

local function count_refusal(context, trouble)
    context.refused = trouble.reason
    local labels = string.format('chain="%s",method="%s",reason="%s"', context.chain, label_of(context), trouble.reason)
    record.count("refusals_total", labels)
end

local function refuse(context, request, trouble, is_each)
    local header = ngx.header
    ngx.status = trouble.status
    header["Content-Type"] = "application/json"
    if trouble.status == 429 or trouble.status == 503 then
        header["Retry-After"] = tostring(trouble.seconds or 1)
    elseif trouble.status == 401 then
        header["WWW-Authenticate"] = "Bearer"
    elseif trouble.status == 405 then
        header["Allow"] = "POST"
    end
    count_refusal(context, trouble)
    ngx.print(calls.refusal(request, not is_each and trouble or nil))
    return ngx.exit(ngx.HTTP_OK)
end

-- Note a request's calls for the log and the figures.
local function note(context, request)
    context.calls = context.calls + #request.calls
    context.is_batch = request.batch
    context.methods = record.methods(request.calls, known)
    for _, call in ipairs(request.calls) do
        local method = known[call.method] and call.method or "other"
        record.count("calls_total", 'chain="' .. context.chain .. '",method="' .. method .. '"')
    end
    if context.key then
        local labels = string.format('chain="%s",key="%s",tier="%s"', context.chain, context.key.name, context.tier)
        record.count("key_calls_total", labels, #request.calls)
    end
end

-- Read a body and hold it against all rules. Gives the request where one could be read, the problem, and whether each call has its own.
local function judged(context, body)
    local early = #body > calls.LONGEST and callers.is_over(context)
    if early then
        return nil, early
    end
    local request, trouble = calls.read(body)
    if request then
        note(context, request)
    end
    local over = callers.charge(context, request and math.min(#request.calls, context.rights.batch_calls) or 1)
    if over or not request then
        return request, over or trouble
    end
    local fault, is_whole = rules.judge(request, context.rights, pools.head(context.chain) or 0)
    if is_whole then
        return nil, fault
    end
    return request, fault, true
end

local BUSY = problem(calls.LIMIT, 503, "busy", "the edge has as many requests in flight as it takes; try again")

-- Nothing, or the problem of a request for which there is no room.
local function take_room(context)
    if not context.has_room then
        context.has_room = pressure.enter(context.chain, callers.kind(context))
    end
    return not context.has_room and BUSY or nil
end

local function count_cache(context, outcome)
    context.cache = outcome
    local labels = string.format('chain="%s",method="%s",outcome="%s"', context.chain, label_of(context), outcome)
    record.count("cache_total", labels)
end

-- The kept result of a call, after waiting for who fetches it; nil where it is to be asked for. One who waits takes room as well.
local function kept_result(context, call)
    local name = cache.name(context.chain, context.tier, call, finality.of(context.chain))
    if not name then
        return nil
    end
    local lock = "fetch " .. name
    local waited, pause = 0, 0.001
    while true do
        local result = answers:get(name)
        if result then
            count_cache(context, waited > 0 and "waited" or "hit")
            return result
        end
        if answers:add(lock, "begun", FETCH_SECONDS) then
            context.fetch = { name = name, lock = lock, call = call, parts = {}, size = 0 }
            count_cache(context, "miss")
            -- What is kept must be readable.
            ngx.req.clear_header("Accept-Encoding")
            return nil
        end
        if waited >= WAIT_SECONDS or answers:get(lock) == "failed" or take_room(context) then
            count_cache(context, "passed")
            return nil
        end
        ngx.sleep(pause)
        waited, pause = waited + pause, math.min(pause * 2, 0.02)
    end
end

local function unavailable(chain)
    return problem(calls.UNAVAILABLE, 503, "no_node", "no node of " .. facts.pools[chain].title .. " is in step; try again")
end

local NO_KEY = problem(calls.NO_KEY, 401, "key", "the API key is not valid")
local ONLY_POST = problem(calls.INVALID, 405, "http_method", "calls are POSTed")

local function open_socket(context)
    local fault = sockets.fault()
    local trouble = callers.charge(context, 1) or fault and problem(calls.INVALID, 400, "handshake", fault)
    if context.emergency then
        trouble = trouble or callers.refusal(context)
    end
    if not trouble and #pools.members(context.chain) == 0 then
        trouble = unavailable(context.chain)
    end
    if not trouble then
        context.has_socket = pressure.open(callers.kind(context))
        trouble = not context.has_socket and BUSY or nil
    end
    if trouble then
        return refuse(context, nil, trouble)
    end
    return ngx.exec("@websocket")
end

local function pass(context)
    local method, upgrade = ngx.req.get_method(), ngx.var.http_upgrade
    if context.is_stranger then
        local body = method == "POST" and bodies.read()
        return refuse(context, calls.peek(body), callers.charge(context, 1) or NO_KEY)
    end
    if method == "GET" and upgrade and upgrade:lower() == "websocket" then
        return open_socket(context)
    end
    if method ~= "POST" then
        return refuse(context, nil, callers.charge(context, 1) or ONLY_POST)
    end
    local body, trouble = bodies.read()
    if not body then
        return refuse(context, nil, callers.charge(context, 1) or trouble)
    end
    local request, fault, is_each = judged(context, body)
    if fault then
        return refuse(context, request, fault, is_each)
    end
    if #pools.members(context.chain) == 0 then
        return refuse(context, request, unavailable(context.chain))
    end
    if ngx.var.args then
        ngx.req.set_uri_args("")
    end
    if not request.batch then
        local call = request.calls[1]
        local result = not call.silent and kept_result(context, call)
        if result then
            ngx.header["Content-Type"] = "application/json"
            ngx.print(cache.answer(call.id, result))
            return ngx.exit(ngx.HTTP_OK)
        end
    end
    local busy = take_room(context)
    if busy then
        return refuse(context, request, busy)
    end
    if context.fetch then
        return ngx.exec("@fetch")
    end
    if not calls.repeatable(request) then
        return ngx.exec("@once")
    end
end

local function safely(action)
    local context = current()
    local ok, trouble = pcall(action, context)
    if not ok then
        complaints.say("a request could not be judged: ", tostring(trouble))
        if ngx.headers_sent then
            return ngx.exit(ngx.ERROR)
        end
        return refuse(context, nil, problem(calls.INTERNAL, 500, "internal", "the edge failed"))
    end
end

-- Nothing, or an answer that closes the connection and for which no body is read: to one of an address that has too many connections, idle
-- ones among them, and to the public while it is not served at all.
local function turn_away(context)
    if context.emergency == "refused" then
        context.turned_away = callers.refusal(context)
    end
    if context.turned_away or callers.has_too_many_connections(context) then
        return ngx.exit(429)
    end
end

-- access_by_lua: refuse what may not pass, answer what is kept, and send what must not be sent twice the way where it is not.
function M.pass()
    return safely(function(context)
        turn_away(context)
        return pass(context)
    end)
end

-- content_by_lua of a WebSocket.
function M.socket()
    return safely(function(context)
        local node, socket = sockets.connect(context.chain)
        if not node then
            return refuse(context, nil, problem(calls.UNAVAILABLE, 503, "no_node", "no node could be reached; try again"))
        end
        pools.hold(node, true)
        context.is_socket = true
        local function fault()
            keep_up()
            return callers.fault(context)
        end
        local why = sockets.run(socket, {
            most_bytes = facts.most_socket_bytes,
            fault = fault,
            judge = function(text)
                local ended = fault()
                if ended then
                    return false, nil, ended
                end
                local request, trouble, is_each = judged(context, text)
                if not trouble and pressure.is_full(context.chain, callers.kind(context)) then
                    trouble, is_each = BUSY, false
                end
                if not trouble then
                    return true
                end
                count_refusal(context, trouble)
                return false, calls.refusal(request, not is_each and trouble or nil), trouble.seconds
            end,
        })
        record.count("websockets_ended_total", string.format('chain="%s",why="%s"', context.chain, why or "failed"))
    end)
end

-- body_filter_by_lua of requests that fetch for all, and of no others, as each part of an answer costs a step into Lua: keep the answer.
function M.filter()
    local context = current()
    local fetch = context and context.fetch
    if not fetch then
        return
    end
    local part, is_last = ngx.arg[1], ngx.arg[2]
    fetch.size = fetch.size + #part
    if fetch.size <= cache.LONGEST then
        fetch.parts[#fetch.parts + 1] = part
    end
    if is_last and ngx.status == 200 and fetch.size <= cache.LONGEST then
        local about = { chain_id = facts.pools[context.chain].id, finalised = finality.of(context.chain) }
        local result = cache.result(fetch.call, table.concat(fetch.parts), about)
        if result then
            answers:set(fetch.name, result, cache.SECONDS)
            answers:delete(fetch.lock)
            context.fetch = nil
        end
    end
end

-- content_by_lua where every attempt has failed.
function M.failed()
    return safely(function(context)
        local reached, is_late = pools.fate()
        local body = ngx.req.get_method() == "POST" and bodies.read() or nil
        local request = calls.peek(body)
        if not reached then
            return refuse(context, request, problem(calls.UNAVAILABLE, 503, "unreached", "no node could be reached; try again"))
        end
        local words = is_late and "the node did not answer in time" or "the node broke off its answer"
        if not calls.repeatable(request) then
            words = words .. "; it may have done what was asked, so look before you send it again"
        end
        return refuse(context, request, problem(calls.INTERNAL, is_late and 504 or 502, "node", words))
    end)
end

local ELSEWHERE = problem(calls.INVALID, 404, "path", "calls are POSTed to /")

-- access_by_lua of every path but one.
function M.elsewhere()
    return safely(function(context)
        turn_away(context)
        return refuse(context, nil, callers.charge(context, 1) or ELSEWHERE)
    end)
end

local WORDS = {
    [408] = "the request did not come in time",
    [413] = "the body is too large",
    [414] = "the request's first line is too long",
    [429] = "too many requests or connections at once",
    [494] = "the headers are too large",
}
local REASONS = { [408] = "slow", [413] = "size", [429] = "connections" }

-- content_by_lua of what nginx itself refuses.
function M.refused(chain)
    local context = current() or { chain = chain, methods = {} }
    local status = ngx.status
    if context.turned_away then
        return refuse(context, nil, context.turned_away)
    end
    local is_limit = status == 413 or status == 429
    local code = is_limit and calls.LIMIT or calls.INVALID
    local reason = REASONS[status] or "http"
    local words = WORDS[status] or "it is no HTTP request that is understood"
    -- The body is not waited for, which is what one who holds connections wants.
    return refuse(context, nil, problem(code, status == 494 and 431 or status, reason, words))
end

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

-- log_by_lua: the request is over, however it ended.
function M.done(chain)
    local var = ngx.var
    local context = current() or { chain = chain, methods = {}, calls = 0 }
    contexts[var.edge_request] = nil
    if context.has_room then
        pressure.leave(context.chain)
    end
    if context.has_socket then
        pressure.close()
    end
    local fetch = context.fetch
    if fetch then
        -- Who waits for it asks for himself, and for a moment everybody does.
        answers:set(fetch.lock, "failed", 0.2)
    end
    local node = pools.done()
    -- What nginx itself has ended, without an answer or before it was known whose it is.
    local reason = not context.address and (REASONS[ngx.status] or "http") or not node and ngx.status == 408 and "slow"
    if reason and not context.refused then
        count_refusal(context, { reason = reason })
    end
    local seconds = now() - ngx.req.start_time()
    if not context.is_socket and not context.refused then
        record.time(context.chain, label_of(context), seconds)
    end
    local time, day = clock()
    var.edge_log = "access-" .. day .. ".log"
    -- Who comes by a proxy is not who connects, so that no ban at this host would reach him.
    local is_direct = var.remote_addr == var.realip_remote_addr
    var.edge_offence = OFFENCES[context.refused] and is_direct and var.limited ~= "0" and "offences.log" or ""
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

-- content_by_lua of the status socket: Prometheus' text format.
function M.metrics()
    local lines = pools.metrics()
    pressure.metrics(lines, chains)
    emergency.metrics(lines)
    record.metrics(lines)
    ngx.header["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
    ngx.say(table.concat(lines, "\n"))
end

return M

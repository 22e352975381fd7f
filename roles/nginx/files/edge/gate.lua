-- What nginx runs for a caller's request, phase by phase: who it is, what it may, and how often. refusals.lua says how one is refused,
-- kept.lua what is answered from memory, ended.lua what is done when it is over.

local cjson = require("cjson.safe")
local bodies = require("edge.bodies")
local cache = require("edge.cache")
local callers = require("edge.callers")
local calls = require("edge.calls")
local complaints = require("edge.complaints")
local connections = require("edge.connections")
local emergency = require("edge.emergency")
local ended = require("edge.ended")
local finality = require("edge.finality")
local held = require("edge.held")
local journal = require("edge.journal")
local kept = require("edge.kept")
local pools = require("edge.pools")
local pressure = require("edge.pressure")
local record = require("edge.record")
local refusals = require("edge.refusals")
local requests = require("edge.requests")
local rules = require("edge.rules")
local sockets = require("edge.sockets")
local standing = require("edge.standing")
local subscriptions = require("edge.subscriptions")

local shared = ngx.shared.pools
local now = ngx.now
local refuse = refusals.refuse
local get_method = ngx.req.get_method

local M = {}

local facts, rights
local labels -- method -> what it counts as, a list of one
local chains = {}
local heads, finals = {}, {} -- chain -> what gives its pool's best head, and its newest final block

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
    local known
    rights, known = rules.rights(facts)
    labels = record.labels(known)
    emergency.start(facts.emergency.file)
    callers.start(facts, rights)
    for chain in pairs(facts.pools) do
        chains[#chains + 1] = chain
        heads[chain] = function()
            return pools.head(chain) or 0
        end
        finals[chain] = function()
            return finality.of(chain)
        end
    end
    record.start(ngx.shared.figures)
    journal.start(facts.logs)
    bodies.start(tonumber(facts.body_seconds))
    pressure.start(facts.pressure)
    sockets.start(facts.sockets)
    pools.start(facts)
    standing.start(facts)
end

-- Do something every so often: in each worker, or, where it has a name, in one of them; `is_last` has it done once more when a worker ends.
local function every(seconds, name, action, is_last)
    local function tick(premature)
        if (premature and not is_last) or (name and not shared:add(name, true, seconds * 0.8)) then
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
    every(0.5, nil, bodies.look)
    every(0.5, nil, ended.flush, true)
    every(0.5, nil, record.flush, true)
    every(0.5, nil, journal.flush, true)
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

-- set_by_lua, which costs less than a phase of its own: who calls. The variables that it sets are what nginx counts connections by: requests
-- at once and WebSockets, of each tier's callers alone.
function M.enter(chain)
    local context = requests.begin(callers.context, chain)
    if context and context.is_limited then
        local var = ngx.var
        local address = context.address
        var["edge_requests_" .. context.tier] = address
        if context.emergency then
            var.edge_narrow = address
        end
        local upgrade = get_method() ~= "POST" and var.http_upgrade
        if upgrade and upgrade:lower() == "websocket" then
            var["edge_sockets_" .. context.tier] = address
        end
    end
end

-- Note a request's calls for the log and the figures.
local function note(context, request)
    context.calls = context.calls + #request.calls
    context.is_batch = request.batch
    if #request.calls == 1 then
        local label = labels[request.calls[1].method]
        context.methods = label
        if context.is_socket then
            record.call(context.chain, label[1])
        else
            context.uncounted = label[1]
        end
    else
        context.methods = record.methods(request.calls, labels)
        for _, call in ipairs(request.calls) do
            record.call(context.chain, labels[call.method][1])
        end
    end
    if context.key then
        local whose = string.format('chain="%s",key="%s",tier="%s"', context.chain, context.key.name, context.tier)
        record.count("key_calls_total", whose, #request.calls)
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
    local fault, is_whole = rules.judge(request, context.rights, heads[context.chain], finals[context.chain])
    if is_whole then
        return nil, fault
    end
    return request, fault, true
end

-- Nothing, or the problem of a request for which there is no room.
local function take_room(context)
    if not context.has_room then
        context.has_room = pressure.enter(context.chain, callers.kind(context))
    end
    return not context.has_room and refusals.BUSY or nil
end

local function unavailable(context)
    return refusals.unavailable(facts.pools[context.chain].title)
end

local function open_socket(context)
    local fault = sockets.fault()
    local trouble = callers.charge(context, 1) or fault and calls.problem(calls.INVALID, 400, "handshake", fault)
    if context.emergency then
        trouble = trouble or callers.refusal(context)
    end
    if not trouble and #pools.members(context.chain) == 0 then
        trouble = unavailable(context)
    end
    if not trouble then
        context.has_socket = pressure.open(callers.kind(context))
        trouble = not context.has_socket and refusals.BUSY or nil
    end
    if trouble then
        return refuse(context, nil, trouble)
    end
    return ngx.exec("@websocket")
end

local function pass(context)
    local method = get_method()
    if context.is_stranger then
        local body = method == "POST" and bodies.read(context)
        return refuse(context, calls.peek(body), callers.charge(context, 1) or refusals.NO_KEY)
    end
    if method ~= "POST" then
        local upgrade = method == "GET" and ngx.var.http_upgrade
        if upgrade and upgrade:lower() == "websocket" then
            return open_socket(context)
        end
        return refuse(context, nil, callers.charge(context, 1) or refusals.ONLY_POST)
    end
    local body, trouble = bodies.read(context)
    if not body then
        return refuse(context, nil, callers.charge(context, 1) or trouble)
    end
    local request, fault, is_each = judged(context, body)
    if fault then
        return refuse(context, request, fault, is_each)
    end
    local members = pools.members(context.chain)
    if #members == 0 then
        return refuse(context, request, unavailable(context))
    end
    if not request.batch then
        local call = request.calls[1]
        local result = not call.silent and kept.result(context, call, take_room)
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
    -- One who has waited looks once more who is in.
    context.members = context.cache == "passed" and pools.members(context.chain) or members
    if context.fetch then
        return ngx.exec("@fetch")
    end
    if not calls.repeatable(request) then
        return ngx.exec("@once")
    end
end

local function safely(action)
    local context = requests.current()
    local ok, trouble = pcall(action, context)
    if not ok then
        complaints.say("a request could not be judged: ", tostring(trouble))
        if ngx.headers_sent then
            return ngx.exit(ngx.ERROR)
        end
        return refuse(context, nil, refusals.FAILED)
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
            return refuse(context, nil, refusals.NO_SOCKET)
        end
        context.is_socket = true
        pools.hold(context, node)
        local function fault()
            keep_up()
            return callers.fault(context)
        end
        local held = sockets.subscriptions()
        context.subscriptions = held
        -- What changes their number, and all edges' figure with it.
        local function counted(action, ...)
            local before = held.count
            local result = action(held, ...)
            pressure.subscribe(held.count - before)
            return result
        end
        local why = sockets.run(socket, {
            most_bytes = facts.most_socket_bytes,
            most_answer = subscriptions.LONGEST,
            fault = fault,
            is_waiting = function()
                return subscriptions.is_waiting(held)
            end,
            answer = function(text)
                return counted(subscriptions.answer, text)
            end,
            judge = function(text)
                local ended = fault()
                if ended then
                    return false, nil, ended
                end
                local request, trouble, is_each = judged(context, text)
                if not trouble and pressure.is_full(context.chain, callers.kind(context)) then
                    trouble, is_each = refusals.BUSY, false
                end
                if not trouble then
                    trouble, is_each = subscriptions.judge(held, request), false
                end
                if not trouble then
                    return true, counted(subscriptions.pass, request, text)
                end
                refusals.count(context, trouble.reason)
                return false, calls.refusal(request, not is_each and trouble or nil), trouble.seconds
            end,
        })
        record.count("websockets_ended_total", string.format('chain="%s",why="%s"', context.chain, why or "failed"))
    end)
end

-- body_filter_by_lua of requests that fetch for all, and of no others, as each part of an answer costs a step into Lua: keep the answer.
function M.filter()
    local context = requests.current()
    if context and context.fetch then
        kept.take(context, facts.pools[context.chain].id, ngx.arg[1], ngx.arg[2])
    end
end

-- content_by_lua where every attempt has failed.
function M.failed()
    return safely(function(context)
        local reached, is_late = pools.fate()
        local body = ngx.req.get_method() == "POST" and bodies.read(context) or nil
        local request = calls.peek(body)
        if not reached then
            return refuse(context, request, refusals.UNREACHED)
        end
        return refuse(context, request, refusals.unanswered(is_late, calls.repeatable(request)))
    end)
end

-- access_by_lua of every path but one.
function M.elsewhere()
    return safely(function(context)
        turn_away(context)
        return refuse(context, nil, callers.charge(context, 1) or refusals.ELSEWHERE)
    end)
end

-- content_by_lua of what nginx itself refuses.
function M.refused(chain)
    local context = requests.current() or { chain = chain, methods = {} }
    return refuse(context, nil, context.turned_away or refusals.of_status(ngx.status))
end

-- log_by_lua.
M.done = ended.done

-- content_by_lua of the status socket: Prometheus' text format.
function M.metrics()
    local lines = standing.metrics()
    pressure.metrics(lines, chains)
    emergency.metrics(lines)
    record.metrics(lines)
    ngx.header["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
    ngx.say(table.concat(lines, "\n"))
end

return M

-- The edge's pools: a timer asks the nodes' hosts how they are, the shared dictionary holds who is in, and each request is sent to
-- the next one. docs/edge.md says what decides membership; standing.lua shows it.

local balancer = require("ngx.balancer")
local cjson = require("cjson.safe")
local fetch = require("edge.fetch")
local judge = require("edge.judge")
local requests = require("edge.requests")

local dict = ngx.shared.pools
local now = ngx.now

local M = {}

-- Without a poll for so long nobody knows who is in step; better no answer than an old one.
local BELIEVED_SECONDS = 5
local MORE_TRIES = 2
-- A worker compares its copy of who is in with what all share no more often than this.
local LOOK_SECONDS = 0.05

local facts -- pools.json
local nodes = {} -- each node once: {index, key, chain, host, rpc, ws, health, services}
local by_address = {} -- "address:port" -> node
local by_key = {} -- "chain/host" -> node
local members, generation = {}, nil -- this worker's copy: chain -> [{node, since}]
local looked_at = 0 -- when it was last compared
local turns = {}

-- init_by_lua: know the pools.
function M.start(about)
    facts = about
    for chain, pool in pairs(facts.pools) do
        for _, node in ipairs(pool.nodes) do
            node.chain, node.key, node.index = chain, chain .. "/" .. node.host, #nodes + 1
            node.rpc, node.ws, node.health = fetch.split(node.rpc), fetch.split(node.ws), fetch.split(node.health)
            nodes[node.index] = node
            by_address[node.rpc.name], by_address[node.ws.name] = node, node
            by_key[node.key] = node
            node.avoid = "avoid:" .. node.key
        end
        turns[chain] = 0
    end
end

-- What begins and ends is counted a worker, by its process id: what one leaves behind that died is known by that and dropped.
local function name_counters()
    local pid = ngx.worker.pid()
    for _, node in ipairs(nodes) do
        for _, counter in ipairs({ "calls_begun", "calls_ended", "sockets_begun", "sockets_ended" }) do
            node[counter] = counter .. ":" .. pid .. ":" .. node.key
        end
    end
end

-- Compare this worker's copy of who is in, and of who could not be reached, with what all workers share.
local function look()
    local current = dict:get("generation")
    if current ~= generation then
        generation, members = current, {}
        -- The key is gone when polls have stopped.
        for _, one in ipairs(current and cjson.decode(dict:get("members")) or {}) do
            -- Workers that read the configuration before and after a change of it share what is published.
            local node = by_key[one[1]]
            if node then
                members[node.chain] = members[node.chain] or {}
                table.insert(members[node.chain], { node = node, since = one[2] })
            end
        end
    end
    for _, node in ipairs(nodes) do
        node.is_unreached = dict:get(node.avoid) ~= nil
    end
end

local NOBODY = {}

-- Who is in a chain's pool now: [{node, since}].
local function members_of(chain)
    local at = now()
    if at - looked_at >= LOOK_SECONDS or at < looked_at then
        looked_at = at
        look()
    end
    return members[chain] or NOBODY
end

M.members = members_of

-- The best head among a chain's members, nil where there is none.
function M.head(chain)
    return dict:get("head:" .. chain)
end

-- The next member of a list: not one that this request has tried, rather not one that could not be reached, and one that came back not at
-- its full share. Better one of those than none. Gives the node and how many others there are.
local function pick_of(list, chain, tried)
    local count = #list
    if count < 2 then
        return count == 1 and list[1].node or nil, 0
    end
    local turn = turns[chain] + 1
    turns[chain] = turn
    local slow, unreached
    for step = 0, count - 1 do
        local member = list[(turn + step) % count + 1]
        local node = member.node
        if not tried or not tried[node.index] then
            if node.is_unreached then
                unreached = unreached or node
            elseif
                member.since == 0
                or math.random() < judge.share(member.since, now(), facts.slow_start_seconds)
            then
                return node, count - 1
            else
                slow = slow or node
            end
        end
    end
    return slow or unreached or list[turn % count + 1].node, count - 1
end

local function avoid(node)
    dict:set(node.avoid, now())
    node.is_unreached = true
end

local function tokens(text)
    local found = {}
    for token in (text or ""):gmatch("[^, ]+") do
        found[#found + 1] = token
    end
    return found
end

-- Remember the nodes to which this request could not connect.
local function note_failures()
    local connected, statuses = tokens(ngx.var.upstream_connect_time), tokens(ngx.var.upstream_status)
    for attempt, address in ipairs(tokens(ngx.var.upstream_addr)) do
        local node = by_address[address]
        -- A caller who leaves early leaves no status.
        if node and connected[attempt] == "-" and (statuses[attempt] == "502" or statuses[attempt] == "504") then
            avoid(node)
        end
    end
end

-- The next member of a chain's pool; as above.
function M.pick(chain, tried)
    return pick_of(members_of(chain), chain, tried)
end

-- Count a request as at a node. Where it is: the node in `held` of its context.
local function hold(context, node)
    dict:incr(context.is_socket and node.sockets_begun or node.calls_begun, 1, 0)
    context.held = node
end

local function let_go(context)
    local node = context.held
    if node then
        dict:incr(context.is_socket and node.sockets_ended or node.calls_ended, 1, 0)
        context.held = nil
    end
    return node
end

-- balancer_by_lua: say where this attempt of the request goes. `context.members` is who was in when it was judged, a moment ago.
function M.balance(chain)
    local context = requests.current()
    local tried, list = context.tried, context.members
    if tried then
        let_go(context)
        note_failures()
        dict:incr("retries:" .. chain, 1, 0)
        list = members_of(chain)
    end
    local node, others = pick_of(list, chain, tried)
    if not node then
        return ngx.exit(ngx.ERROR)
    end
    if not tried then
        tried = {}
        context.tried = tried
        if others > 0 then
            balancer.set_more_tries(math.min(others, MORE_TRIES))
        end
    end
    tried[node.index] = true
    assert(balancer.set_current_peer(node.rpc.address, node.rpc.port))
    hold(context, node)
end

M.hold = hold

-- Remember that a WebSocket could not connect to a node.
M.unreached = avoid

-- How a request ended that no node has answered: whether one had it, and whether that one was late.
function M.fate()
    local reached = false
    for _, seconds in ipairs(tokens(ngx.var.upstream_connect_time)) do
        reached = reached or seconds ~= "-"
    end
    local statuses = tokens(ngx.var.upstream_status)
    return reached, statuses[#statuses] == "504"
end

-- log_by_lua: the request is over, however it ended. Gives the host of the node that it was at last, if any.
function M.done(context, status)
    local node = let_go(context)
    if status >= 500 then
        note_failures()
    end
    return node and node.host or nil
end

local function pages_of_hosts()
    local threads, pages = {}, {}
    for _, node in ipairs(nodes) do
        local health = node.health
        threads[health.name] = threads[health.name] or ngx.thread.spawn(fetch.json, health, facts.timeout_seconds)
    end
    for name, thread in pairs(threads) do
        local ok, page, problem = ngx.thread.wait(thread)
        pages[name] = ok and { page = page, problem = problem } or { problem = tostring(page) }
    end
    return pages
end

local function is_drained(node)
    local file = io.open(facts.drained .. "/" .. node.key)
    if file then
        file:close()
    end
    return file ~= nil
end

-- What the last poll found: key of a node -> its state, as judge.step gives it.
function M.states()
    return cjson.decode(dict:get("states") or "{}") or {}
end

-- Ask every host once, and publish who is in.
local function poll()
    local begun = now()
    local pages = pages_of_hosts()
    ngx.update_time()
    local known, found, published = M.states(), {}, {}
    for _, pool in pairs(facts.pools) do
        local verdicts = {}
        for at, node in ipairs(pool.nodes) do
            local said = pages[node.health.name]
            verdicts[at] = judge.verdict(said.page, node.services, said.problem)
        end
        judge.compare(verdicts, pool)
        for at, node in ipairs(pool.nodes) do
            local verdict = verdicts[at]
            local before = known[node.key]
            local after = judge.step(before, verdict, is_drained(node), now())
            found[node.key] = after
            -- Only a look from after the failure speaks against it.
            local failed = dict:get(node.avoid)
            if failed and verdict.word == "good" and begun - verdict.look_age > failed then
                dict:delete(node.avoid)
            end
            if before and before.member ~= after.member then
                local words = after.member and "is in" or "is out: " .. (after.drained and "drained" or after.reason)
                ngx.log(ngx.WARN, "pool of ", node.chain, ": ", node.host, " ", words)
            end
        end
    end
    local heads = {}
    for _, node in ipairs(nodes) do
        if found[node.key].member then
            heads[node.chain] = math.max(heads[node.chain] or 0, found[node.key].head or 0)
            published[#published + 1] = { node.key, found[node.key].since }
        end
    end
    local text = #published > 0 and cjson.encode(published) or "[]"
    dict:set("states", cjson.encode(found))
    for chain, head in pairs(heads) do
        dict:set("head:" .. chain, head)
    end
    dict:set("polled", now())
    local current = dict:get("number") or 0
    if text ~= dict:get("members") then
        current = current + 1
        dict:set("members", text)
        dict:set("number", current)
    end
    dict:set("generation", current, BELIEVED_SECONDS)
end

-- Every worker's timer ticks and one of them polls, so that none is missed when it dies.
local function tick(premature)
    if premature or not dict:add("turn", true, facts.poll_seconds * 0.8) then
        return
    end
    local ok, problem = pcall(poll)
    if not ok then
        ngx.log(ngx.ERR, "a poll of the nodes' health failed: ", problem)
    end
end

-- init_worker_by_lua: begin to poll.
function M.work()
    name_counters()
    math.randomseed(ngx.worker.pid() + now() * 1000)
    for chain in pairs(turns) do
        turns[chain] = math.random(1000)
    end
    assert(ngx.timer.at(0, tick))
    assert(ngx.timer.every(facts.poll_seconds, tick))
end

return M

-- How many subscriptions a WebSocket holds. No nginx.
--
-- A call that subscribes takes a place when it is passed on. The place is free again once the node says that it has not subscribed, or that a
-- subscription has ended. An id does not tell whose answer it is, because a caller may give the same one to several calls; so these calls go to
-- the node with an id of the edge's, which nobody can guess, and what it answers comes back with the caller's own. In batches they keep theirs,
-- and their places until the WebSocket ends.

local calls = require("edge.calls")

local M = {}

-- Calls of one WebSocket whose answers are waited for; further ones are held to be unanswered.
local MOST_AWAITED = 100
-- A longer answer is none to these calls.
M.LONGEST = 65536

-- What is known of a new WebSocket that may hold `most`. `name` gives an id of the edge's, small letters, digits and "-".
function M.new(most, name)
    return { most = most, name = name, count = 0, awaited = {}, waiting = 0 }
end

local function subscribes(call)
    return call.method:find("_subscribe$") ~= nil
end

local function asked(request)
    local count = 0
    for _, call in ipairs(request.calls) do
        count = count + (subscribes(call) and 1 or 0)
    end
    return count
end

-- The problem of a request whose calls may all pass but for this, or nil.
function M.judge(held, request)
    local count = asked(request)
    if count > 0 and held.count + count > held.most then
        local words = "a WebSocket holds at most %d subscriptions; end one, or open another WebSocket"
        return calls.problem(calls.LIMIT, 429, "subscriptions", string.format(words, held.most))
    end
end

-- Count what a request that is passed on subscribes to, and give its text as it goes to the node.
function M.pass(held, request, text)
    local count = asked(request)
    held.count = held.count + count
    if request.batch or (count == 0 and not request.calls[1].method:find("_unsubscribe$")) or held.waiting >= MOST_AWAITED then
        return text
    end
    local name = held.name()
    local renamed, own = calls.with_id(text, '"' .. name .. '"')
    if not renamed then
        return text
    end
    held.awaited[name], held.waiting = { id = own, subscribes = count > 0 }, held.waiting + 1
    return renamed
end

-- Whether what a node says must be read whole.
function M.is_waiting(held)
    return held.waiting > 0
end

-- Read what a node says, and give it as it goes to the caller.
function M.answer(held, text)
    local first, last, name = text:find('"([%l%d%-]+)"')
    while first and not held.awaited[name] do
        first, last, name = text:find('"([%l%d%-]+)"', last)
    end
    if not first then
        return text
    end
    local one = held.awaited[name]
    held.awaited[name], held.waiting = nil, held.waiting - 1
    local answer = calls.answer(text)
    local is_free = answer and (one.subscribes and answer.error ~= nil and answer.error ~= calls.null or not one.subscribes and answer.result == true)
    if is_free then
        held.count = math.max(0, held.count - 1)
    end
    return text:sub(1, first - 1) .. one.id .. text:sub(last + 1)
end

return M

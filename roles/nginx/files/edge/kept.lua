-- Answers that cannot change, among all callers who ask for one: the first one's request fetches it, the others wait.

local cache = require("edge.cache")
local finality = require("edge.finality")
local record = require("edge.record")

local answers = ngx.shared.answers

local M = {}

-- A fetch that takes longer is no longer waited for.
local FETCH_SECONDS, WAIT_SECONDS = 10, 2

local function count(context, outcome)
    context.cache = outcome
    local labels = string.format('chain="%s",method="%s",outcome="%s"', context.chain, record.label(context), outcome)
    record.count("cache_total", labels)
end

-- The kept result of a call, after waiting for who fetches it; nil where it is to be asked for. One who waits takes room as well: `is_busy`
-- says that there is none. Where this request is the one that fetches, `context.fetch` says what.
function M.result(context, call, is_busy)
    local name = cache.is_kept(call.method) and cache.name(context.chain, context.tier, call, finality.of(context.chain))
    if not name then
        return nil
    end
    local lock = "fetch " .. name
    local waited, pause = 0, 0.001
    while true do
        local result = answers:get(name)
        if result then
            count(context, waited > 0 and "waited" or "hit")
            return result
        end
        if answers:add(lock, "begun", FETCH_SECONDS) then
            context.fetch = { name = name, lock = lock, call = call, parts = {}, size = 0 }
            count(context, "miss")
            -- What is kept must be readable.
            ngx.req.clear_header("Accept-Encoding")
            return nil
        end
        if waited >= WAIT_SECONDS or answers:get(lock) == "failed" or is_busy(context) then
            count(context, "passed")
            return nil
        end
        ngx.sleep(pause)
        waited, pause = waited + pause, math.min(pause * 2, 0.02)
    end
end

-- Take the next part of the answer that this request fetches, from body_filter_by_lua; keep the whole where it cannot change.
function M.take(context, chain_id, part, is_last)
    local fetch = context.fetch
    fetch.size = fetch.size + #part
    if fetch.size <= cache.LONGEST then
        fetch.parts[#fetch.parts + 1] = part
    end
    if is_last and ngx.status == 200 and fetch.size <= cache.LONGEST then
        local about = { chain_id = chain_id, finalised = finality.of(context.chain) }
        local result = cache.result(fetch.call, table.concat(fetch.parts), about)
        if result then
            answers:set(fetch.name, result, cache.SECONDS)
            answers:delete(fetch.lock)
            context.fetch = nil
        end
    end
end

-- The request is over: where it fetched and kept nothing, who waits for it asks for himself, and for a moment everybody does.
function M.over(context)
    if context.fetch then
        answers:set(context.fetch.lock, "failed", 0.2)
    end
end

return M

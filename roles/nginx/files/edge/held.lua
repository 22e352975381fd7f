-- What is held at this moment (connections, requests in flight), counted over all workers. A worker that dies gives nothing back, so each
-- knows its own part, and when one is gone all of them count anew from their parts, under the next generation's names.

local dict, workers = ngx.shared.held, ngx.shared.pools

local M = {}

local mine = {}
local generation = 0
-- Names of what is counted for every request, in this generation.
local names = {}

local function name_of(what)
    return names[what] or generation .. ":" .. what
end

local function begin(number)
    generation = number
    for what in pairs(names) do
        names[what] = number .. ":" .. what
    end
end

-- Have the name of a count at hand: for the few that are asked for again and again.
function M.remember(what)
    names[what] = generation .. ":" .. what
end

-- Add to a count, or take away, and give what all workers hold now.
function M.add(what, count)
    local own = (mine[what] or 0) + count
    mine[what] = own ~= 0 and own or nil
    local name = name_of(what)
    -- Where memory was short and the count was dropped, what is taken away is nothing.
    return dict:incr(name, count, count > 0 and 0 or nil) or 0
end

-- Forget a name of which nothing is held any more.
function M.drop(what)
    dict:delete(name_of(what))
end

-- What all workers hold.
function M.get(what)
    return dict:get(name_of(what)) or 0
end

-- Whether a worker lives, by its process id.
function M.is_alive(pid)
    local file = io.open("/proc/" .. pid .. "/stat")
    if file then
        file:close()
    end
    return file ~= nil
end

-- In one worker, now and then: when a worker is gone, begin the next generation.
function M.mend()
    local is_gone = false
    for _ = 1, workers:llen("workers") or 0 do
        local pid = workers:lpop("workers")
        if pid and M.is_alive(pid) then
            workers:rpush("workers", pid)
        else
            is_gone = true
        end
    end
    if is_gone then
        workers:incr("held", 1, 0)
    end
end

-- In each worker, now and then: follow to the next generation, with one's own part.
function M.follow()
    local newest = workers:get("held") or 0
    if newest ~= generation then
        begin(newest)
        for what, count in pairs(mine) do
            dict:incr(name_of(what), count, 0)
        end
    end
end

-- init_worker_by_lua.
function M.work()
    begin(workers:get("held") or 0)
    workers:rpush("workers", ngx.worker.pid())
end

return M

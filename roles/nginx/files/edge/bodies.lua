-- A request's body, read whole and within a time: nginx itself bounds only each pause in it.

local calls = require("edge.calls")
local connections = require("edge.connections")
local problem = calls.problem
local now = ngx.now

local M = {}

local seconds

-- init_by_lua: how long the whole of a body may take.
function M.start(whole_seconds)
    seconds = whole_seconds
end

-- Requests whose bodies are being read, by context: {since, descriptor}. To read beside a clock, in threads of their own, costs a call more
-- than all rules do, so only HTTP/2 does it, whose streams share a descriptor.
local reading = {}

-- In each worker, twice a second: end what has been read for too long.
function M.look()
    for context, one in pairs(reading) do
        if now() - one[1] > seconds then
            context.is_slow = true
            connections.shut(one[2])
        end
    end
end

-- The request is over, perhaps because it was cut off while it was read.
function M.over(context)
    reading[context] = nil
end

local function receive()
    ngx.req.read_body()
end

local function expire()
    ngx.sleep(seconds)
    return true
end

-- Whether the body has come, of one stream among others.
local function is_here()
    local reader = ngx.thread.spawn(receive)
    -- What came together with the headers needs no clock.
    if coroutine.status(reader) ~= "running" and coroutine.status(reader) ~= "suspended" then
        ngx.thread.wait(reader)
        return true
    end
    local clock = ngx.thread.spawn(expire)
    local ok, is_late = ngx.thread.wait(reader, clock)
    if not is_late then
        ngx.thread.kill(clock)
        return ok
    end
    ngx.thread.kill(reader)
    return false
end

-- The body, or nil and the problem with it.
function M.read(context)
    -- nginx takes 1.2 to 1.99 for HTTP/1 as well, and the module knows no number for them.
    if (ngx.req.http_version() or 1.1) >= 2 then
        -- nginx reads such a body only while it passes it on.
        if not ngx.var.http_content_length then
            return nil, problem(calls.INVALID, 411, "length", "Content-Length must be given")
        end
        if not is_here() then
            return nil, problem(calls.INVALID, 408, "slow", "the request did not come in time")
        end
    else
        reading[context] = { now(), connections.descriptor() }
        ngx.req.read_body()
        reading[context] = nil
    end
    local body = ngx.req.get_body_data()
    if body then
        return body
    end
    local path = ngx.req.get_body_file()
    local file = path and io.open(path)
    if file then
        body = file:read("*a")
        file:close()
    end
    return body or ""
end

return M

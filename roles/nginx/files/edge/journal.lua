-- The access log: a file a day, to which each worker adds its lines twice a second, so that a request does not pay for a write of its own.

local complaints = require("edge.complaints")

local M = {}

-- A worker does not hold more than this before it writes.
local MOST_LINES = 1000

local directory -- set by start
local lines, count = {}, 0
local day, file

-- init_by_lua.
function M.start(path)
    directory = path
end

local function opened(today)
    if today ~= day and file then
        file:close()
        file = nil
    end
    if not file then
        local problem
        file, problem = io.open(directory .. "/access-" .. today .. ".log", "a")
        if not file then
            complaints.say("the access log cannot be written: ", problem)
            return nil
        end
        -- One write for all lines: what other workers add does not come between them.
        file:setvbuf("no")
        day = today
    end
    return file
end

-- Write what waits. Called twice a second, and when the worker ends.
function M.flush()
    if count == 0 then
        return
    end
    lines[count + 1] = ""
    local text = table.concat(lines, "\n")
    lines, count = {}, 0
    local log = opened(os.date("!%Y-%m-%d", ngx.time()))
    local ok, problem
    if log then
        ok, problem = log:write(text)
    end
    if log and not ok then
        complaints.say("the access log cannot be written: ", problem)
        file:close()
        file = nil
    end
end

-- Add a line.
function M.add(line)
    count = count + 1
    lines[count] = line
    -- A worker that only ends what it has, such as WebSockets after a reload, has no timers any more.
    if count >= MOST_LINES or ngx.worker.exiting() then
        M.flush()
    end
end

return M

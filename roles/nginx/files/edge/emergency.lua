-- The emergency profile, as edge-emergency has written it down: a file that every worker looks at four times a second. It ends by itself when
-- its time is over, whoever looks.

local cjson = require("cjson.safe")

local memory = ngx.shared.pools

local M = {}

M.LOOK_SECONDS = 0.25

local path
local known -- what the file says: {public, since, ends, by}

local FORMS = { limited = true, refused = true }

-- init_by_lua: where the file is.
function M.start(file)
    path = file
    known = nil
end

local function read()
    local file = io.open(path)
    if not file then
        return nil
    end
    local text = file:read(4096)
    file:close()
    local said = cjson.decode(text or "")
    if type(said) ~= "table" or not FORMS[said.public] or type(said.since) ~= "number" then
        return nil, "it says nothing that is known"
    end
    said.ends = tonumber(said.ends)
    return said
end

-- What holds now: nil, or {public = "limited" or "refused", since, ends, by}, times in seconds since 1970, ends nil where it has no end.
function M.state()
    if known and not (known.ends and known.ends <= ngx.time()) then
        return known
    end
end

local function words_of(state)
    if not state then
        return "off"
    end
    local ends = state.ends and os.date("!%Y-%m-%dT%H:%M:%SZ", state.ends) or "it is switched off"
    return "on, the public is " .. state.public .. ", until " .. ends .. ", by " .. tostring(state.by):gsub("[^%w._@-]", "?")
end

-- In each worker, four times a second. One of them says in the journal what has changed.
function M.look()
    local said, problem = read()
    if problem then
        -- It is replaced in one piece, so this is nothing that passes; what held before holds.
        return ngx.log(ngx.ERR, path, " cannot be used: ", problem)
    end
    known = said
    -- One that ends is not heard in the journal.
    local words = words_of(M.state())
    if not ngx.worker.exiting() and (memory:get("emergency") or "off") ~= words then
        memory:set("emergency", words)
        ngx.log(ngx.WARN, "emergency profile: ", words)
    end
end

-- Add it to lines of Prometheus' text format.
function M.metrics(lines)
    local state = M.state()
    lines[#lines + 1] = "# HELP edge_emergency 1 while the emergency profile holds, by what becomes of callers without a key."
    lines[#lines + 1] = "# TYPE edge_emergency gauge"
    for public in pairs(FORMS) do
        lines[#lines + 1] = 'edge_emergency{public="' .. public .. '"} ' .. (state and state.public == public and 1 or 0)
    end
end

return M

-- What goes wrong while a request is served, for the journal. nginx is silent within requests, because it would add their first line, in
-- which somebody may have put a key; so complaints wait for a timer that belongs to none.

local M = {}

local MOST = 20
local waiting = {}

function M.say(...)
    if #waiting < MOST then
        waiting[#waiting + 1] = table.concat({ ... })
    end
end

function M.flush()
    local said = waiting
    waiting = {}
    for _, words in ipairs(said) do
        ngx.log(ngx.ERR, words)
    end
end

return M

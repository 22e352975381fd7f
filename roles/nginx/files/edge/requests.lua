-- What is known of each request that is under way, for all phases: internal redirects lose ngx.ctx, but nginx keeps the request where it is.

local base = require("resty.core.base")
local ffi = require("ffi")

local get_request, cast, address = base.get_request, ffi.cast, ffi.typeof("uintptr_t")
local is_internal = ngx.req.is_internal

local M = {}

-- By where nginx has the request. Each is taken out when its request is over, before nginx gives the place to another.
local contexts = {}

local function place()
    return tonumber(cast(address, get_request()))
end

-- What is known of this request, nil where it has not been begun.
function M.current()
    return contexts[place()]
end

-- Remember what `make` gives for this request, and give it; nothing where it has been begun already, before nginx redirected it.
function M.begin(make, chain)
    local at = place()
    if contexts[at] and is_internal() then
        return nil
    end
    local context = make(chain)
    contexts[at] = context
    return context
end

-- Forget this request, and give what was known of it.
function M.over()
    local at = place()
    local context = contexts[at]
    contexts[at] = nil
    return context
end

return M

-- What is known of each request that is under way, for all phases: internal redirects lose ngx.ctx.

local M = {}

-- By $edge_request.
local contexts = {}

-- What is known of this request, nil where it has not been begun.
function M.current()
    return ngx.ctx.edge or contexts[ngx.var.edge_request]
end

-- Remember what `make` gives for this request, and give it; nothing where it has been begun already.
function M.begin(make, chain)
    local id = ngx.var.edge_request
    if contexts[id] then
        return nil
    end
    local context = make(chain)
    contexts[id], ngx.ctx.edge = context, context
    return context
end

-- Forget this request, and give what was known of it.
function M.over()
    local context = M.current()
    contexts[ngx.var.edge_request] = nil
    return context
end

return M

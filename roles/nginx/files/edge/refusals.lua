-- How a request is refused: HTTP's status and headers, JSON-RPC's error with the caller's ids, the count of it, and whether it is an offence.

local calls = require("edge.calls")
local record = require("edge.record")

local problem = calls.problem

local M = {}

M.BUSY = problem(calls.LIMIT, 503, "busy", "the edge has as many requests in flight as it takes; try again")
M.NO_KEY = problem(calls.NO_KEY, 401, "key", "the API key is not valid")
M.ONLY_POST = problem(calls.INVALID, 405, "http_method", "calls are POSTed")
M.ELSEWHERE = problem(calls.INVALID, 404, "path", "calls are POSTed to /")
M.FAILED = problem(calls.INTERNAL, 500, "internal", "the edge failed")
M.NO_SOCKET = problem(calls.UNAVAILABLE, 503, "no_node", "no node could be reached; try again")
M.UNREACHED = problem(calls.UNAVAILABLE, 503, "unreached", "no node could be reached; try again")

-- Refusals for which an address may be banned (the role detection), where it goes on with them. The whole chain's ceiling is no caller's fault.
M.OFFENCES = {
    key = true,
    method = true,
    rate = true,
    connections = true,
    parse = true,
    invalid = true,
    handshake = true,
    length = true,
    path = true,
    http_method = true,
    http = true,
    slow = true,
}

local WORDS = {
    [404] = "calls are POSTed to /",
    [408] = "the request did not come in time",
    [413] = "the body is too large",
    [414] = "the request's first line is too long",
    [429] = "too many requests or connections at once",
    [431] = "the headers are too large",
    [505] = "HTTP/1.1 and HTTP/2 are spoken here",
}
local REASONS = { [404] = "path", [408] = "slow", [413] = "size", [429] = "connections" }

-- The word for what nginx itself refuses with a status.
function M.reason(status)
    return REASONS[status] or "http"
end

-- The problem with what nginx itself refuses with a status. The body is not waited for, which is what one who holds connections wants.
function M.of_status(status)
    local is_limit = status == 413 or status == 429
    local words = WORDS[status] or "it is no HTTP request that is understood"
    return problem(is_limit and calls.LIMIT or calls.INVALID, status, M.reason(status), words)
end

-- The problem with any call of a chain whose pool is empty.
function M.unavailable(title)
    return problem(calls.UNAVAILABLE, 503, "no_node", "no node of " .. title .. " is in step; try again")
end

-- The problem with a call that a node had and did not answer.
function M.unanswered(is_late, is_repeatable)
    local words = is_late and "the node did not answer in time" or "the node broke off its answer"
    if not is_repeatable then
        words = words .. "; it may have done what was asked, so look before you send it again"
    end
    return problem(calls.INTERNAL, is_late and 504 or 502, "node", words)
end

-- Count a refusal, and remember it for the log.
function M.count(context, reason)
    context.refused = reason
    local labels = string.format('chain="%s",method="%s",reason="%s"', context.chain, record.label(context), reason)
    record.count("refusals_total", labels)
end

-- Answer a request by what is wrong with it as a whole, or, where `is_each`, with each of its calls.
function M.refuse(context, request, trouble, is_each)
    local header = ngx.header
    ngx.status = trouble.status
    header["Content-Type"] = "application/json"
    if trouble.status == 429 or trouble.status == 503 then
        header["Retry-After"] = tostring(trouble.seconds or 1)
    elseif trouble.status == 401 then
        header["WWW-Authenticate"] = "Bearer"
    elseif trouble.status == 405 then
        header["Allow"] = "POST"
    end
    M.count(context, trouble.reason)
    ngx.print(calls.refusal(request, not is_each and trouble or nil))
    return ngx.exit(ngx.HTTP_OK)
end

return M

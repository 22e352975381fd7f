-- JSON-RPC as callers send it: read with bounds, and refused with the caller's own ids. No nginx.
--
-- A request is {batch, calls = {call, ...}}; a call {id, method, params, problem}, its id as JSON text. A problem, which is what a
-- refusal says, is {code, status, message, reason}: JSON-RPC's code, HTTP's status, and a word for metrics and the log.

local cjson = require("cjson").new()
local decode, encode, null = cjson.decode, cjson.encode, cjson.null

-- State overrides and filters nest four or five deep.
cjson.decode_max_depth(32)
cjson.decode_invalid_numbers(false)

local M = { null = null }

-- A longer body of a caller who is refused is not read for its ids.
M.LONGEST = 65536
-- Commas, colons and brackets of a body: each may become a value, and values cost more than their text.
M.MOST_VALUES = 20000
M.LONGEST_ID = 1024
-- A longer batch is refused by one error, so that no answer is much longer than what was asked.
M.MOST_ERRORS = 200

M.PARSE, M.INVALID, M.NOT_ALLOWED, M.PARAMS, M.INTERNAL = -32700, -32600, -32601, -32602, -32603
M.UNAVAILABLE, M.LIMIT, M.NO_KEY = -32002, -32005, -32001

local function problem(code, status, reason, message)
    return { code = code, status = status, reason = reason, message = message }
end
M.problem = problem

-- Well-formed sequences of UTF-8 beyond ASCII, by RFC 3629; surrogates and overlong forms are none.
local UTF8 = {
    "[\194-\223][\128-\191]",
    "\224[\160-\191][\128-\191]",
    "[\225-\236\238\239][\128-\191][\128-\191]",
    "\237[\128-\159][\128-\191]",
    "\240[\144-\191][\128-\191][\128-\191]",
    "[\241-\243][\128-\191][\128-\191][\128-\191]",
    "\244[\128-\143][\128-\191][\128-\191]",
}

local function is_utf8(text)
    if not text:find("[\128-\255]") then
        return true
    end
    for _, sequence in ipairs(UTF8) do
        text = text:gsub(sequence, " ")
    end
    return not text:find("[\128-\255]")
end

local function members_in(value)
    local count = 0
    for key, inner in pairs(value) do
        if type(key) == "string" then
            count = count + 1
        end
        if type(inner) == "table" then
            count = count + members_in(inner)
        end
    end
    return count
end

-- Of two members of one name the decoder keeps one, and a node perhaps the other.
local function has_duplicates(body, value)
    local text = body
    if text:find("\\", 1, true) then
        text = text:gsub("\\.", "")
    end
    text = text:gsub('"[^"]*"', "")
    local _, colons = text:gsub(":", "")
    return colons ~= members_in(value)
end

local function parsed(body)
    if body:find("[^\32-\126]") then
        if body:find("[%z\1-\8\11\12\14-\31\127]") then
            return nil, "control characters are not allowed"
        end
        if not is_utf8(body) then
            return nil, "it is not UTF-8"
        end
    end
    if #body > M.MOST_VALUES then
        local _, values = body:gsub("[,:%[{]", "")
        if values > M.MOST_VALUES then
            return nil, "it holds too many values"
        end
    end
    local ok, value = pcall(decode, body)
    if not ok then
        return nil, value:find("nested", 1, true) and "it is nested too deeply" or "it is not JSON"
    end
    return value
end

local function id_text(id)
    if type(id) == "string" and #id <= M.LONGEST_ID then
        return encode(id)
    end
    -- From 2^53 on the number is perhaps not the caller's any more.
    if type(id) == "number" and math.abs(id) < 2 ^ 53 then
        return string.format(id == math.floor(id) and "%.0f" or "%.17g", id)
    end
    return nil
end

local MEMBERS = { jsonrpc = true, id = true, method = true, params = true }

-- Nodes in Go read members without regard to case, so a further one might be a second method.
local function stranger(value)
    for key in pairs(value) do
        if not MEMBERS[key] then
            return true
        end
    end
    return false
end

local function fault_of(value)
    if stranger(value) then
        return "a call has jsonrpc, id, method and params, and nothing else"
    elseif value.jsonrpc ~= "2.0" then
        return 'jsonrpc must be "2.0"'
    elseif type(value.method) ~= "string" then
        return "method must be a string"
    elseif value.id ~= nil and value.id ~= null and not id_text(value.id) then
        return "id must be a short string, a number below 2^53 or null"
    end
end

local function call_of(value)
    if type(value) ~= "table" or value[1] ~= nil then
        return { id = "null", problem = problem(M.INVALID, 400, "invalid", "a call is an object") }
    end
    local call = { id = id_text(value.id) or "null", silent = value.id == nil }
    local fault = fault_of(value)
    if fault then
        call.problem = problem(M.INVALID, 400, "invalid", fault)
        return call
    end
    call.method = value.method
    local params = value.params
    if params ~= nil and params ~= null then
        -- Members have names, an array's values do not; an empty one is either.
        if type(params) ~= "table" or (next(params) ~= nil and params[1] == nil) then
            call.problem = problem(M.PARAMS, 400, "params", "params must be an array")
            return call
        end
        call.params = params
    end
    return call
end

-- One call as most programs write it, with no space between its members, an id of digits, and params without objects, lists and escapes:
-- nothing in it can be there twice or be read in two ways, so nothing more need be asked of it than that its params are JSON.
local ID, METHOD, PARAMS = "(%d+)", '"([%w_]+)"', "(%[[^%z\1-\31%[%]{}\\\127-\255]*%])"
local USUAL = '^{"jsonrpc":"2%.0","id":' .. ID .. ',"method":' .. METHOD .. ',"params":' .. PARAMS .. "}$"
local USUAL_TOO = '^{"jsonrpc":"2%.0","method":' .. METHOD .. ',"params":' .. PARAMS .. ',"id":' .. ID .. "}$"
local LONGEST_USUAL = 1024
-- Of more digits not all are a number's own.
local MOST_DIGITS = 15
local ZERO = ("0"):byte()

-- The same request as by all rules below, or nil where those must decide.
function M.usual(body)
    if #body > LONGEST_USUAL then
        return nil
    end
    local id, method, params = body:match(USUAL)
    if not id then
        method, params, id = body:match(USUAL_TOO)
    end
    if not id or #id > MOST_DIGITS or (#id > 1 and id:byte() == ZERO) then
        return nil
    end
    local values
    if params == "[]" then
        values = {}
    else
        local ok
        ok, values = pcall(decode, params)
        if not ok then
            return nil
        end
    end
    return { batch = false, calls = { { id = id, silent = false, method = method, params = values } } }
end

-- The request in a body, or nil and the problem with it as a whole. Problems of single calls are in the calls.
function M.read(body)
    if type(body) ~= "string" or body == "" then
        return nil, problem(M.INVALID, 400, "invalid", "a call is POSTed as JSON")
    end
    local request = M.usual(body)
    if request then
        return request
    end
    local value, fault = parsed(body)
    if fault then
        return nil, problem(M.PARSE, 400, "parse", fault)
    end
    if type(value) ~= "table" or value == null then
        return nil, problem(M.INVALID, 400, "invalid", "a call is an object")
    end
    if has_duplicates(body, value) then
        return nil, problem(M.PARSE, 400, "parse", "it has members of one name twice")
    end
    if not body:find("^%s*%[") then
        return { batch = false, calls = { call_of(value) } }
    end
    if value[1] == nil then
        return nil, problem(M.INVALID, 400, "invalid", "a batch holds one call at least")
    end
    local calls = {}
    for at, one in ipairs(value) do
        calls[at] = call_of(one)
    end
    return { batch = true, calls = calls }
end

-- Where a string's closing quote is, of the one that opens at `at`.
local function end_of_string(text, at)
    repeat
        at = text:find('["\\]', at + 1)
        local is_escape = at and text:byte(at) == 92
        at = is_escape and at + 1 or at
    until not is_escape
    return at
end

-- The text of one call with another id, as JSON, and its own; nil where it has none, or none that is plain to see.
function M.with_id(text, id)
    local depth, at = 0, 0
    while true do
        at = text:find('["%[%]{}]', at + 1)
        if not at then
            return nil
        end
        local first, mark = at, text:sub(at, at)
        if mark == '"' then
            at = end_of_string(text, at)
            local value = depth == 1 and text:sub(first, at) == '"id"' and text:match("^%s*:%s*()", at + 1)
            if value then
                local last = text:byte(value) == 34 and end_of_string(text, value) or text:find("[,}%s]", value) - 1
                return text:sub(1, value - 1) .. id .. text:sub(last + 1), text:sub(value, last)
            end
        else
            depth = depth + ((mark == "{" or mark == "[") and 1 or -1)
        end
    end
end

-- What a node says to one call, as a table; nil where that cannot be read.
function M.answer(text)
    local ok, value = pcall(decode, text)
    return ok and type(value) == "table" and value or nil
end

-- The calls of a body that is refused whatever is in it, for their ids; nil where they cannot be read.
function M.peek(body)
    return type(body) == "string" and #body <= M.LONGEST and M.read(body) or nil
end

-- Namespaces that steer a node.
local STEERS = {
    admin = true,
    anvil = true,
    engine = true,
    evm = true,
    hardhat = true,
    miner = true,
    personal = true,
}
-- Starts of names, whatever their namespace, that do something, or that can be read only once.
local DOES = { "send", "submit", "set", "getFilterChanges" }

local function looks_safe(method)
    local namespace, name = method:match("^([^_]+)_(.+)$")
    if not namespace or STEERS[namespace] then
        return false
    end
    for _, start in ipairs(DOES) do
        if name:sub(1, #start) == start then
            return false
        end
    end
    return true
end

-- Verdicts, by method; callers may think of many.
local MOST_VERDICTS = 1000
local verdicts, count = {}, 0

local function is_safe(method)
    if type(method) ~= "string" then
        return false
    end
    local verdict = verdicts[method]
    if verdict == nil then
        if count >= MOST_VERDICTS then
            verdicts, count = {}, 0
        end
        verdict = looks_safe(method)
        verdicts[method], count = verdict, count + 1
    end
    return verdict
end

-- Whether all calls of a request may be sent to a second node after a first one had them. What cannot be read must not.
function M.repeatable(request)
    if not request then
        return false
    end
    for _, call in ipairs(request.calls) do
        if not is_safe(call.method) then
            return false
        end
    end
    return true
end

local function one(id, trouble)
    return string.format('{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}', id, trouble.code, encode(trouble.message))
end

local BESIDE = problem(M.INVALID, 400, "beside", "not carried out, because another call of the batch is refused")

-- The JSON-RPC text that refuses a request: each call's own problem, or `trouble` for all. A batch is refused whole.
function M.refusal(request, trouble)
    if not request or #request.calls > M.MOST_ERRORS then
        return one("null", trouble or BESIDE) .. "\n"
    end
    if not request.batch then
        local call = request.calls[1]
        return one(call.id, trouble or call.problem) .. "\n"
    end
    local errors = {}
    for _, call in ipairs(request.calls) do
        -- A notice is answered by nothing, unless it is what is wrong.
        if not call.silent or (not trouble and call.problem) then
            errors[#errors + 1] = one(call.id, trouble or call.problem or BESIDE)
        end
    end
    if #errors == 0 then
        return one("null", trouble or BESIDE) .. "\n"
    end
    return "[" .. table.concat(errors, ",") .. "]\n"
end

return M

-- What the edge must know of a JSON-RPC call: whether it may be sent twice, and how a refusal is written. No nginx.

local cjson = require("cjson").new()
local decode, encode = cjson.decode, cjson.encode

cjson.decode_max_depth(64)

local M = {}

-- A longer body is not looked into: it is sent once, and a refusal of it names no id.
M.LONGEST = 65536

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

local function is_safe(method)
    if type(method) ~= "string" then
        return false
    end
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

local function decoded(body)
    if type(body) ~= "string" or #body > M.LONGEST then
        return nil
    end
    local ok, value = pcall(decode, body)
    return ok and type(value) == "table" and value or nil
end

-- Whether the body's call, or each call of its batch, may be sent to a second node after a first one had it. What cannot be read
-- must not.
function M.repeatable(body)
    local value = decoded(body)
    if not value then
        return false
    end
    if value.method ~= nil then
        return is_safe(value.method)
    end
    for _, call in ipairs(value) do
        if type(call) ~= "table" or not is_safe(call.method) then
            return false
        end
    end
    return #value > 0
end

local function id_text(id)
    if type(id) == "string" then
        return encode(id)
    end
    -- Beyond 2^53 the number is not the caller's any more.
    if type(id) == "number" and math.abs(id) <= 2 ^ 53 then
        return string.format(id == math.floor(id) and "%.0f" or "%.15g", id)
    end
    return "null"
end

-- The JSON-RPC error that answers a body: with its id, or one for each call of a batch that has an id.
function M.refusal(body, code, message)
    local function one(id)
        return string.format('{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}', id, code, encode(message))
    end
    local value = decoded(body) or {}
    local errors = {}
    for _, call in ipairs(value) do
        if type(call) == "table" and call.id ~= nil then
            errors[#errors + 1] = one(id_text(call.id))
        end
    end
    if #errors > 0 then
        return "[" .. table.concat(errors, ",") .. "]\n"
    end
    return one(id_text(value.id)) .. "\n"
end

return M

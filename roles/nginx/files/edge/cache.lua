-- Answers that cannot change: which calls have one, under which name it is kept, and what of a node's answer is kept. No nginx.

local cjson = require("cjson").new()
cjson.decode_max_depth(64)

local M = {}

M.LONGEST = 65536
-- A node may have lied; nothing it said is believed for longer.
M.SECONDS = 3600

local function hash_of(value)
    return type(value) == "string" and #value == 66 and value:find("^0x%x+$") and value:lower() or nil
end

local function number_of(value)
    if type(value) == "string" and #value <= 15 and value:find("^0x%x+$") then
        return tonumber(value:sub(3), 16)
    end
end

local function quantity_of(value)
    local number = number_of(value)
    return number and string.format("%x", number) or nil
end

local function boolean_of(value)
    if type(value) == "boolean" then
        return tostring(value)
    end
end

-- Per method: how each of its params is written in the name, and where a block's number is: in the answer, or in these params.
local KEPT = {
    eth_chainId = { params = {} },
    net_version = { params = {} },
    eth_getBlockByHash = { params = { hash_of, boolean_of }, number = "number" },
    eth_getBlockByNumber = { params = { quantity_of, boolean_of }, number = "number" },
    eth_getTransactionReceipt = { params = { hash_of }, number = "blockNumber" },
    eth_getTransactionByHash = { params = { hash_of }, number = "blockNumber" },
    eth_getTransactionByBlockHashAndIndex = { params = { hash_of, quantity_of }, number = "blockNumber" },
    eth_getTransactionByBlockNumberAndIndex = { params = { quantity_of, quantity_of }, number = "blockNumber" },
    eth_getBlockReceipts = {
        params = {
            function(value)
                return hash_of(value) or quantity_of(value)
            end,
        },
        number = "first",
    },
}

-- Whether there are calls of a method with an answer that cannot change.
function M.is_kept(method)
    return KEPT[method] ~= nil
end

-- The name of a call's answer, or nil where it may change. `finalised` is the newest final block's number, nil where nobody knows.
function M.name(chain, rights, call, finalised)
    local kept = KEPT[call.method]
    local params = call.params or {}
    if not kept or #params ~= #kept.params then
        return nil
    end
    if kept.number then
        local asked = number_of(params[1])
        if not finalised or (asked and asked > finalised) then
            return nil
        end
    end
    local words = { chain, rights, call.method }
    for at, canonical in ipairs(kept.params) do
        local word = canonical(params[at])
        if not word then
            return nil
        end
        words[#words + 1] = word
    end
    return table.concat(words, " ")
end

-- A space stands for any.
local FORMS = {
    { '^ { "jsonrpc" : "2.0" , "id" : ', ' , "result" : ', " } $" },
    { '^ { "jsonrpc" : "2.0" , "result" : ', ' , "id" : ', " } $", last = true },
    { '^ { "id" : ', ' , "jsonrpc" : "2.0" , "result" : ', " } $" },
}
for _, form in ipairs(FORMS) do
    for at, part in ipairs(form) do
        form[at] = part:gsub("%.", "%%."):gsub(" ", "%%s*")
    end
end

local function escaped(text)
    return (text:gsub("%p", "%%%0"))
end

local function result_in(body, id)
    for _, form in ipairs(FORMS) do
        local name = escaped(id)
        local pattern = form.last and form[1] .. "(.-)" .. form[2] .. name .. form[3]
            or form[1] .. name .. form[2] .. "(.-)" .. form[3]
        local result = body:match(pattern)
        if result then
            return result
        end
    end
end

-- The text of the result in a node's answer to a call, where it cannot change any more; else nil.
-- `about` is {chain_id, finalised}.
function M.result(call, body, about)
    local kept = KEPT[call.method]
    if #body > M.LONGEST then
        return nil
    end
    local ok, answer = pcall(cjson.decode, body)
    if not ok or type(answer) ~= "table" or answer.result == nil or answer.result == cjson.null then
        return nil
    end
    for name in pairs(answer) do
        if name ~= "jsonrpc" and name ~= "id" and name ~= "result" then
            return nil
        end
    end
    local result = answer.result
    if call.method == "eth_chainId" then
        if number_of(result) ~= about.chain_id then
            return nil
        end
    elseif call.method == "net_version" then
        if result ~= string.format("%d", about.chain_id) then
            return nil
        end
    else
        local holder = kept.number == "first" and type(result) == "table" and result[1] or result
        local number = type(holder) == "table" and number_of(holder[kept.number == "first" and "blockNumber" or kept.number])
        if not number or not about.finalised or number > about.finalised then
            return nil
        end
    end
    return result_in(body, call.id)
end

-- The answer to a call with a kept result.
function M.answer(id, result)
    return '{"jsonrpc":"2.0","id":' .. id .. ',"result":' .. result .. "}\n"
end

return M

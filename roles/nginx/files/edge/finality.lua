-- The newest final block of each chain, by what its pool's members say: the lowest, so that one node alone makes nothing final.

local fetch = require("edge.fetch")
local pools = require("edge.pools")

local dict = ngx.shared.pools
local M = {}

M.SECONDS = 4
local BELIEVED_SECONDS = 60
local QUESTION = '{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["finalized",false]}'

-- Nil where nobody knows.
function M.of(chain)
    return dict:get("final:" .. chain)
end

local function asked(node)
    local answer = fetch.json(node.rpc, 1, QUESTION)
    local block = answer and answer.result
    local number = type(block) == "table" and block.number
    return type(number) == "string" and #number <= 15 and number:find("^0x%x+$") and tonumber(number:sub(3), 16) or nil
end

-- Ask every member of the chains' pools.
function M.poll(chains)
    local threads = {}
    for _, chain in ipairs(chains) do
        for _, member in ipairs(pools.members(chain)) do
            threads[#threads + 1] = { chain = chain, thread = ngx.thread.spawn(asked, member.node) }
        end
    end
    local lowest = {}
    for _, one in ipairs(threads) do
        local ok, number = ngx.thread.wait(one.thread)
        if ok and number then
            lowest[one.chain] = math.min(lowest[one.chain] or math.huge, number)
        end
    end
    for chain, number in pairs(lowest) do
        dict:set("final:" .. chain, number, BELIEVED_SECONDS)
    end
end

return M

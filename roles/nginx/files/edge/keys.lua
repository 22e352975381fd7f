-- API keys: a file a key, named by the SHA-256 of the key and written by edge-keys. What a file says holds a second later.

local cjson = require("cjson.safe")
local ffi = require("ffi")

ffi.cdef("unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);")

local M = {}

local BELIEVED_SECONDS = 1
local MOST_REMEMBERED = 10000
-- What edge-keys makes: a prefix, by which scanners for secrets know it, and 256 random bits.
local FORM = "^edge_[%w_-]+$"
local LENGTH = 48

local remembered, count = {}, 0
local digest = ffi.new("unsigned char[32]")

-- The hex SHA-256 of a text.
local function sha256(text)
    ffi.C.SHA256(text, #text, digest)
    return (ffi.string(digest, 32):gsub(".", function(byte)
        return string.format("%02x", byte:byte())
    end))
end

-- The key that a request names, in `Authorization: Bearer` or `X-API-Key`; nil where it names none.
function M.named(authorization, header)
    if header and header ~= "" then
        return header
    end
    return authorization and authorization:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(.-) *$") or nil
end

local function read(directory, id)
    local file = io.open(directory .. "/" .. id .. ".json")
    if not file then
        return nil
    end
    local record = cjson.decode(file:read(4096) or "")
    file:close()
    if type(record) == "table" and type(record.name) == "string" and type(record.tier) == "string" then
        record.id = id
        return record
    end
end

local function is_valid(record, now)
    return (tonumber(record.not_before) or math.huge) <= now and now < (tonumber(record.not_after) or 0)
end

-- What is known of the key whose SHA-256 is `id`, {id, name, tier}; nil where there is none that is valid now.
function M.known(directory, id, now)
    local memory = remembered[id]
    if not memory or now - memory.at >= BELIEVED_SECONDS or now < memory.at then
        if not memory then
            if count >= MOST_REMEMBERED then
                remembered, count = {}, 0
            end
            count = count + 1
        end
        memory = { at = now, record = read(directory, id) }
        remembered[id] = memory
    end
    local record = memory.record
    return record and is_valid(record, now) and record or nil
end

-- As `known`, for the key itself.
function M.find(directory, key, now)
    if #key ~= LENGTH or not key:find(FORM) then
        return nil
    end
    return M.known(directory, sha256(key), now)
end

return M

-- WebSocket frames as RFC 6455 has them, from bytes and to bytes. No nginx.

local bit = require("bit")
local band, bor, bxor, rshift = bit.band, bit.bor, bit.bxor, bit.rshift
local byte, char, sub = string.byte, string.char, string.sub

local M = {}

M.CONTINUATION, M.TEXT, M.BINARY, M.CLOSE, M.PING, M.PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

-- A frame's first two bytes: {final, opcode, masked, length, more}, `more` being how many bytes of length follow; nil and what is wrong.
function M.head(two)
    local first, second = byte(two, 1, 2)
    if band(first, 0x70) ~= 0 then
        return nil, "no extension was agreed on"
    end
    local opcode, length = band(first, 0x0F), band(second, 0x7F)
    if (opcode > 0x2 and opcode < 0x8) or opcode > 0xA then
        return nil, "a frame of no known kind"
    end
    local frame = {
        final = band(first, 0x80) ~= 0,
        opcode = opcode,
        masked = band(second, 0x80) ~= 0,
        length = length,
        more = length == 126 and 2 or length == 127 and 8 or 0,
    }
    if opcode >= 0x8 and (not frame.final or length > 125) then
        return nil, "a control frame is whole and short"
    end
    return frame
end

-- The length that further bytes say.
function M.length(bytes)
    local length = 0
    for at = 1, #bytes do
        length = length * 256 + byte(bytes, at)
    end
    return length
end

-- A payload with its mask put on or taken off.
function M.mask(payload, key)
    local one, two, three, four = byte(key, 1, 4)
    local parts, count = {}, 0
    local whole = #payload - #payload % 4
    for at = 1, whole, 4 do
        local a, b, c, d = byte(payload, at, at + 3)
        count = count + 1
        parts[count] = char(bxor(a, one), bxor(b, two), bxor(c, three), bxor(d, four))
    end
    for at = whole + 1, #payload do
        count = count + 1
        parts[count] = char(bxor(byte(payload, at), byte(key, (at - 1) % 4 + 1)))
    end
    return table.concat(parts)
end

-- The bytes of a frame before its payload, which is masked where a key is given.
function M.start(opcode, length, key)
    local masked = key and 0x80 or 0
    local first = bor(0x80, opcode)
    if length <= 125 then
        return char(first, bor(masked, length)) .. (key or "")
    elseif length <= 0xFFFF then
        return char(first, bor(masked, 126), rshift(length, 8), band(length, 0xFF)) .. (key or "")
    end
    local bytes = {}
    for at = 8, 1, -1 do
        bytes[at] = char(length % 256)
        length = math.floor(length / 256)
    end
    return char(first, bor(masked, 127)) .. table.concat(bytes) .. (key or "")
end

-- A close frame's payload.
function M.reason(code, words)
    return char(rshift(code, 8), band(code, 0xFF)) .. sub(words, 1, 120)
end

return M

-- WebSockets: the edge reads each frame of a caller and lets a message go on only as it would let a POSTed one. What the node says goes
-- to the caller frame by frame and is not looked into.

local semaphore = require("ngx.semaphore")
local frames = require("edge.frames")
local pools = require("edge.pools")
local subscriptions = require("edge.subscriptions")

local now = ngx.now

local M = {}

local TRIES = 3
local CONNECT_MS, HANDSHAKE_MS = 1000, 5000
-- How often it is looked at whether a WebSocket may stay, and how long its last words wait for others.
local LOOK_SECONDS, LAST_WORDS_SECONDS = 0.5, 0.2
-- Set by start: a caller who takes nothing for so long is gone; after so long a silence it is pinged, and after as long again it is gone;
-- and without a message for so long, either way, the WebSocket ends.
local send_ms, silence_ms, idle_seconds, most_subscriptions
local PIECE = 32768
-- Pings and pongs of a caller in a second, beyond which it is not read for one.
local MOST_CONTROLS = 20
local PROTOCOL, WENT_AWAY, POLICY, TOO_BIG = 1002, 1001, 1008, 1009
local MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

local secret, named = nil, 0

-- An id that no caller can guess, whatever others he has seen.
local function name()
    named = named + 1
    return "edge-" .. ngx.md5(secret .. ngx.worker.pid() .. ":" .. named)
end

-- init_by_lua: {send_seconds, ping_seconds, idle_seconds, subscriptions}.
function M.start(facts)
    local random = assert(io.open("/dev/urandom", "rb"))
    secret = random:read(32)
    random:close()
    most_subscriptions = tonumber(facts.subscriptions)
    send_ms, silence_ms = tonumber(facts.send_seconds) * 1000, tonumber(facts.ping_seconds) * 1000
    idle_seconds = tonumber(facts.idle_seconds)
end

local function random_bytes(count)
    local bytes = {}
    for at = 1, count do
        bytes[at] = string.char(math.random(0, 255))
    end
    return table.concat(bytes)
end

-- A node's WebSocket, or nil.
local function open(node)
    local socket = ngx.socket.tcp()
    socket:settimeouts(CONNECT_MS, send_ms, HANDSHAKE_MS)
    if not socket:connect(node.ws.address, node.ws.port) then
        pools.unreached(node)
        return nil
    end
    local key = ngx.encode_base64(random_bytes(16))
    socket:send(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
            .. key
            .. "\r\n\r\n"
    )
    local line = socket:receive("*l")
    local accepted = false
    for _ = 1, 64 do
        local header = line and socket:receive("*l")
        if not header or header == "" then
            break
        end
        local name, value = header:match("^([^:]+):%s*(.-)%s*$")
        if name and name:lower() == "sec-websocket-accept" then
            accepted = value == ngx.encode_base64(ngx.sha1_bin(key .. MAGIC))
        end
    end
    if line and line:find("^HTTP/1%.1 101") and accepted then
        return socket
    end
    socket:close()
    return nil
end

-- A node of the chain and an open WebSocket to it; nil where none can be reached.
function M.connect(chain)
    local tried = {}
    for _ = 1, TRIES do
        local node = pools.pick(chain, tried)
        if not node or tried[node.index] then
            return nil
        end
        tried[node.index] = true
        local socket = open(node)
        if socket then
            return node, socket
        end
    end
end

-- What is known of a WebSocket's subscriptions (subscriptions.lua), of which there are none yet.
function M.subscriptions()
    return subscriptions.new(most_subscriptions, name)
end

-- Why a request does not open a WebSocket, or nil.
function M.fault()
    local key, version = ngx.var.http_sec_websocket_key, ngx.var.http_sec_websocket_version
    local connection = ngx.var.http_connection
    if ngx.req.http_version() ~= 1.1 then
        return "a WebSocket begins with HTTP/1.1"
    elseif version ~= "13" then
        return "Sec-WebSocket-Version must be 13"
    elseif not key or not key:find("^[%w+/]+==$") or #key ~= 24 then
        return "Sec-WebSocket-Key must be 16 bytes in base64"
    elseif not connection or not connection:lower():find("upgrade", 1, true) then
        return "Connection must be Upgrade"
    end
end

local function accept()
    ngx.status = 101
    ngx.header["Upgrade"] = "websocket"
    ngx.header["Content-Type"] = nil
    ngx.header["Sec-WebSocket-Accept"] = ngx.encode_base64(ngx.sha1_bin(ngx.var.http_sec_websocket_key .. MAGIC))
    ngx.send_headers()
    ngx.flush(true)
    return ngx.req.socket(true)
end

-- Exactly so many bytes, waiting for them as long as `wait` says after each silence; nil and why not.
local function receive(socket, count, wait)
    local parts, missing = {}, count
    while missing > 0 do
        local bytes, problem, partial = socket:receive(missing)
        if bytes then
            parts[#parts + 1] = bytes
            break
        end
        if partial and partial ~= "" then
            parts[#parts + 1] = partial
            missing = missing - #partial
        end
        local goes_on, why = wait(problem, missing < count)
        if not goes_on then
            return nil, why
        end
    end
    return table.concat(parts)
end

local function head_of(socket, wait)
    local two, problem = receive(socket, 2, wait)
    if not two then
        return nil, problem
    end
    local frame, fault = frames.head(two)
    if not frame then
        return nil, "protocol", fault
    end
    frame.bytes = two
    if frame.more > 0 then
        local more = receive(socket, frame.more, wait)
        if not more then
            return nil, "gone"
        end
        frame.length, frame.bytes = frames.length(more), two .. more
    end
    return frame
end

-- Pass what an accepted WebSocket's two ends say, until one of them leaves. `about` is {most_bytes, most_answer, judge, fault,
-- is_waiting, answer}:
-- `judge(text)` gives true for a message that may pass, and the text that goes to the node; else false, the text that refuses it, and the
-- seconds until it might; or false, nothing, and why the connection ends. `fault()` gives why it may not stay, or nothing. While
-- `is_waiting()`, `answer(text)` gives what goes to the caller of each whole message of the node's. Gives why it ended.
function M.run(node_socket, about)
    local client = accept()
    if not client then
        return "no socket"
    end
    client:settimeouts(CONNECT_MS, send_ms, silence_ms)
    -- A node with nothing to say is no less well; the caller is who is asked for a sign of life.
    node_socket:settimeouts(CONNECT_MS, send_ms, 86400000)
    -- Two threads write to the caller, a message at a time.
    local turn = semaphore.new(1)
    local function say(opcode, payload, patience)
        if not turn:wait(patience or send_ms / 1000) then
            return false
        end
        local ok = client:send(frames.start(opcode, #payload) .. payload)
        turn:post()
        return ok
    end
    local function leave(code, words, patience)
        say(frames.CLOSE, frames.reason(code, words), patience)
        return words
    end
    -- And two to the node.
    local node_turn = semaphore.new(1)
    local function tell(bytes)
        if not node_turn:wait(send_ms / 1000) then
            return false
        end
        local ok = node_socket:send(bytes)
        node_turn:post()
        return ok
    end
    -- When a message went either way last.
    local spoken = now()

    local function from_client()
        local pinged = false
        local function wait(problem, begun)
            if problem ~= "timeout" then
                return false, "gone"
            elseif begun or pinged then
                return false, "silent"
            end
            pinged = true
            return say(frames.PING, "") and true or false, "gone"
        end
        local parts, size, kind = {}, 0, nil
        local second, controls = 0, 0
        -- They are no calls and charged to nobody.
        local function pace()
            local at = math.floor(now())
            if at ~= second then
                second, controls = at, 0
            end
            controls = controls + 1
            if controls > MOST_CONTROLS then
                controls = 0
                ngx.sleep(1)
            end
        end
        while true do
            local frame, problem, fault = head_of(client, wait)
            if not frame then
                return problem == "protocol" and leave(PROTOCOL, fault) or problem == "silent" and leave(WENT_AWAY, "silent") or problem
            end
            pinged = false
            if not frame.masked then
                return leave(PROTOCOL, "a caller's frames are masked")
            end
            if frame.length + size > about.most_bytes then
                return leave(TOO_BIG, "the message is too big")
            end
            local key = receive(client, 4, wait)
            local payload = key and receive(client, frame.length, wait)
            if not payload then
                return "gone"
            end
            local plain = frames.mask(payload, key)
            if frame.opcode == frames.CLOSE then
                tell(frame.bytes .. key .. payload)
                say(frames.CLOSE, #plain >= 2 and plain:sub(1, 2) or "")
                return "closed"
            elseif frame.opcode == frames.PING or frame.opcode == frames.PONG then
                if frame.opcode == frames.PING and not say(frames.PONG, plain) then
                    return "gone"
                end
                pace()
            else
                if (frame.opcode == frames.CONTINUATION) ~= (kind ~= nil) then
                    return leave(PROTOCOL, "a continuation of nothing")
                end
                kind = kind or frame.opcode
                parts[#parts + 1], size = plain, size + #plain
                if #parts > 1024 then
                    return leave(POLICY, "too many pieces")
                end
                spoken = now()
                if frame.final then
                    local message = #parts == 1 and plain or table.concat(parts)
                    local passes, said, seconds = about.judge(message)
                    if passes then
                        local same = #parts == 1 and said == message
                        local start = same and kind == frames.TEXT and frame.bytes .. key or frames.start(frames.TEXT, #said, key)
                        if not tell(start .. (same and payload or frames.mask(said, key))) then
                            return leave(WENT_AWAY, "the node went away")
                        end
                    elseif said then
                        say(frames.TEXT, said)
                        -- One who sends too fast is not read meanwhile.
                        if seconds then
                            ngx.sleep(math.min(seconds, 1))
                        end
                    else
                        return leave(POLICY, seconds)
                    end
                    parts, size, kind = {}, 0, nil
                end
            end
        end
    end

    local function from_node()
        local function wait(problem)
            return problem == "timeout", "gone"
        end
        -- The caller is asked for signs of life by the edge alone, and the edge gives them to the node.
        local function answer(frame)
            local payload = receive(node_socket, frame.length, wait)
            if payload and frame.opcode == frames.PING then
                local key = random_bytes(4)
                return tell(frames.start(frames.PONG, #payload, key) .. frames.mask(payload, key))
            end
            return payload
        end
        local function pass(frame, is_whole)
            if is_whole and frame.length <= about.most_answer and about.is_waiting() then
                local said = receive(node_socket, frame.length, wait)
                said = said and about.answer(said)
                return said and client:send(frames.start(frames.TEXT, #said) .. said)
            end
            local ok = client:send(frame.bytes)
            local left = frame.length
            while ok and left > 0 do
                local piece = receive(node_socket, math.min(left, PIECE), wait)
                ok = piece and client:send(piece)
                left = left - math.min(left, PIECE)
            end
            return ok
        end
        -- Nodes send long messages in pieces, between which no other message may come.
        local is_begun = false
        while true do
            local frame = head_of(node_socket, wait)
            if not frame or frame.masked then
                if is_begun then
                    return "gone"
                end
                return leave(WENT_AWAY, "the node went away")
            end
            if frame.opcode == frames.PING or frame.opcode == frames.PONG then
                if not answer(frame) then
                    return "gone"
                end
            else
                if not is_begun and not turn:wait(send_ms / 1000) then
                    return "gone"
                end
                local ok = pass(frame, frame.final and frame.opcode == frames.TEXT)
                spoken = now()
                is_begun = frame.opcode < frames.CLOSE and not frame.final
                if not is_begun then
                    turn:post()
                end
                if not ok or frame.opcode == frames.CLOSE then
                    return "closed"
                end
            end
        end
    end

    local function look()
        while true do
            ngx.sleep(LOOK_SECONDS)
            local fault = about.fault()
            if fault then
                return leave(POLICY, fault, LAST_WORDS_SECONDS)
            elseif now() - spoken >= idle_seconds then
                return leave(WENT_AWAY, "idle", LAST_WORDS_SECONDS)
            end
        end
    end

    local threads = { ngx.thread.spawn(from_client), ngx.thread.spawn(from_node), ngx.thread.spawn(look) }
    local _, why = ngx.thread.wait(unpack(threads))
    for _, thread in ipairs(threads) do
        ngx.thread.kill(thread)
    end
    node_socket:close()
    return why
end

return M

-- JSON of a node or of its host, over HTTP/1.0 and within a time.

local cjson = require("cjson.safe")
local now = ngx.now

local M = {}

local LARGEST = 1048576

-- {address, port, path, name} of http://IPv4:PORT/path.
function M.split(url)
    local address, port, path = url:match("^http://(%d+%.%d+%.%d+%.%d+):(%d+)(.*)$")
    if not address then
        error("pools.json holds " .. url .. "; allowed: http://IPv4:PORT", 0)
    end
    return { address = address, port = tonumber(port), path = path, name = address .. ":" .. port }
end

-- The document behind a target, decoded; or nil and why there is none. With a body it is POSTed. It takes `seconds`, and a little at most.
function M.json(target, seconds, body)
    local deadline = now() + seconds
    local socket = ngx.socket.tcp()
    local milliseconds = seconds * 1000
    socket:settimeouts(milliseconds, milliseconds, milliseconds)
    local ok, problem = socket:connect(target.address, target.port)
    if not ok then
        return nil, target.name .. " " .. tostring(problem)
    end
    local path = target.path ~= "" and target.path or "/"
    local head = (body and "POST " or "GET ") .. path .. " HTTP/1.0\r\nHost: " .. target.name .. "\r\n"
    if body then
        head = head .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n"
    end
    socket:send(head .. "\r\n" .. (body or ""))
    local parts, size = {}, 0
    while true do
        local left = (deadline - now()) * 1000
        if left <= 0 then
            problem = "timeout"
            break
        end
        socket:settimeouts(left, left, left)
        local part, err = socket:receiveany(65536)
        if not part then
            problem = err
            break
        end
        size = size + #part
        parts[#parts + 1] = part
        if size > LARGEST then
            problem = "too much"
            break
        end
    end
    socket:close()
    if problem ~= "closed" then
        return nil, target.name .. " " .. tostring(problem)
    end
    local status, text = table.concat(parts):match("^HTTP/1%.[01] (%d%d%d).-\r\n\r\n(.*)$")
    local page = status == "200" and cjson.decode(text) or nil
    if type(page) ~= "table" then
        return nil, target.name .. " answers HTTP status " .. tostring(status) .. " or no JSON"
    end
    return page
end

return M

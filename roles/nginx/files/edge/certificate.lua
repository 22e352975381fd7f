-- The certificate that handshakes are answered with: read again from its file within a second after that has changed. So a new one
-- needs no reload, which would close connections that are kept and give WebSockets a last worker of their own.

local ssl = require("ngx.ssl")
local complaints = require("edge.complaints")

local M = {}

local LOOK_SECONDS = 1

local path
local known -- the file's text that chain and key are of
local refused -- a text that could not be read
local chain, key
local looked = 0

-- init_by_lua: where chain and key stand, in one file, so that they always belong together.
function M.start(pair)
    path = pair
end

local function look()
    local file, problem = io.open(path)
    local text = file and file:read("*a")
    if file then
        file:close()
    end
    if text and (text == known or text == refused) then
        return
    end
    local read_chain, read_key
    if text then
        read_chain, problem = ssl.parse_pem_cert(text)
    end
    if read_chain then
        read_key, problem = ssl.parse_pem_priv_key(text)
    end
    if read_key then
        known, chain, key = text, read_chain, read_key
    else
        refused = text
        complaints.say(path, " cannot be read, the certificate before is served: ", tostring(problem))
    end
end

-- ssl_certificate_by_lua: answer with what the file holds now; with what nginx read when it started where that cannot be read.
function M.serve()
    local now = ngx.now()
    if now - looked >= LOOK_SECONDS then
        looked = now
        look()
    end
    if not chain then
        return
    end
    assert(ssl.clear_certs())
    assert(ssl.set_cert(chain))
    assert(ssl.set_priv_key(key))
end

return M

-- Connections that an address has open, idle ones among them: nginx itself counts those alone that have a request. A connection is known
-- from its handshake on and looked at twice a second; it is open as long as its descriptor leads to the same peer.

local base = require("resty.core.base")
local ffi = require("ffi")
local ssl = require("ngx.ssl")
local held = require("edge.held")
local limits = require("edge.limits")
local record = require("edge.record")

ffi.cdef([[
int SSL_get_fd(const void *ssl);
int getpeername(int fd, void *address, unsigned int *length);
int shutdown(int fd, int how);
]])

local M = {}

-- Debian 12's lua-resty-core does not offer yet what the module has.
local pointer_of_request = ssl.get_req_ssl_pointer
if not pointer_of_request then
    ffi.cdef("void *ngx_http_lua_ffi_get_req_ssl_pointer(ngx_http_request_t *r);")
    pointer_of_request = function()
        return ffi.C.ngx_http_lua_ffi_get_req_ssl_pointer(base.get_request())
    end
end

local LONGEST = 128
local address, length = ffi.new("char[?]", LONGEST), ffi.new("unsigned int[1]")

local exempt, most -- address ranges that are not counted, and how many connections any other address may have
local open = {} -- this worker's, by descriptor: {peer, caller}

-- init_by_lua.
function M.start(ranges, connections)
    exempt, most = ranges, connections
end

local function peer_of(descriptor)
    length[0] = LONGEST
    if ffi.C.getpeername(descriptor, address, length) == 0 then
        return ffi.string(address, length[0])
    end
end

local function count(caller, change)
    held.add("connections", change)
    return held.add("from:" .. caller, change)
end

local function forget(descriptor)
    local caller = open[descriptor].caller
    open[descriptor] = nil
    if count(caller, -1) <= 0 then
        held.drop("from:" .. caller)
    end
end

-- The descriptor of this request's connection.
function M.descriptor()
    return ffi.C.SSL_get_fd(pointer_of_request())
end

-- Have nginx find that nothing more comes from a connection.
function M.shut(descriptor)
    ffi.C.shutdown(descriptor, 0)
end

-- ssl_client_hello_by_lua: count who begins a handshake, and refuse it where its address has too many connections.
function M.greet()
    local descriptor = M.descriptor()
    if open[descriptor] then
        forget(descriptor)
    end
    local binary = ssl.raw_client_addr()
    local peer = peer_of(descriptor)
    if not binary or not peer or limits.is_within(binary, exempt) then
        return
    end
    local caller = limits.address(binary)
    open[descriptor] = { peer = peer, caller = caller }
    if count(caller, 1) > most then
        forget(descriptor)
        record.count("connections_refused_total", 'reason="address"')
        return ngx.exit(ngx.ERROR)
    end
end

-- How many a caller has, by his address as limits.address gives it; 0 for one behind a proxy.
function M.of(caller)
    return held.get("from:" .. caller)
end

-- In each worker, twice a second: forget those that have ended.
function M.look()
    for descriptor, one in pairs(open) do
        if peer_of(descriptor) ~= one.peer then
            forget(descriptor)
        end
    end
end

return M

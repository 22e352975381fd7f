-- Who is in a pool: from what the nodes' hosts say to what each node is. Pure functions, no nginx.
--
-- A verdict is {word, reason, head, age}: `good`, `bad` (leaves at once) or `silent` (nobody says how it is; leaves after a few).
-- A state is what is remembered of a node from one poll to the next: {member, since, good, silent, word, reason, head, age, drained}.
-- Times are seconds.

local M = {}

-- A record from a look that began so long ago says nothing any more.
M.OLDEST_LOOK = 3
-- Good polls in a row that bring a node back.
M.RISE = 2
-- Polls in a row without a word after which it leaves; the program that says how nodes are may be restarting.
M.SILENCE = 3
-- A lag counts only where the node's own newest block is so many of the chain's usual block times old. So no other node's claim
-- of a head far ahead puts out one that is up to date by the clock.
M.OLD_BLOCKS = 1.5

local LARGEST = 2 ^ 53

local function is_number(value)
    return type(value) == "number" and value == value and value >= 0 and value < LARGEST
end

local function silent(reason)
    return { word = "silent", reason = reason }
end

local function bad(reason)
    return { word = "bad", reason = reason }
end

local function record_of(page, name)
    for _, record in ipairs(type(page.nodes) == "table" and page.nodes or {}) do
        if type(record) == "table" and record.name == name then
            return record
        end
    end
end

local function words_of(record)
    local detail = type(record.detail) == "string" and record.detail:sub(1, 200) or ""
    local state = type(record.state) == "string" and record.state:sub(1, 40) or "in no state"
    -- It goes to the journal, a line each.
    return ((state .. (detail ~= "" and ": " .. detail or "")):gsub("%c", " "))
end

-- What a host's page says of one node: all of its services must be in step, and the first one's head counts.
-- `page` is the decoded JSON, or nil where there is none for `reason`.
function M.verdict(page, services, reason)
    if type(page) ~= "table" then
        return silent(reason or "no page")
    end
    local unsaid
    for _, name in ipairs(services) do
        local record = record_of(page, name)
        if not record then
            unsaid = unsaid or name .. " has not been looked at"
        elseif not is_number(record.look_age_seconds) or record.look_age_seconds > M.OLDEST_LOOK then
            unsaid = unsaid or name .. " has not been looked at for a while"
        elseif record.state ~= "in_step" then
            return bad(name .. " " .. words_of(record))
        end
    end
    if unsaid then
        return silent(unsaid)
    end
    local first = record_of(page, services[1])
    if not is_number(first.head) or not is_number(first.head_age_seconds) then
        return bad(services[1] .. " has no head")
    end
    return {
        word = "good",
        reason = "in step",
        head = first.head,
        age = first.head_age_seconds,
        look_age = first.look_age_seconds,
    }
end

local function is_old(verdict, pool)
    return verdict.age > M.OLD_BLOCKS * pool.block_seconds
end

-- Of three and more, a head that runs ahead of the middle one is believed only where the middle one is old by the clock.
local function without_liars(good, pool)
    if #good < 3 then
        return good
    end
    table.sort(good, function(one, other)
        return one.head < other.head
    end)
    local middle = good[math.ceil(#good / 2)]
    local believed = {}
    for _, verdict in ipairs(good) do
        local ahead = verdict.head - middle.head
        if ahead > pool.allowed_lag_blocks and not is_old(middle, pool) then
            verdict.word = "bad"
            verdict.reason = string.format("claims a head %d blocks ahead of the others, which are up to date", ahead)
        else
            believed[#believed + 1] = verdict
        end
    end
    return believed
end

-- Hold a pool's verdicts against each other, and make those bad that lag behind another or run ahead of all.
function M.compare(verdicts, pool)
    local good = {}
    for _, verdict in ipairs(verdicts) do
        if verdict.word == "good" then
            good[#good + 1] = verdict
        end
    end
    local best = 0
    local believed = without_liars(good, pool)
    for _, verdict in ipairs(believed) do
        best = math.max(best, verdict.head)
    end
    for _, verdict in ipairs(believed) do
        local lag = best - verdict.head
        if lag > pool.allowed_lag_blocks and is_old(verdict, pool) then
            verdict.word = "bad"
            verdict.reason = string.format("%d blocks behind the pool's best, %d allowed", lag, pool.allowed_lag_blocks)
        end
    end
end

-- The state after a poll. A node that was never seen before needs one good poll and is given its full share at once.
function M.step(state, verdict, drained, now)
    local before = state or { member = false, since = 0, good = 0, silent = 0 }
    local after = {
        member = before.member,
        since = before.since,
        good = verdict.word == "good" and math.min(before.good + 1, M.RISE) or 0,
        silent = verdict.word == "silent" and math.min(before.silent + 1, M.SILENCE) or 0,
        word = verdict.word,
        reason = verdict.reason,
        head = verdict.head,
        age = verdict.age,
        drained = drained,
    }
    if drained or verdict.word == "bad" or after.silent >= M.SILENCE then
        after.member = false
    elseif verdict.word == "good" and not before.member and (not state or after.good >= M.RISE) then
        after.member = true
        after.since = state and now or 0
    end
    return after
end

-- The part of its share, 0 to 1, that a node takes which came back at `since`.
function M.share(since, now, slow_start_seconds)
    if since == 0 or now - since >= slow_start_seconds then
        return 1
    end
    return math.max(0.1, (now - since) / slow_start_seconds)
end

return M

-- One reading of one room, as the room is at one moment.
--
-- KEYS are the room's, as for commit.lua; ARGV: what is read, and with what, packed. Returns what was found, packed; false
-- where there is no such thing.

local ROOM, EVENTS, SAID, EDITS, TRIMS, TELLING, ENTRIES, STARTS = unpack(KEYS, 1, 8)
local HELD, KNOWN, ACTS, REACTORS, REACTED = unpack(KEYS, 9, 13)
local call = redis.call
local asked = cmsgpack.unpack(ARGV[2])

local state = call('HMGET', ROOM, 'seq', 'first', 'rewritings')
local head, first = tonumber(state[1] or 0), tonumber(state[2] or 1)

local function number(value) return string.format('%d', value) end

local function body_of(seq) return call('HGET', EVENTS, number(seq)) end

local function is_kind(body, kind) return body and string.sub(body, 1, #kind + 11) == '{"type":"' .. kind .. '",' end

-- Pages: the first seq and the head, where the page begins, and its bodies.

local function page(from, bodies) return { first, head, from, bodies } end

local CHUNK = 100

local function upwards(from, limit, max_bytes)
    local bodies, left = {}, max_bytes
    local low = math.max(from, first)
    while low <= head and #bodies < limit do
        local fields = {}
        for seq = low, math.min(low + CHUNK - 1, head, low + limit - #bodies - 1) do fields[#fields + 1] = number(seq) end
        for _, body in ipairs(call('HMGET', EVENTS, unpack(fields))) do
            left = left - #body
            if #bodies > 0 and left < 0 then return bodies, low end
            bodies[#bodies + 1] = body
        end
        low = low + #fields
    end
    return bodies
end

local function downwards(below, limit, max_bytes)
    local bodies, left, seq = {}, max_bytes, math.min(below, head + 1) - 1
    while seq >= first and #bodies < limit do
        local body = body_of(seq)
        left = left - #body
        if #bodies > 0 and left < 0 then break end
        table.insert(bodies, 1, body)
        seq = seq - 1
    end
    return bodies, seq + 1
end

local function first_since(at)
    local low, high = first, head + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        local when = tonumber(string.match(body_of(middle), '^{"type":"%w+","seq":%d+,"at":(%d+)'))
        if when < at then low = middle + 1 else high = middle end
    end
    return low
end

local function before(seq, limit, max_bytes)
    local bodies, from = downwards(seq or head + 1, limit, max_bytes)
    return page(from, bodies)
end

local function after(seq, limit, max_bytes)
    return page(math.max(seq + 1, first), (upwards(seq + 1, limit, max_bytes)))
end

-- People

local function indexed(person, seq) return person .. ':' .. string.format('%016d', seq) end

local function said(person, from, to, limit)
    return call('ZREVRANGEBYLEX', SAID, '[' .. indexed(person, to), '[' .. indexed(person, from), 'LIMIT', 0, limit)
end

local function said_by(person, seq, limit, max_bytes)
    local found, left, is_more = {}, max_bytes, false
    for _, member in ipairs(said(person, first, (seq or head + 1) - 1, limit + 1)) do
        local at_seq = tonumber(string.sub(member, #person + 2))
        local body = body_of(at_seq)
        left = left - #body
        is_more = #found == limit or (#found > 0 and left < 0)
        if is_more then break end
        table.insert(found, 1, { at_seq, body })
    end
    return { found, is_more }
end

local function spoke_before(people, at)
    local found, to = {}, first_since(at) - 1
    for _, person in ipairs(people) do
        if #said(person, first, to, 1) > 0 then found[#found + 1] = person end
    end
    return found
end

local function held_rows()
    local rows, all = {}, call('HGETALL', HELD)
    for place = 1, #all, 2 do rows[#rows + 1] = { tonumber(all[place]), all[place + 1] } end
    table.sort(rows, function(one, other) return one[1] < other[1] end)
    return rows
end

local function acts(below, limit, person)
    local found, id = {}, math.min(below or 2 ^ 53, tonumber(call('HGET', ROOM, 'acts') or 0) + 1) - 1
    while id > 0 and #found < limit do
        local body = call('HGET', ACTS, number(id))
        if not body then break end -- older ones are not kept
        if not person or string.find(body, '"id":"' .. person .. '"', 1, true) then found[#found + 1] = body end
        id = id - 1
    end
    return found
end

local function reactor_name(person)
    local newest = 0
    for _, member in ipairs(call('ZRANGEBYLEX', REACTED, '[' .. person .. ':', '(' .. person .. ';')) do
        newest = math.max(newest, tonumber(string.match(member, ':(%d+):')))
    end
    if newest == 0 then return false end
    for _, reactor in ipairs(cjson.decode(call('HGET', REACTORS, number(newest)))) do
        if reactor[2] == person then return reactor[3] end
    end
end

local function name_of(person)
    local newest = said(person, first, head, 1)[1]
    if newest then return cjson.decode(body_of(tonumber(string.sub(newest, #person + 2)))).by.name end
    for _, row in ipairs(held_rows()) do
        local held = cjson.decode(row[2])
        if held.person == person then return held.name end
    end
    local name = reactor_name(person)
    if name then return name end
    local act = acts(nil, 1, person)[1]
    if not act then return false end
    act = cjson.decode(act)
    return act.whom and act.whom.id == person and act.whom.name or act.by.name
end

-- What can be read

local readings = {}

function readings.head() return head end

function readings.state() return { head, tonumber(state[3] or 0) } end

function readings.opening(recent, max_bytes)
    local starts, entries = call('HGETALL', STARTS), call('HGETALL', ENTRIES)
    return { first, head, before(false, recent, max_bytes), starts, entries, call('HLEN', HELD), tonumber(state[3] or 0) }
end

readings.before, readings.after, readings.said_by, readings.spoke_before = before, after, said_by, spoke_before
readings.acts, readings.name_of, readings.held = acts, name_of, held_rows

function readings.since(at, limit, max_bytes) return after(first_since(at) - 1, limit, max_bytes) end

function readings.around(seq, limit, max_bytes)
    if seq < first or not is_kind(body_of(seq), 'message') then return false end
    local earlier, from = {}, seq
    if limit > 2 then earlier, from = downwards(seq, math.floor((limit - 1) / 2), max_bytes / 2) end
    for _, body in ipairs((upwards(seq, limit - #earlier, max_bytes / 2))) do earlier[#earlier + 1] = body end
    return page(from, earlier)
end

function readings.bytes_after(seq)
    local bytes = 0
    for each = math.max(seq + 1, first), head do bytes = bytes + call('HSTRLEN', EVENTS, number(each)) end
    return bytes
end

function readings.has_too_many(since_ms, events)
    if since_ms > 0 and first_since(since_ms) > first then return true end
    return events > 0 and head - first + 1 - call('ZCOUNT', TRIMS, first, '+inf') > events
end

function readings.held_count() return call('HLEN', HELD) end

function readings.held_message(id) return call('HGET', HELD, number(id)) end

function readings.is_used()
    return head > 0 or call('EXISTS', ENTRIES) + call('EXISTS', ACTS) + call('EXISTS', HELD) > 0
end

function readings.rules() return call('HGET', ENTRIES, 'rules') end

-- What an act is planned on: the answers to any commands, each packed as commit.lua will compare it.
if ARGV[1] == 'look' then
    local found = {}
    for place, command in ipairs(asked) do found[place] = cmsgpack.pack(call(unpack(command))) end
    return found
end

return cmsgpack.pack(readings[ARGV[1]](unpack(asked)))

-- One batch of one room: everything that is asked is placed, stored, remembered and published, or nothing is.
--
-- KEYS are the room's, all with one hash tag; ARGV: this batch's token, the epoch's number, now (ms), the newest seq that
-- whoever asks has told, what the batch was planned on and what is asked, both packed, how many may be held, what the
-- epoch is called, the number of the one up to which whoever asks knows the room, and the channel.
-- Returns "changed" if that is no longer so, else an answer for each that asked: its seq, -seq if it was known before, or
-- a code. Told to subscribers, as JSON: whose batch it is, the epoch, the first seq and the time of its events, their
-- bodies, the new ones of stored events, the entries that changed, how many messages are held, and who is put out for
-- which reason.
--
-- In what is stored, control characters stand for what is only known here: \1 a new event's seq, \2 its time, \3 the
-- number of a record, \4 the first seq that is kept. JSON has none of its own.

local ROOM, EVENTS, SAID, EDITS, TRIMS, TELLING, ENTRIES, STARTS = unpack(KEYS, 1, 8)
local HELD, KNOWN, ACTS, REACTORS, REACTED, TODAY, YESTERDAY, TOMORROW, ANSWERED = unpack(KEYS, 9, 17)
local token, epoch, now, told = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local EPOCH_NAME, KNOWN_EPOCH, CHANNEL = ARGV[8], tonumber(ARGV[9]), ARGV[10]
local DAY_MS, DAYS_S, ANSWERED_S = 24 * 3600 * 1000, 49 * 3600, 60
local MOST_HELD, RETOLD, FIELDS, NOTHING = tonumber(ARGV[7]), 2048, 1000, {}
local call = redis.call

local answer = call('GET', ANSWERED)
if answer then return answer end -- the same batch once more: its answer was lost

for _, look in ipairs(cmsgpack.unpack(ARGV[5])) do
    if redis.sha1hex(cmsgpack.pack(call(unpack(look[1])))) ~= look[2] then return 'changed' end
end

-- A script that fails is not undone: what another program has put here must show before the first write.
for _, key in ipairs({ EVENTS, ENTRIES, STARTS, HELD, ACTS, REACTORS, TODAY, YESTERDAY, TOMORROW }) do call('HLEN', key) end
for _, key in ipairs({ SAID, EDITS, TRIMS, TELLING, REACTED }) do call('ZCARD', key) end

local state = call('HMGET', ROOM, 'seq', 'at', 'first', 'epoch')
local last, first = tonumber(state[1] or 0), tonumber(state[3] or 1)
if state[4] and tonumber(state[4]) > KNOWN_EPOCH then
    return redis.error_reply('BEHIND the room was written in an epoch that whoever asks does not know')
end
if last < told then return redis.error_reply('LOST the room has forgotten what was told of it') end

-- A call for a thousand fields costs a tenth of what a thousand calls do.
local function in_pieces(command, key, arguments)
    for from = 1, #arguments, FIELDS do
        call(command, key, unpack(arguments, from, math.min(from + FIELDS - 1, #arguments)))
    end
end

local function number(value) return string.format('%d', value) end

local seq, at = last, math.max(now, tonumber(state[2] or 0))
local placed, changed, entered, known, kicked = {}, {}, {}, {}, {} -- placed: in order, the first is of last + 1
local is_rewriting = false
local said, ids_of_today = {}, {}
local marks = { ['\1'] = number(seq), ['\2'] = number(at) }

local function fill(template) return (string.gsub(template, '[\1\2\3\4]', marks)) end

-- Events

local function body_of(at_seq) return placed[at_seq - last] or call('HGET', EVENTS, number(at_seq)) end

local function is_message(at_seq)
    if at_seq < first or at_seq > seq then return false end
    local body = body_of(at_seq)
    return body and string.sub(body, 1, 17) == '{"type":"message"'
end

local function indexed(person, at_seq) return person .. ':' .. string.format('%016d', at_seq) end

local function next_seq()
    seq = seq + 1
    marks['\1'] = number(seq)
    return marks['\1']
end

-- `index`: "edit" (of a message), "trim", "telling" (an announcement) or "".
local function place(template, index, message)
    local numbered = next_seq()
    placed[#placed + 1] = fill(template)
    if index == 'edit' then call('ZADD', EDITS, message, numbered)
    elseif index == 'trim' then call('ZADD', TRIMS, seq, numbered)
    elseif index == 'telling' then call('ZADD', TELLING, seq, numbered) end
    return seq
end

-- `rest`: its JSON after its time; a batch has thousands, and to fill a template takes four times as long.
local function place_message(rest, person)
    placed[#placed + 1] = '{"type":"message","seq":' .. next_seq() .. ',"at":' .. marks['\2'] .. rest
    said[#said + 1] = '0'
    said[#said + 1] = indexed(person, seq)
end

local function rewrite(at_seq, body)
    is_rewriting = true
    if at_seq > last then placed[at_seq - last] = body else changed[at_seq] = body end
end

local function remove(at_seq)
    local body = changed[at_seq] or body_of(at_seq)
    if not body then return end
    local when, edit = string.match(body, '^{"type":"%w+","seq":%d+,"at":(%d+)'), string.match(body, ',"edit":(%d+)')
    rewrite(at_seq, '{"type":"removed","seq":' .. number(at_seq) .. ',"at":' .. when .. '}')
    return edit and tonumber(edit)
end

local is_unused = last == 0 and call('HLEN', ENTRIES) == 0
local held_before = call('HLEN', HELD)

local function enter(entries)
    for _, entry in ipairs(entries or NOTHING) do
        local key, value = entry[1], entry[2]
        entered[#entered + 1] = cjson.encode(key) .. ':' .. (value or 'null')
        if value then call('HSET', ENTRIES, key, value) else call('HDEL', ENTRIES, key) end
    end
end

-- Whoever opens a room owns it; two servers may each have let somebody in first.
local function claim(entries)
    if is_unused then enter(entries) end
end

-- Messages

local function hold(ids, held)
    for key, value in pairs(known) do -- what was refused long ago may be said again
        local refused_ms = tonumber(string.match(value, '^refused:(%d+)'))
        if refused_ms and refused_ms < now - DAY_MS then call('HDEL', KNOWN, key) end
    end
    if call('HLEN', HELD) >= MOST_HELD then return 'full' end
    local id = number(call('HINCRBY', ROOM, 'held', 1))
    call('HSET', HELD, id, fill(held))
    if ids ~= '' then call('HSET', KNOWN, ids, 'waits:' .. id) known[ids] = 'waits:' .. id end
    return 'held'
end

local said_before = {} -- seq:at, by person:client_id

local function say(asked)
    local _, ids, person, body, reply_to, more = unpack(asked)
    more = more or NOTHING
    local before = said_before[ids]
    if before then
        local before_seq, before_ms = string.match(before, '(%d+):(%d+)')
        if now - before_ms <= DAY_MS then return -tonumber(before_seq) end
    end
    if more.release and call('HEXISTS', HELD, more.release) == 0 then return 'gone' end
    if not more.release and known[ids] then
        return string.sub(known[ids], 1, 5) == 'waits' and 'held' or 'refused'
    end
    if more.refused then return 'barred' end
    if reply_to and not is_message(reply_to) then return 'not_found' end
    if more.hold then
        local held = hold(ids, more.hold)
        if held == 'held' then claim(more.claim) enter(more.entries) return 'newly_held' end
        return held
    end
    if more.release then
        call('HDEL', HELD, more.release)
        call('HDEL', KNOWN, ids)
        known[ids] = nil
        is_rewriting = true
    end
    claim(more.claim)
    enter(more.entries)
    place_message(body, person)
    if ids ~= '' then
        said_before[ids] = marks['\1'] .. ':' .. marks['\2']
        ids_of_today[#ids_of_today + 1] = ids
        ids_of_today[#ids_of_today + 1] = said_before[ids]
    end
    return seq
end

-- What is asked to be said may have been said before.
local function look_back(all)
    local asked = {}
    for _, each in ipairs(all) do
        if each[1] == 'say' and each[2] ~= '' then asked[#asked + 1] = each[2] end
    end
    for _, day in ipairs({ YESTERDAY, TODAY, TOMORROW }) do
        for from = 1, call('EXISTS', day) * #asked, FIELDS do
            local to = math.min(from + FIELDS - 1, #asked)
            for place_of, before in ipairs(call('HMGET', day, unpack(asked, from, to))) do
                if before then said_before[asked[from + place_of - 1]] = before end
            end
        end
    end
end

-- Acts

local function record(template, most)
    local id = call('HINCRBY', ROOM, 'acts', 1)
    marks['\3'] = number(id)
    call('HSET', ACTS, number(id), fill(template))
    call('HDEL', ACTS, number(id - most))
end

local function forget_reactions(at_seq)
    local reactors = call('HGET', REACTORS, number(at_seq))
    if not reactors then return end
    for _, reactor in ipairs(cjson.decode(reactors)) do
        call('ZREM', REACTED, reactor[2] .. ':' .. number(at_seq) .. ':' .. reactor[1])
    end
    call('HDEL', REACTORS, number(at_seq))
end

local function remove_message(at_seq, person)
    local edit = remove(at_seq)
    if edit then remove(edit) call('ZREM', EDITS, number(edit)) end
    call('ZREM', SAID, indexed(person, at_seq))
    forget_reactions(at_seq)
end

local function purge(person)
    for _, member in ipairs(call('ZRANGEBYLEX', SAID, '[' .. person .. ':', '(' .. person .. ';')) do
        remove_message(tonumber(string.sub(member, #person + 2)), person)
    end
    is_rewriting = true
    for ids, value in pairs(known) do
        local id = string.match(value, '^waits:(%d+)')
        if id and string.sub(ids, 1, #person + 1) == person .. ':' then
            known[ids] = 'refused:' .. number(now)
            call('HSET', KNOWN, ids, known[ids])
        end
    end
    local held = call('HGETALL', HELD)
    for place_of = 1, #held, 2 do
        if cjson.decode(held[place_of + 1]).person == person then call('HDEL', HELD, held[place_of]) end
    end
end

local function refuse(id, ids)
    call('HDEL', HELD, id)
    if ids ~= '' then call('HSET', KNOWN, ids, 'refused:' .. number(now)) end
    is_rewriting = true
end

-- Letting go of the oldest

local function when(at_seq)
    return tonumber(string.match(body_of(at_seq), '^{"type":"%w+","seq":%d+,"at":(%d+)'))
end

local function first_since(since_ms)
    local low, high = first, seq + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if when(middle) < since_ms then low = middle + 1 else high = middle end
    end
    return low
end

local function first_of_newest(events)
    local from, next_try = seq + 1, seq - events + 1
    while next_try < from do
        from = next_try
        next_try = seq - events + 1 - call('ZCOUNT', TRIMS, from, '+inf')
    end
    return from
end

local function trim(since_ms, events, template)
    local held = call('HGETALL', HELD)
    for place_of = 1, #held, 2 do
        local row = cjson.decode(held[place_of + 1])
        if row.at < since_ms then
            call('HDEL', HELD, held[place_of])
            if row.client_id then call('HDEL', KNOWN, row.person .. ':' .. row.client_id) end
            is_rewriting = true
        end
    end
    local from = since_ms > 0 and first_since(since_ms) or first
    if events > 0 then from = math.max(from, first_of_newest(events)) end
    if from <= first then return 0 end
    local is_loss, each = false, first
    while each < from and not is_loss do
        is_loss = is_message(each)
        each = each + 1
    end
    first = from
    marks['\4'] = number(first)
    call('HSET', ROOM, 'first', number(first))
    for _, edit in ipairs(call('ZRANGEBYSCORE', EDITS, '-inf', '(' .. number(first))) do
        if tonumber(edit) >= first then remove(tonumber(edit)) end
    end
    call('ZREMRANGEBYSCORE', EDITS, '-inf', '(' .. number(first))
    is_rewriting = true
    return is_loss and place(template, 'trim') or 0
end

-- What was let go of is taken away in steps, as there may be millions of it; returns how much is left.
local function clear(most)
    local from = tonumber(call('HGET', ROOM, 'cleared') or 1)
    local to = math.min(from + most, first)
    for each = from, to - 1 do
        local person = string.match(body_of(each) or '', '^{"type":"message","seq":%d+,"at":%d+,"by":{"id":"(%w+)"')
        if person then call('ZREM', SAID, indexed(person, each)) end
        forget_reactions(each)
        call('HDEL', EVENTS, number(each))
    end
    if to > from then
        call('HSET', ROOM, 'cleared', number(to))
        for _, key in ipairs({ TRIMS, TELLING }) do call('ZREMRANGEBYSCORE', key, '-inf', '(' .. number(to)) end
    end
    return first - to
end

-- What is asked

local deeds = {
    say = say,
    event = function(asked) return place(asked[2], asked[3], asked[4]) end,
    set = function(asked) rewrite(asked[2], fill(asked[3])) return 0 end,
    remove = function(asked) remove(asked[2]) return 0 end,
    unsay = function(asked) remove_message(asked[2], asked[3]) return 0 end,
    purge = function(asked) purge(asked[2]) return 0 end,
    claim = function(asked) claim(asked[2]) return 0 end,
    kick = function(asked) kicked[#kicked + 1] = cjson.encode(asked[2]) .. ':' .. cjson.encode(asked[3]) return 0 end,
    enter = function(asked) enter(asked[2]) return 0 end,
    record = function(asked) record(asked[2], asked[3]) return 0 end,
    refuse = function(asked) refuse(asked[2], asked[3]) return 0 end,
    trim = function(asked) return trim(asked[2], asked[3], asked[4]) end,
    clear = function(asked) return clear(asked[2]) end,
    call = function(asked) call(unpack(asked, 2)) return 0 end,
}

local all = call('HGETALL', KNOWN)
for place_of = 1, #all, 2 do known[all[place_of]] = all[place_of + 1] end

local outcomes, all_asked = {}, cmsgpack.unpack(ARGV[6])

-- A Redis that is full lets a script go on that has written: what takes away is not to be refused.
local FREEING = { trim = true, clear = true, unsay = true, purge = true, refuse = true }
if all_asked[1][1] ~= 'say' then
    for _, asked in ipairs(all_asked) do
        if FREEING[asked[1]] then call('ZREM', TRIMS, '') end
    end
end

look_back(all_asked)
for place_of, asked in ipairs(all_asked) do outcomes[place_of] = deeds[asked[1]](asked) end

-- Storing, remembering, telling

local stored = {}
for place_of, body in ipairs(placed) do
    stored[2 * place_of - 1] = number(last + place_of)
    stored[2 * place_of] = body
end
for at_seq, body in pairs(changed) do
    stored[#stored + 1] = number(at_seq)
    stored[#stored + 1] = body
end
in_pieces('HSET', EVENTS, stored)
in_pieces('ZADD', SAID, said)
in_pieces('HSET', TODAY, ids_of_today)
if seq > last then
    call('HSET', ROOM, 'seq', number(seq), 'at', number(at))
    if state[4] ~= epoch then
        call('HSET', ROOM, 'epoch', epoch)
        call('HSET', STARTS, epoch, number(last + 1))
    end
end
local rewritings = call('HINCRBY', ROOM, 'rewritings', is_rewriting and 1 or 0)
if #ids_of_today > 0 then call('EXPIRE', TODAY, DAYS_S) end

local held = call('HLEN', HELD)
local is_told = seq > last or is_rewriting or #entered > 0 or held ~= held_before
if is_told then
    local retold = {}
    for at_seq, body in pairs(changed) do
        if at_seq > seq - RETOLD then retold[#retold + 1] = '"' .. number(at_seq) .. '":' .. body end
    end
    call('PUBLISH', CHANNEL, '{"by":"' .. token .. '","epoch":"' .. EPOCH_NAME .. '","seq":' .. number(last + 1) .. ',"at":' .. number(at)
        .. ',"rewritings":' .. number(rewritings)
        .. ',"events":[' .. table.concat(placed, ',') .. '],"changed":{' .. table.concat(retold, ',')
        .. '},"entries":{' .. table.concat(entered, ',') .. '},"held":' .. number(held)
        .. ',"kicked":{' .. table.concat(kicked, ',') .. '}}')
end
answer = cmsgpack.pack({ is_told, outcomes, seq - last, is_unused })
call('SET', ANSWERED, answer, 'EX', ANSWERED_S)
return answer

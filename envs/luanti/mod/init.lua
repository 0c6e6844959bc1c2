-- One tick per command. The server waits in `read_command` between ticks, so nothing moves by the wall clock.
-- Commands and answers are lines of JSON in two FIFOs of the world's folder.

local WORLD = core.get_worldpath()
local MOD = core.get_modpath("unified_env")
local LOW, HIGH = -32, 47 -- the one generated map chunk, in nodes along each axis
local BLOCKS_PER_STEP = 25 -- map blocks handed to the client per server step
local SLOT_PATIENCE = 5e6 -- microseconds until a pressed slot key must have arrived

dofile(MOD .. "/still.lua")
local body = dofile(MOD .. "/body.lua")
local hands = dofile(MOD .. "/hands.lua")

local commands = assert(io.open(WORLD .. "/commands", "r"))
local answers = assert(io.open(WORLD .. "/answers", "w"))
local emerged, marker, current, unsent = false, nil, nil, nil
local gui_open, held = false, nil

local function colour(mark)
    local function part(bit)
        return math.floor(mark / bit) % 2 == 1 and "ff" or "00"
    end
    return "blank.png^[noalpha^[colorize:#" .. part(4) .. part(2) .. part(1) .. ":255^[resize:12x4"
end

local function set_marker(player, mark)
    if marker then
        player:hud_change(marker, "text", colour(mark))
        return
    end
    marker = player:hud_add({
        hud_elem_type = "image", position = {x = 0, y = 0}, alignment = {x = 1, y = 1},
        offset = {x = 0, y = 0}, scale = {x = 1, y = 1}, text = colour(mark), z_index = 2000,
    })
end

local function answer(value)
    answers:write(core.write_json(value) .. "\n")
    answers:flush()
end

local function read_command()
    local line = commands:read("*l")
    if not line then -- the environment is gone
        core.request_shutdown()
        return nil
    end
    return core.parse_json(line)
end

local function counts(player)
    local found, any = {}, false
    for _, stack in ipairs(player:get_inventory():get_list("main")) do
        if not stack:is_empty() then
            found[stack:get_name()] = (found[stack:get_name()] or 0) + stack:get_count()
            any = true
        end
    end
    return any and found or nil
end

local function state(player, changed)
    local pointed = hands.pointed(body)
    return {
        x = body.x, y = body.y, z = body.z, yaw = body.yaw, pitch = body.pitch,
        on_ground = body.on_ground, in_water = body.in_water, collided = body.collided,
        slot = player:get_wield_index() - 1, gui = gui_open, changed = changed,
        inventory = counts(player), pointed = pointed and core.get_node(pointed.under).name,
    }
end

local function all_blocks()
    local found = {}
    for x = LOW / 16, (HIGH + 1) / 16 - 1 do
        for y = LOW / 16, (HIGH + 1) / 16 - 1 do
            for z = LOW / 16, (HIGH + 1) / 16 - 1 do
                found[#found + 1] = {x = x, y = y, z = z}
            end
        end
    end
    return found
end

local function prepare(player, command)
    core.set_timeofday(command.time)
    player:set_sky({type = "plain", base_color = "#8cbafa", clouds = false}) -- the other's light follows the clock
    player:set_physics_override({speed = 0, jump = 0, gravity = 0, sneak = false})
    player:hud_set_flags({healthbar = false, breathbar = false, minimap = false, basic_debug = false,
        wielditem = true, hotbar = true, crosshair = true})
    player:hud_set_hotbar_itemcount(9)
    player:hud_set_hotbar_image("") -- the game's own has eight slots
    player:set_properties({eye_height = body.EYE})
    player:set_formspec_prepend("") -- the game's own darkens the whole window, marker included
    local inventory = player:get_inventory()
    inventory:set_size("main", 36)
    inventory:set_list("main", {})
    for _, item in ipairs(command.items or {}) do
        if not core.registered_items[ItemStack(item):get_name()] then
            return "no item " .. item:match("%S+")
        end
        inventory:add_item("main", item)
    end
    unsent = all_blocks()
    return nil
end

-- Whether another item is in the hand than when this was last asked.
local function hand_changed(player)
    local before = held
    held = player:get_wielded_item():get_name()
    return held ~= before
end

local handlers = {}

-- Puts the player down near a column and hands the client the whole map.
function handlers.begin(player, command)
    if not unsent then
        local failed = prepare(player, command)
        if failed then
            return {failed = failed}
        elseif not body.spawn(command.x, command.z, command.yaw, LOW, HIGH) then
            return {failed = "no dry ground to stand on", ground = false}
        end
        body.show(player)
    end
    for _ = 1, math.min(BLOCKS_PER_STEP, #unsent) do
        player:send_mapblock(table.remove(unsent))
    end
    if #unsent > 0 then
        return nil
    end
    hand_changed(player)
    set_marker(player, command.mark)
    return state(player, true)
end

-- One tick of 1/20 second.
function handlers.step(player, command)
    local keys = command.keys
    if not command.since then
        command.since = core.get_us_time()
    end
    local late = core.get_us_time() - command.since > SLOT_PATIENCE
    if command.slot and player:get_wield_index() ~= command.slot + 1 then -- it is on its way from the client
        return late and {failed = "not taken the key of slot " .. command.slot + 1} or nil
    end
    local open = gui_open
    if keys.ESC or keys.inventory then
        open = not gui_open and keys.inventory == true
        if gui_open and not open then
            core.close_formspec(player:get_player_name(), "unified_env:inventory")
        elseif open then
            core.show_formspec(player:get_player_name(), "unified_env:inventory", hands.panel())
        end
    end
    local changed = open ~= gui_open
    gui_open = open
    if not gui_open then
        body.turn(command.pitch, command.yaw)
        body.move(keys)
        changed = hands.act(player, body, keys) or changed
    else
        body.move({})
    end
    changed = hand_changed(player) or changed
    body.show(player)
    set_marker(player, command.mark)
    return state(player, changed)
end

core.after(0, function()
    local low, high = {x = LOW, y = LOW, z = LOW}, {x = HIGH, y = HIGH, z = HIGH}
    core.emerge_area(low, high, function(_, _, remaining)
        emerged = emerged or remaining == 0
    end)
end)

core.register_globalstep(function()
    local player = core.get_player_by_name("singleplayer")
    if not player or not emerged then
        return
    end
    current = current or read_command()
    if current then
        local done = handlers[current.op](player, current)
        if done then
            current = nil
            answer(done)
        end
    end
end)

-- Digging, placing, dropping, and the inventory panel, by the game's own rules for tools, drops and items.

local REACH = 4.0 -- nodes from the eyes, the engine's own for the hand
local TICK = 0.05
local PLACE_EVERY = 4 -- ticks between two nodes while the key is held

local hands = {dug = nil, ticks = 0, wait = 0, dropped = false}

-- The node that is looked at, as a pointed_thing, or nil.
function hands.pointed(body)
    local eye, ahead = body.look()
    local far = vector.add(eye, vector.multiply(ahead, REACH))
    for thing in core.raycast(eye, far, false, false) do
        if thing.type == "node" then
            return thing
        end
    end
    return nil
end

-- Ticks until this node is dug with what is held, or nil if it never is.
local function ticks_to_dig(player, node)
    local groups = (core.registered_nodes[node.name] or {}).groups or {}
    for _, holder in ipairs({player:get_wielded_item(), ItemStack("")}) do
        local found = core.get_dig_params(groups, holder:get_tool_capabilities())
        if found.diggable then
            return math.max(1, math.ceil(found.time / TICK))
        end
    end
    return nil
end

local function dig(player, thing)
    local node = core.get_node(thing.under)
    if not hands.dug or not vector.equals(hands.dug, thing.under) then
        hands.dug, hands.ticks = thing.under, 0
    end
    hands.ticks = hands.ticks + 1
    local needed = ticks_to_dig(player, node)
    if needed and hands.ticks >= needed then
        hands.dug = nil
        core.node_dig(thing.under, node, player)
        return core.get_node(thing.under).name ~= node.name
    end
    return false
end

local function place(player, body, thing)
    local stack = player:get_wielded_item()
    local item = stack:get_definition()
    if item.type ~= "node" or (item.walkable ~= false and body.inside(thing.above)) then
        return false
    end
    local count = stack:get_count()
    local left = core.item_place_node(stack, player, thing)
    if left then
        player:set_wielded_item(left)
    end
    return (left or stack):get_count() < count
end

-- What the keys do to the world in this tick; whether a node changed.
function hands.act(player, body, keys)
    local thing, changed = hands.pointed(body), false
    if keys.attack and thing then
        changed = dig(player, thing)
    else
        hands.dug = nil
    end
    hands.wait = keys.use and math.max(hands.wait - 1, 0) or 0
    if keys.use and thing and hands.wait == 0 then
        changed = place(player, body, thing) or changed
        hands.wait = PLACE_EVERY
    end
    if keys.drop and not hands.dropped then -- the item is gone: one that lies there would move by the wall clock
        local stack = player:get_wielded_item()
        stack:take_item(1)
        player:set_wielded_item(stack)
    end
    hands.dropped = keys.drop == true
    return changed
end

-- The panel that the key `inventory` opens.
function hands.panel()
    return "size[9,4]list[current_player;main;0,0;9,4;]"
end

return hands

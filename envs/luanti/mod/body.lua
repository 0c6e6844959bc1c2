-- The player's body: walking, jumping, falling and swimming against whole nodes, 20 ticks a second. Speeds are
-- those of the engine's own player, in nodes a second; feet are at (x, y, z).

local TICK = 0.05
local WALK, SPRINT, SNEAK, SWIM = 4.0, 5.2, 1.35, 2.0
local JUMP, GRAVITY, FASTEST_FALL = 6.5, 2 * 9.81, 40.0
local RISE, SINK = 2.5, 1.0 -- in water
local HALF, TALL, SLACK = 0.3, 1.7, 1e-4
local PART = 0.2 -- nodes moved at once, so that nothing is passed through
local AIR_CONTROL = 0.25 -- share of the wanted speed that is taken on per tick in the air

local body = {
    EYE = 1.47, x = 0, y = 0, z = 0, vx = 0, vy = 0, vz = 0, yaw = 0, pitch = 0,
    on_ground = false, in_water = false, collided = false,
}

local function round(value)
    return math.floor(value + 0.5)
end

local function definition(x, y, z)
    local node = core.get_node_or_nil({x = x, y = y, z = z})
    return node and node.name ~= "ignore" and core.registered_nodes[node.name] or nil
end

local function solid(x, y, z)
    local found = definition(x, y, z)
    return not found or found.walkable ~= false -- what is not there is a wall
end

local function liquid(x, y, z)
    local found = definition(x, y, z)
    return found ~= nil and (found.liquidtype or "none") ~= "none"
end

-- Whether a body with its feet here overlaps a node that `filled` says is full.
local function overlaps(x, y, z, filled)
    for nx = round(x - HALF + SLACK), round(x + HALF - SLACK) do
        for nz = round(z - HALF + SLACK), round(z + HALF - SLACK) do
            for ny = round(y + SLACK), round(y + TALL - SLACK) do
                if filled(nx, ny, nz) then
                    return true
                end
            end
        end
    end
    return false
end

-- Whether the body overlaps this one node.
function body.inside(position)
    return overlaps(body.x, body.y, body.z, function(x, y, z)
        return x == position.x and y == position.y and z == position.z
    end)
end

-- Moves along one axis up to the first wall; whether there was one.
local function slide(axis, way)
    local left, step = math.abs(way), way < 0 and -1 or 1
    while left > 0 do
        local part = math.min(left, PART)
        local to = {x = body.x, y = body.y, z = body.z}
        to[axis] = to[axis] + step * part
        if overlaps(to.x, to.y, to.z, solid) then
            local edge = axis == "y" and (step > 0 and TALL or 0) or step * HALF
            local face = step > 0 and round(to[axis] + edge) - 0.5 or round(to[axis] + edge) + 0.5
            local nearest = face - edge
            if (nearest - body[axis]) * step > 0 then
                body[axis] = nearest
            end
            return true
        end
        body[axis], left = to[axis], left - part
    end
    return false
end

-- Degrees; pitch is down, yaw to the right.
function body.turn(pitch, yaw)
    body.pitch = math.max(-90, math.min(90, body.pitch + pitch))
    body.yaw = (body.yaw + yaw + 180) % 360 - 180
end

local function wanted(keys)
    local ahead = (keys.forward and 1 or 0) - (keys.back and 1 or 0)
    local aside = (keys.right and 1 or 0) - (keys.left and 1 or 0)
    local length = math.sqrt(ahead * ahead + aside * aside)
    if length == 0 then
        return 0, 0
    end
    local speed = keys.sneak and SNEAK or body.in_water and SWIM or keys.sprint and ahead > 0 and SPRINT or WALK
    local yaw = math.rad(body.yaw)
    local east = math.sin(yaw) * ahead + math.cos(yaw) * aside
    local north = math.cos(yaw) * ahead - math.sin(yaw) * aside
    return speed * east / length, speed * north / length
end

-- One tick with these keys.
function body.move(keys)
    body.in_water = liquid(round(body.x), round(body.y + 0.3), round(body.z))
    local vx, vz = wanted(keys)
    local grip = (body.on_ground or body.in_water) and 1 or AIR_CONTROL
    body.vx, body.vz = body.vx + grip * (vx - body.vx), body.vz + grip * (vz - body.vz)
    if body.in_water then
        body.vy = keys.jump and RISE or -SINK
    elseif keys.jump and body.on_ground then
        body.vy = JUMP
    else
        body.vy = math.max(body.vy - GRAVITY * TICK, -FASTEST_FALL)
    end
    local east, north = slide("x", body.vx * TICK), slide("z", body.vz * TICK)
    body.collided = east or north
    local falls = body.vy < 0
    local hit = slide("y", body.vy * TICK)
    body.on_ground = hit and falls
    body.vx, body.vz = east and 0 or body.vx, north and 0 or body.vz
    body.vy = hit and 0 or body.vy
end

local function ground(x, z, low, high)
    for y = high - 3, low + 1, -1 do
        local found = definition(x, y, z)
        if found and found.walkable ~= false then
            local firm = core.get_item_group(found.name, "leaves") == 0 and core.get_item_group(found.name, "tree") == 0
            return firm and not liquid(x, y + 1, z) and not solid(x, y + 2, z) and y or nil
        elseif found and (found.liquidtype or "none") ~= "none" then
            return nil
        end
    end
    return nil
end

-- Feet on the nearest dry ground to column (x, z), looking level to `yaw`; whether there is any.
function body.spawn(x, z, yaw, low, high)
    local best, nearest
    for cx = low + 8, high - 8 do
        for cz = low + 8, high - 8 do
            local distance = (cx - x) ^ 2 + (cz - z) ^ 2
            if not nearest or distance < nearest then
                local y = ground(cx, cz, low, high)
                if y then
                    best, nearest = {cx, y + 0.5, cz}, distance
                end
            end
        end
    end
    if not best then
        return false
    end
    body.x, body.y, body.z = best[1], best[2], best[3]
    body.yaw, body.pitch, body.on_ground = yaw, 0, true
    return true
end

-- Where the eyes are, and the unit vector of what they look at.
function body.look()
    local yaw, pitch = math.rad(body.yaw), math.rad(body.pitch)
    local ahead = {x = math.sin(yaw) * math.cos(pitch), y = -math.sin(pitch), z = math.cos(yaw) * math.cos(pitch)}
    return {x = body.x, y = body.y + body.EYE, z = body.z}, ahead
end

-- Tells the client.
function body.show(player)
    player:set_pos({x = body.x, y = body.y, z = body.z})
    player:set_look_horizontal(-math.rad(body.yaw))
    player:set_look_vertical(math.rad(body.pitch))
end

return body

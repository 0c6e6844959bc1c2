-- Takes out of the game what moves by the wall clock: animated tiles, block updates, falling and decaying nodes.

-- The first picture of an animated tile, without its animation.
local function first_frame(tile)
    if type(tile) ~= "table" or not tile.animation then
        return tile
    end
    local copy, animation = table.copy(tile), tile.animation
    local name = tile.name or tile.image
    copy.animation = nil
    if animation.type == "sheet_2d" then
        copy.name = name .. "^[sheet:" .. animation.frames_w .. "x" .. animation.frames_h .. ":0,0"
    else
        local size = (animation.aspect_w or 16) .. "x" .. (animation.aspect_h or 16)
        copy.name = "[combine:" .. size .. ":0,0=" .. name
    end
    return copy
end

local function all_first(tiles)
    if not tiles then
        return nil
    end
    local found = {}
    for place, tile in pairs(tiles) do
        found[place] = first_frame(tile)
    end
    return found
end

core.register_on_mods_loaded(function()
    for name, node in pairs(core.registered_nodes) do
        core.override_item(name, {
            tiles = all_first(node.tiles),
            special_tiles = all_first(node.special_tiles),
            on_timer = function() end,
            waving = 0,
        })
    end
    for key in pairs(core.registered_abms) do
        core.registered_abms[key] = nil
    end
end)

function core.check_for_falling() end

"""The built-in sample release: drawn aerial scenes in SkyScript's own file layout.

Modules, bottom up:

    texture         noise fields
    shapes          points and outlines on the ground
    palette         the surfaces of one image
    canvas          surfaces, standing objects, shadows, and the ground that is still free
    develop         from the canvas to pixels
    objects         trees, cars, houses, roads, rails, boats
    airport         scenes: runway, apron
    built           scenes: buildings and other works
    land            scenes: fields, orchards, woods, quarries
    sport           scenes: tracks, fields, courts
    transport       scenes: junctions, bridges, car parks, rail yards
    water           scenes: harbours, lakes, rivers, pools
    kinds           every kind of scene: tags, captions, scales, drawing function
    surroundings    land, roads, railways and rivers around the object
    scene_captions  captions in SkyScript's style
    scene           one image with captions and metadata
    release         the whole release on disk
"""

from dove_core.data.scenes.release import draw_release

__all__ = ["draw_release"]

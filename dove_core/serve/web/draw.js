// A box or a polygon that somebody draws on the map, with a mouse, a finger or a pen.

const CLOSE = 12; // pixels: so near to the first corner, a polygon is complete

/** Begin to draw; `done` receives the corners, or null if it was given up. */
export function draw(map, kind, done) {
  const canvas = map.getCanvasContainer(), corners = [];
  let loose = null, start = null;

  const placeOf = event => {
    const frame = map.getCanvas().getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  const degrees = place => map.unproject(place).toArray();
  const ringOf = () => (kind === "box" && start && loose
    ? [start, [loose[0], start[1]], loose, [start[0], loose[1]]]
    : [...corners, ...(loose ? [loose] : [])]);

  const paint = () => {
    const ring = ringOf();
    const features = ring.length > 1 ? [{ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [[...ring, ring[0]]] } }] : [];
    const dots = corners.map(point => ({ type: "Feature", properties: {}, geometry: { type: "Point", coordinates: point } }));
    map.getSource("area")?.setData({ type: "FeatureCollection", features: [...features, ...dots] });
  };

  const end = points => {
    for (const [name, listener] of Object.entries(listeners)) canvas.removeEventListener(name, listener, true);
    document.removeEventListener("keydown", key, true);
    map.dragPan.enable();
    map.doubleClickZoom.enable();
    map.getCanvas().style.cursor = "";
    done(points);
  };
  const finish = () => end(corners.length > 2 ? corners : null);

  const listeners = {
    pointerdown(event) {
      if (kind !== "box" || event.button) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      start = loose = degrees(placeOf(event));
    },
    pointermove(event) {
      if (kind === "box" ? !start : !corners.length) return;
      loose = degrees(placeOf(event));
      paint();
    },
    pointerup(event) {
      if (kind === "box") {
        if (!start) return;
        loose = degrees(placeOf(event));
        const isArea = start[0] !== loose[0] && start[1] !== loose[1];
        return isArea ? end(ringOf()) : void (start = null);
      }
      const place = placeOf(event), first = corners.length > 2 && map.project(corners[0]);
      if (first && Math.hypot(first.x - place[0], first.y - place[1]) < CLOSE) return finish();
      corners.push(degrees(place));
      paint();
    },
    dblclick(event) {
      event.preventDefault();
      event.stopPropagation();
      if (kind !== "polygon") return;
      corners.pop(); // the second click of the two
      finish();
    },
  };
  const key = event => {
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    return event.key === "Enter" ? finish() : end(null);
  };

  map.dragPan.disable();
  map.doubleClickZoom.disable();
  map.getCanvas().style.cursor = "crosshair";
  for (const [name, listener] of Object.entries(listeners)) canvas.addEventListener(name, listener, true);
  document.addEventListener("keydown", key, true);
  return { cancel: () => end(null) };
}

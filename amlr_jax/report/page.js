"use strict";

// Points seen by a camera that looks at `centre` from `distance`, turned by yaw and pitch.
// Calls put(column, row, depth, index) for each that is in front of it.
function project(xyz, view, width, height, put) {
  const { centre, distance, yaw, pitch, focal } = view;
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  for (let i = 0; i < xyz.length; i += 3) {
    const x = xyz[i] - centre[0], y = xyz[i + 1] - centre[1], z = xyz[i + 2] - centre[2];
    const a = cy * x + sy * z, b = cy * z - sy * x;
    const c = cp * y - sp * b, depth = sp * y + cp * b + distance;
    if (depth > distance * 0.02)
      put(width / 2 + (focal * a) / depth, height / 2 + (focal * c) / depth, depth, i);
  }
}

// The sample of a packed depth map nearest to pixel (u, v): its pixel and point in space.
function sampleAt(map, u, v) {
  const [fx, fy, cx, cy] = map.camera, first = (map.step - 1) / 2;
  const nearest = (x, count) => Math.max(0, Math.min(count - 1, Math.round((x - first) / map.step)));
  const [row, column] = [nearest(v, map.rows), nearest(u, map.columns)];
  const [x, y] = [column, row].map((i) => Math.floor(i * map.step + first));
  const z = map.depth[row * map.columns + column];
  return { u: x, v: y, z, xyz: [((x - cx) / fx) * z, ((y - cy) / fy) * z, z] };
}

const distance = (a, b) => Math.hypot(...a.xyz.map((value, i) => value - b.xyz[i]));

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

const make = (name, parent, options = {}) =>
  parent.appendChild(Object.assign(document.createElement(name), options));

// A slider between the image of a frame and another of its pictures.
function compare(panels) {
  const stage = panels.querySelector(".image .stage");
  const others = [...panels.querySelectorAll(".panel:not(.image) img")];
  const over = make("img", stage, { className: "over", alt: "" });
  const bar = document.createElement("div");
  bar.className = "compare";
  stage.after(bar);
  const choice = make("select", bar, { ariaLabel: "Picture over the image" });
  others.forEach((img) => make("option", choice, { textContent: img.alt }));
  const slider = make("input", bar, { type: "range", min: 0, max: 100, value: 50, ariaLabel: "Where the image ends" });
  slider.oninput = () => stage.style.setProperty("--cut", `${slider.value}%`);
  choice.onchange = () => { over.src = others[choice.selectedIndex].src; };
  choice.selectedIndex = Math.max(others.findIndex((img) => img.alt.startsWith("Prediction")), 0);
  choice.onchange();
  slider.oninput();
}

// The depth under the pointer, and between two points that are clicked one after the other.
function measure(figure) {
  const maps = JSON.parse(figure.dataset.maps), points = [];
  for (const map of maps) map.depth = new Float32Array(bytes(map.depth).buffer);
  const { height, width } = maps[0];
  const stages = [...figure.querySelectorAll(".stage")];
  const text = document.createElement("p");
  text.className = "reading";
  figure.querySelector(".panels").after(text);
  const length = (map, value) => (value > 0 ? `${value.toFixed(value < 10 ? 3 : 2)} ${map.unit}` : "no depth");
  const lines = (word) => maps.map((map, i) => (maps.length > 1 ? `${map.name}: ` : "") + word(map, i)).join("; ");
  const pixel = ({ u, v }) => `(${u}, ${v})`;
  const place = (event) => {
    const stage = event.target.closest(".stage");
    if (!stage) return null;
    const { left, top, width: w, height: h } = stage.getBoundingClientRect();
    const [u, v] = [((event.clientX - left) / w) * width - 0.5, ((event.clientY - top) / h) * height - 0.5];
    return maps.map((map) => sampleAt(map, u, v));
  };

  function show(here) {
    let said = "Point at the picture for its depth; click two points for their distance.";
    if (here) said = `Pixel ${pixel(here[0])}: ${lines((map, i) => length(map, here[i].z))}`;
    if (points.length === 1 && !here) said = "Click a second point.";
    text.textContent = said;
    if (points.length < 2) return;
    const [a, b] = points;
    const apart = (map, i) => (Math.min(a[i].z, b[i].z) > 0 ? length(map, distance(a[i], b[i])) : "no depth");
    make("span", text, { textContent: `From 1 ${pixel(a[0])} to 2 ${pixel(b[0])}: ${lines(apart)} apart (${maps[0].note})` });
  }

  function mark() {
    figure.querySelectorAll(".mark").forEach((old) => old.remove());
    for (const stage of stages)
      points.forEach(([{ u, v }], i) => {
        const sign = make("b", stage, { className: "mark", textContent: i + 1 });
        sign.style.left = `${((u + 0.5) / width) * 100}%`;
        sign.style.top = `${((v + 0.5) / height) * 100}%`;
      });
  }

  figure.onpointermove = (event) => show(place(event));
  figure.onpointerleave = () => show(null);
  figure.onclick = (event) => {
    const here = place(event);
    if (!here) return;
    if (points.length === 2) points.length = 0;
    points.push(here);
    mark();
    show(here);
  };
  show(null);
}

// Points on a canvas, to be turned and zoomed.
function cloud(parent, clouds) {
  if (!clouds.length) {
    make("p", parent, { className: "note", textContent: "No run has left frames to show." });
    return;
  }
  const controls = make("div", parent, { className: "controls" });
  const choice = make("select", controls, { ariaLabel: "Run", hidden: clouds.length < 2 });
  clouds.forEach((c) => make("option", choice, { textContent: c.name }));
  const reset = make("button", controls, { type: "button", textContent: "Reset view" });
  make("small", controls, { textContent: "Drag or arrow keys to turn, wheel, pinch or + and - to zoom." });
  const canvas = make("canvas", parent, { tabIndex: 0 });
  canvas.setAttribute("role", "img");
  const note = make("p", parent, { className: "note" });
  const view = {}, fingers = new Map();
  let xyz, rgb, spacing, waiting = false;

  function load() {
    const c = clouds[choice.selectedIndex];
    xyz = Float32Array.from(new Int16Array(bytes(c.xyz).buffer), (v) => v * c.scale);
    rgb = bytes(c.rgb);
    spacing = c.spacing;
    note.textContent = `${c.key}: ${xyz.length / 3} points; ${c.camera}.`;
    canvas.setAttribute("aria-label", `Predicted points of ${c.key}, to be turned`);
    start();
  }

  function start() {
    const z = Array.from({ length: xyz.length / 3 }, (_, i) => xyz[3 * i + 2]).sort((a, b) => a - b);
    const middle = z[z.length >> 1] || 1;
    Object.assign(view, { centre: [0, 0, middle], distance: middle * 1.25, home: middle, yaw: 0.25, pitch: 0.16 });
    later();
  }

  function draw() {
    waiting = false;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer).fill(0xff100d0b);
    const nearest = new Float32Array(width * height).fill(Infinity);
    view.focal = Math.max(width * 0.75, height * 0.9);
    project(xyz, view, width, height, (x, y, depth, i) => {
      const wide = (1.3 * spacing * xyz[i + 2] * view.focal) / depth;
      const size = Math.min(Math.max(Math.round(wide), ratio), 14 * ratio);
      const left = Math.round(x - size / 2), top = Math.round(y - size / 2);
      const code = (255 << 24) | (rgb[i + 2] << 16) | (rgb[i + 1] << 8) | rgb[i];
      for (let r = Math.max(top, 0); r < Math.min(top + size, height); r++)
        for (let c = Math.max(left, 0); c < Math.min(left + size, width); c++)
          if (depth < nearest[r * width + c]) { nearest[r * width + c] = depth; pixels[r * width + c] = code; }
    });
    context.putImageData(image, 0, 0);
  }

  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const turn = (x, y) => {
    view.yaw -= x * 0.006;
    view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + y * 0.006));
    later();
  };
  const zoom = (factor) => {
    view.distance = Math.max(view.home * 0.05, Math.min(view.home * 20, view.distance * factor));
    later();
  };
  const apart = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y) || 1;
  };
  canvas.onpointerdown = (e) => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, { x: e.clientX, y: e.clientY }); };
  canvas.onpointerup = canvas.onpointercancel = (e) => fingers.delete(e.pointerId);
  canvas.onpointermove = (e) => {
    const before = fingers.get(e.pointerId);
    if (!before) return;
    const gap = fingers.size === 2 ? apart() : 0;
    fingers.set(e.pointerId, { x: e.clientX, y: e.clientY });
    if (gap) zoom(gap / apart()); else turn(e.clientX - before.x, e.clientY - before.y);
  };
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(e.deltaY * 0.001)); }, { passive: false });
  canvas.onkeydown = (e) => {
    const moves = { ArrowLeft: [-25, 0], ArrowRight: [25, 0], ArrowUp: [0, -25], ArrowDown: [0, 25] };
    if (moves[e.key]) turn(...moves[e.key]);
    else if (e.key === "+" || e.key === "-") zoom(e.key === "+" ? 0.85 : 1.18);
    else return;
    e.preventDefault();
  };
  reset.onclick = start;
  choice.onchange = load;
  new ResizeObserver(later).observe(canvas);
  load();
}

if (typeof document !== "undefined") {
  document.querySelectorAll(".panels").forEach(compare);
  document.querySelectorAll(".frame").forEach(measure);
  cloud(document.getElementById("points"), JSON.parse(document.getElementById("data").textContent));
  // Inside another page the frame is as high as what it shows.
  if (window.frameElement)
    new ResizeObserver(() => { frameElement.style.height = `${document.body.scrollHeight}px`; }).observe(document.body);
}

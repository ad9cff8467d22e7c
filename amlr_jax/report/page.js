(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const make = (name, parent, options = {}) => parent.appendChild(Object.assign(document.createElement(name), options));
  const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
  const many = data.runs.length > 1;
  const colour = (s) => `var(--c${(many ? s.run : s.kind) % 6})`;
  const dash = (s) => DASHES[(many ? s.kind : Math.floor(s.kind / 6)) % DASHES.length];
  const title = (s) => (many ? `${data.runs[s.run]}: ${s.name}` : s.name);
  const redraws = [];
  let share = 0; // smoothing, as a part of the steps

  function chart(spec, parent) {
    const box = make("figure", parent, { className: "chart" });
    const head = make("div", box, { className: "head" });
    make("h3", head, { textContent: spec.title });
    const choice = make("label", head);
    const values = spec.series.flatMap((s) => s.y).filter((v) => v > 0);
    const wide = values.length && values.reduce((a, b) => Math.max(a, b)) > 20 * values.reduce((a, b) => Math.min(a, b));
    const log = make("input", choice, { type: "checkbox", checked: Boolean(wide) });
    choice.append("log");
    box.insertAdjacentHTML("beforeend", '<svg role="img"></svg><div class="tip" hidden></div><div class="legend"></div><small></small>');
    const [svg, tip, legend, note] = [...box.children].slice(1);
    svg.setAttribute("aria-label", `${spec.title} over steps`);
    const shown = spec.series.map(() => true);
    let sx, cross = null;

    spec.series.forEach((s, i) => {
      const button = make("button", legend, { type: "button" });
      button.innerHTML = `<svg aria-hidden="true"><line x2="26" y1="4" y2="4" style="stroke:${colour(s)}" stroke-dasharray="${dash(s)}"/></svg>`;
      button.append(title(s));
      button.setAttribute("aria-pressed", "true");
      button.onclick = () => {
        shown[i] = !shown[i];
        button.setAttribute("aria-pressed", shown[i]);
        draw();
      };
    });

    const part = () => (spec.exact ? 0 : share);
    const curve = (s) => {
      const [x, y] = part() && s.mx ? [s.mx, s.my] : [s.x, s.y];
      const length = x[x.length - 1] - x[0] || 1;
      return { x, y: part() ? smooth(x, y, part() * length) : y };
    };

    function draw() {
      const active = spec.series.filter((_, i) => shown[i]);
      const width = svg.clientWidth || 440, height = 250, left = 58, bottom = height - 26;
      const steps = range(spec.series.flatMap((s) => [s.x[0], s.x[s.x.length - 1]]), false);
      const span = range(active.flatMap((s) => s.y), log.checked);
      const hidden = log.checked ? active.flatMap((s) => s.y).filter((v) => v !== null && v <= 0).length : 0;
      const bad = active.reduce((sum, s) => sum + s.bad, 0);
      note.textContent = [hidden && `${hidden} values not above 0 are not on the log axis`, bad && `${bad} values are not finite`].filter(Boolean).join("; ");
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      sx = scale(steps[0], steps[1], left, width - 8, false);
      if (!span) { svg.innerHTML = `<text x="${left}" y="40">nothing to show</text>`; return; }
      const sy = scale(span[0], span[1], bottom, 8, log.checked);
      const rows = ticks(span[0], span[1], 5, log.checked).map((v) =>
        `<line class="grid" x1="${left}" x2="${width - 8}" y1="${sy(v)}" y2="${sy(v)}"/><text x="${left - 8}" y="${sy(v) + 4}" text-anchor="end">${label(v)}</text>`);
      const columns = ticks(steps[0], steps[1], width / 90, false).filter((v) => v >= 0 && v % 1 === 0).map((v) =>
        `<text x="${sx(v)}" y="${height - 8}" text-anchor="middle">${label(v)}</text>`);
      const style = (s) => `style="stroke:${colour(s)}"`;
      const faint = active.filter(part).map((s) => `<path class="line faint" ${style(s)} d="${path(s.x, s.y, sx, sy)}"/>`);
      const lines = active.map((s) => {
        const c = curve(s), ends = dash(s) ? "butt" : "round";
        return `<path class="line" ${style(s)} stroke-dasharray="${dash(s)}" stroke-linecap="${ends}" d="${path(c.x, c.y, sx, sy)}"/>`;
      });
      svg.innerHTML = rows.join("") + columns.join("") + faint.join("") + lines.join("") + '<line class="cross" y1="8" visibility="hidden"/>';
      cross = svg.lastChild;
      cross.setAttribute("y2", bottom);
    }

    svg.onpointermove = svg.onpointerdown = (event) => {
      const active = spec.series.filter((_, i) => shown[i]);
      const place = event.clientX - svg.getBoundingClientRect().left;
      if (!active.length || !cross) return;
      const steps = spec.series[0].x, lowest = sx(0), unit = sx(1) - lowest;
      const wanted = (place - lowest) / unit;
      const first = curve(active[0]), at = first.x[nearest(first.x, wanted)] ?? steps[0];
      cross.setAttribute("x1", sx(at));
      cross.setAttribute("x2", sx(at));
      cross.setAttribute("visibility", "visible");
      tip.replaceChildren();
      make("strong", tip, { textContent: `step ${label(Math.round(at))}` });
      for (const s of active) {
        const c = curve(s), line = make("div", tip), value = c.y[nearest(c.x, at)];
        make("span", line, { textContent: title(s), style: `border-color:${colour(s)}` });
        make("b", line, { textContent: label(value) });
      }
      tip.hidden = false;
      const right = sx(at) > svg.clientWidth / 2;
      tip.style.left = right ? "auto" : `${sx(at) + 10}px`;
      tip.style.right = right ? `${svg.clientWidth - sx(at) + 10}px` : "auto";
    };
    svg.onpointerleave = () => {
      tip.hidden = true;
      if (cross) cross.setAttribute("visibility", "hidden");
    };
    log.onchange = draw;
    redraws.push(draw);
    draw();
  }

  function compare(panels) {
    const stage = panels.querySelector(".image .stage");
    const others = [...panels.querySelectorAll(".panel:not(.image) img")];
    const over = make("img", stage, { className: "over", alt: "" });
    const bar = document.createElement("div");
    bar.className = "compare";
    stage.after(bar);
    const choice = make("select", bar, { ariaLabel: "What lies over the image" });
    others.forEach((img) => make("option", choice, { textContent: img.alt }));
    const slider = make("input", bar, { type: "range", min: 0, max: 100, value: 50, ariaLabel: "Where the image ends" });
    slider.oninput = () => stage.style.setProperty("--cut", `${slider.value}%`);
    choice.onchange = () => { over.src = others[choice.selectedIndex].src; };
    choice.selectedIndex = Math.max(others.findIndex((img) => img.alt.startsWith("Prediction")), 0);
    choice.onchange();
    slider.oninput();
  }

  function cloud(parent) {
    if (!data.clouds.length) {
      make("p", parent, { className: "note", textContent: "No run has left frames to show." });
      return;
    }
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const controls = make("div", parent, { className: "controls" });
    const choice = make("select", controls, { ariaLabel: "Run", hidden: data.clouds.length < 2 });
    data.clouds.forEach((c) => make("option", choice, { textContent: c.name }));
    const reset = make("button", controls, { type: "button", textContent: "Reset view" });
    make("small", controls, { textContent: "Drag or arrow keys to turn, wheel, pinch or + and - to zoom." });
    const canvas = make("canvas", parent, { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    const note = make("p", parent, { className: "note" });
    const view = {}, fingers = new Map();
    let xyz, rgb, spacing, waiting = false;

    function load() {
      const c = data.clouds[choice.selectedIndex];
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
    redraws.push(later);
    load();
  }

  const charts = document.getElementById("charts");
  data.charts.forEach((spec) => chart(spec, charts));
  if (!data.charts.length) make("p", charts, { className: "note", textContent: "No run has written a whole line of metrics.jsonl yet." });
  const smoothing = document.getElementById("smoothing"), smoothed = document.getElementById("smoothed");
  smoothing.oninput = () => {
    share = smoothing.value > 0 ? 0.002 * 150 ** (smoothing.value / 100) : 0;
    smoothed.textContent = share ? `over ${(100 * share).toPrecision(2)} % of the run` : "none";
    redraws.forEach((redraw) => redraw());
  };
  // Of a long run every step is a band of noise: its means are what is to be seen.
  if (data.charts.some((spec) => spec.series.some((s) => s.mx))) {
    smoothing.value = 40;
    smoothing.oninput();
  }
  document.querySelectorAll(".panels").forEach(compare);
  cloud(document.getElementById("points"));
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) redraws.forEach((redraw) => redraw());
    width = document.body.clientWidth;
  }).observe(document.body);
})();

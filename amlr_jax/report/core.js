"use strict";
// What curves and points are computed by: no page is needed to run these.

// The mean of all values weighted by exp(-|distance in steps| / span), by which a curve
// does not lag behind; a null stays a gap and counts for nothing.
function smooth(x, y, span) {
  const sums = y.map(() => [0, 0]);
  const pass = (order) => {
    let top = 0, bottom = 0, last = x[order[0]];
    for (const i of order) {
      const kept = Math.exp(-Math.abs(x[i] - last) / span);
      top *= kept;
      bottom *= kept;
      last = x[i];
      sums[i][0] += top;
      sums[i][1] += bottom;
      if (y[i] !== null) { top += y[i]; bottom += 1; }
    }
  };
  pass(y.map((_, i) => i));
  pass(y.map((_, i) => y.length - 1 - i));
  return y.map((v, i) => (v === null ? null : (sums[i][0] + v) / (sums[i][1] + 1)));
}

// Round numbers from lo to hi, about `count` of them; powers of ten and between on a log axis.
function ticks(lo, hi, count, log) {
  if (log) {
    const decades = Math.log10(hi / lo), every = Math.max(1, Math.ceil(decades / count));
    const within = decades < 1 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
    const found = [];
    for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e++)
      for (const f of within) {
        const value = f * 10 ** e;
        if (value >= lo && value <= hi && e % every === 0) found.push(value);
      }
    return found.length > 1 ? found : ticks(lo, hi, count, false);
  }
  const raw = (hi - lo) / count || 1, ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * ten).find((s) => s >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9; k++) found.push(k * step);
  return found;
}

function label(value) {
  if (value === null || value === undefined) return "-";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  return String(+value.toPrecision(4));
}

// From value to pixel; on a log axis what is not positive has no place: NaN.
function scale(lo, hi, from, to, log) {
  const at = log ? (v) => (v > 0 ? Math.log10(v) : NaN) : (v) => v;
  const low = at(lo), wide = at(hi) - low || 1;
  return (v) => (v === null ? NaN : from + ((at(v) - low) / wide) * (to - from));
}

// The range of finite values, with some air; null if there are none.
function range(values, log) {
  const good = values.filter((v) => v !== null && (!log || v > 0));
  if (!good.length) return null;
  const lo = good.reduce((a, b) => Math.min(a, b)), hi = good.reduce((a, b) => Math.max(a, b));
  if (log) return [lo / 1.1, hi * 1.1];
  const air = (hi - lo) * 0.05 || Math.abs(hi) * 0.05 || 1;
  return [lo - air, hi + air];
}

// An SVG path that breaks where a value has no place; a lone point is a dot.
function path(x, y, sx, sy) {
  let text = "", open = false;
  x.forEach((step, i) => {
    const v = sy(y[i]);
    if (!Number.isFinite(v)) { open = false; return; }
    const lone = !open && !Number.isFinite(i + 1 < y.length ? sy(y[i + 1]) : NaN);
    text += `${open ? "L" : "M"}${sx(step).toFixed(1)} ${v.toFixed(1)}${lone ? "h.01" : ""}`;
    open = true;
  });
  return text;
}

// The index of the step nearest to `value` in rising `x`.
function nearest(x, value) {
  let low = 0, high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle; else high = middle;
  }
  return value - x[low] <= x[high] - value ? low : high;
}

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

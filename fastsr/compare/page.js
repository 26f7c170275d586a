"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

  const stage = $("stage");
  const state = { subject: 0, left: 0, right: 0, mode: "slider", split: 0.5, zoom: 1, x: 0, y: 0, fitted: true, alone: false };
  let panes = []; // {pane, world}: what is zoomed and moved together
  const subject = () => data.subjects[state.subject];

  // ---- geometry: the point (x, y) of the frame lies in the middle of every pane, `zoom` screen pixels wide

  const paneSize = () => (panes.length ? [panes[0].pane.clientWidth, panes[0].pane.clientHeight] : [stage.clientWidth, stage.clientHeight]);

  function fitZoom() {
    const [w, h] = paneSize();
    return Math.max(Math.min(w / subject().width, h / subject().height), 1e-3);
  }

  // from half of the whole picture, or one to one where that is smaller, to 64 pixels of the screen for each of the picture
  function allowed(zoom) {
    const fit = fitZoom(), one = subject().unit;
    return clamp(zoom, Math.min(fit / 2, one / (window.devicePixelRatio || 1)), Math.max(fit, 64 * one));
  }

  function place() {
    const s = subject();
    const [w, h] = paneSize();
    const one = s.unit;
    state.zoom = state.fitted ? fitZoom() : allowed(state.zoom);
    for (const [axis, size, extent] of [["x", w, s.width], ["y", h, s.height]]) {
      const half = size / 2 / state.zoom;
      state[axis] = half * 2 >= extent ? extent / 2 : clamp(state[axis], half, extent - half);
    }
    const ratio = window.devicePixelRatio || 1;
    const dx = Math.round((w / 2 - state.x * state.zoom) * ratio) / ratio;
    const dy = Math.round((h / 2 - state.y * state.zoom) * ratio) / ratio;
    for (const { world } of panes) {
      // sizes instead of a scaling transform: browsers then resample from the full picture
      world.style.width = `${s.width * state.zoom}px`;
      world.style.height = `${s.height * state.zoom}px`;
      world.style.transform = `translate(${dx}px, ${dy}px)`;
      world.classList.toggle("crisp", (state.zoom / one) * ratio >= 1.99);
    }
    const percent = (state.zoom / one) * ratio * 100;
    $("zoom").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
    placeDivider();
  }

  function zoomAt(factor, px, py) {
    const [w, h] = paneSize();
    const x = state.x + (px - w / 2) / state.zoom;
    const y = state.y + (py - h / 2) / state.zoom;
    state.fitted = false;
    state.zoom = allowed(state.zoom * factor);
    state.x = x - (px - w / 2) / state.zoom;
    state.y = y - (py - h / 2) / state.zoom;
    place();
  }

  function zoomCentre(factor) {
    const [w, h] = paneSize();
    zoomAt(factor, w / 2, h / 2);
  }

  function lookAt([x, y, width, height]) {
    const [w, h] = paneSize();
    Object.assign(state, { fitted: false, x: x + width / 2, y: y + height / 2, zoom: Math.min(w / width, h / height) * 0.9 });
    place();
  }

  const fit = () => { state.fitted = true; place(); };
  const oneToOne = () => { state.fitted = false; state.zoom = subject().unit / (window.devicePixelRatio || 1); place(); };
  const move = (dx, dy) => { state.fitted = false; state.x -= dx / state.zoom; state.y -= dy / state.zoom; place(); };

  // ---- the stage

  function picture(index) {
    const view = subject().views[index];
    const img = make("img", { src: view.src, alt: `${subject().name}, ${view.name}`, draggable: false, decoding: "sync" });
    if (view.kind === "small") img.className = "small";
    return img;
  }

  function addPane(content, label, side = "") {
    const world = make("div", { className: "world" }, content);
    const pane = make("div", { className: "pane" }, world, make("div", { className: `name ${side}`, textContent: label }));
    stage.append(pane);
    panes.push({ pane, world });
    return pane;
  }

  function build() {
    stage.replaceChildren();
    panes = [];
    stage.className = state.mode;
    stage.style.gridTemplateColumns = "";
    stage.style.gridTemplateRows = "";
    const views = subject().views;
    if (state.mode === "slider") {
      addPane(picture(state.right), views[state.right].name, "right").id = "pane-right";
      addPane(picture(state.left), views[state.left].name).id = "pane-left";
      const divider = make("div", { id: "divider", tabIndex: 0 });
      for (const [key, value] of Object.entries({ role: "slider", "aria-label": "Divider between left and right", "aria-valuemin": 0,
        "aria-valuemax": 100, "aria-orientation": "horizontal" })) divider.setAttribute(key, value);
      stage.append(divider);
    } else if (state.mode === "grid") {
      const columns = bestColumns(views.length);
      stage.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
      stage.style.gridTemplateRows = `repeat(${Math.ceil(views.length / columns)}, 1fr)`;
      views.forEach((view, k) => {
        const pane = addPane(picture(k), view.name + (view.psnr === undefined ? "" : `  ${decibels(view.psnr)} dB`));
        pane.classList.toggle("chosen", k === state.left || k === state.right);
      });
    } else {
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Difference between ${views[state.left].name} and ${views[state.right].name}`);
      addPane(canvas, `${views[state.left].name} \u2212 ${views[state.right].name}`);
      drawDifference(canvas);
    }
    for (const mode of ["slider", "grid", "map"]) $(`mode-${mode}`).setAttribute("aria-pressed", String(state.mode === mode));
    $("gain-label").hidden = state.mode !== "map";
    $("left").disabled = $("right").disabled = $("swap").disabled = state.mode === "grid";
    if (state.mode !== "map") $("legend").replaceChildren(...notesOf(subject()));
    place();
  }

  function bestColumns(n) {
    const s = subject();
    let best = 1, area = 0;
    for (let c = 1; c <= n; c++) {
      const zoom = Math.min(stage.clientWidth / c / s.width, stage.clientHeight / Math.ceil(n / c) / s.height);
      if (zoom > area * 1.001) { area = zoom; best = c; }
    }
    return best;
  }

  function placeDivider() {
    const divider = $("divider");
    if (!divider) return;
    const at = state.alone ? 0 : state.split;
    divider.style.left = `${at * 100}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(at * 100)));
    divider.setAttribute("aria-valuetext", `${Math.round(at * 100)} % ${subject().views[state.left].name}`);
    $("pane-left").style.clipPath = `inset(0 ${100 - at * 100}% 0 0)`;
  }

  function split(x) {
    state.split = clamp(x, 0, 1);
    placeDivider();
  }

  // ---- the difference map

  async function levels(view) {
    const img = new Image();
    img.src = view.src;
    await img.decode();
    const s = subject();
    const canvas = make("canvas", { width: Math.round(s.width * s.unit), height: Math.round(s.height * s.unit) });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.drawImage(img, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  async function drawDifference(canvas) {
    const views = subject().views;
    const pair = [views[state.left], views[state.right]];
    const [a, b] = await Promise.all(pair.map(levels));
    if (!canvas.isConnected) return;
    const gain = 2 ** Number($("gain").value);
    const out = new ImageData(a.width, a.height);
    const ramp = new Uint8ClampedArray(256 * 3);
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * (RAMP.length - 1), k = Math.min(Math.floor(at), RAMP.length - 2);
      for (let c = 0; c < 3; c++) ramp[3 * i + c] = RAMP[k][c] + (RAMP[k + 1][c] - RAMP[k][c]) * (at - k);
    }
    let total = 0, most = 0;
    for (let i = 0; i < a.data.length; i += 4) {
      const luma = (d) => 0.299 * d[i] + 0.587 * d[i + 1] + 0.114 * d[i + 2];
      const difference = Math.abs(luma(a.data) - luma(b.data));
      total += difference;
      if (difference > most) most = difference;
      const level = 3 * Math.min(255, Math.round(difference * gain));
      out.data[i] = ramp[level];
      out.data[i + 1] = ramp[level + 1];
      out.data[i + 2] = ramp[level + 2];
      out.data[i + 3] = 255;
    }
    canvas.width = a.width;
    canvas.height = a.height;
    canvas.getContext("2d").putImageData(out, 0, 0);
    canvas.dataset.mean = String((total * 4) / a.data.length);
    const text = `Difference in brightness: mean ${((total * 4) / a.data.length).toFixed(2)}, largest ${Math.round(most)} of 255 levels.  0 `;
    $("legend").replaceChildren(text, make("span", { className: "ramp" }), ` ${Math.round(255 / gain)} levels and more`);
  }

  // ---- choosing

  function notesOf(s) {
    const cut = s.whole[0] !== s.width || s.whole[1] !== s.height;
    const u = s.unit, px = (n) => Math.round(n * u);
    if (!cut) return [`${px(s.width)}\u00d7${px(s.height)} pixels, without loss.`];
    const from = `the picture\u2019s ${px(s.whole[0])}\u00d7${px(s.whole[1])}, from column ${px(s.at[0])} and row ${px(s.at[1])}`;
    return [`A part of ${px(s.width)}\u00d7${px(s.height)} pixels of ${from}: all of it would make this page too large. Measured was the whole picture.`];
  }

  function choose(index) {
    const old = data.subjects[state.subject];
    state.subject = (index + data.subjects.length) % data.subjects.length;
    const s = subject();
    if (s.views.length !== old.views.length) Object.assign(state, { left: firstLeft(s), right: firstRight(s) });
    for (const [k, b] of [...$("pictures").children].entries()) b.setAttribute("aria-current", String(k === state.subject));
    for (const id of ["left", "right"]) {
      $(id).replaceChildren(...s.views.map((v, k) => make("option", { value: String(k), textContent: v.name })));
      $(id).value = String(state[id]);
    }
    $("details").replaceChildren(...s.details.map((area, k) => {
      const button = make("button", { type: "button", textContent: s.details.length > 1 ? `Detail ${k + 1}` : "Detail",
        title: "A place where the views differ much" });
      button.onclick = () => lookAt(area);
      return button;
    }));
    state.fitted = true;
    build();
    crops();
    facts();
  }

  // every detail of every view, as the figures of papers have them; pressed, it is looked at on the stage
  function crops() {
    const s = subject();
    $("crops").replaceChildren(...s.details.flatMap((area, n) => [
      make("h2", { textContent: s.details.length > 1 ? `Detail ${n + 1}` : "Detail" }),
      make("div", { className: "crops" }, ...s.views.map((view, k) => {
        const [x, y, width, height] = area;
        const img = make("img", { src: view.src, alt: "", draggable: false });
        const percent = { width: s.width / width, height: s.height / height, left: -x / width, top: -y / height };
        for (const [key, value] of Object.entries(percent)) img.style[key] = `${value * 100}%`;
        const part = make("div", { className: "part" }, img);
        part.style.aspectRatio = `${width} / ${height}`;
        const caption = make("span", { className: "caption", textContent: view.name });
        const button = make("button", { type: "button", title: `${view.name} at this place` }, part, caption);
        button.onclick = () => {
          if (k !== state.left) pick("right", k);
          lookAt(area);
          stage.scrollIntoView({ block: "nearest" });
        };
        return button;
      })),
    ]));
  }

  const firstRight = (s) => Math.max(s.views.findIndex((v) => v.kind === "model"), 0);
  const firstLeft = (s) => Math.max(s.views.findIndex((v) => v.kind === "filter" && v.scale === s.views[firstRight(s)].scale), 0);

  function pick(side, index) {
    const n = subject().views.length;
    state[side] = (index + n) % n;
    $(side).value = String(state[side]);
    build();
  }

  function swap() {
    [state.left, state.right] = [state.right, state.left];
    $("left").value = String(state.left);
    $("right").value = String(state.right);
    build();
  }

  const setMode = (mode) => { state.mode = mode; build(); };

  // ---- tables

  const decibels = (x) => (x === null ? "\u221e" : x.toFixed(2));
  const number = (key, x) => {
    if (x === undefined || (key === "ms" && x === null)) return "\u2013";
    if (key === "psnr") return decibels(x);
    return key === "ssim" ? x.toFixed(4) : x < 10 ? x.toFixed(2) : x < 100 ? x.toFixed(1) : x.toFixed(0);
  };

  function table(node, rows, columns) {
    const head = make("tr", {}, make("th", { textContent: "view", scope: "col" }),
      ...columns.map(([, title]) => make("th", { textContent: title, scope: "col" })));
    // the best of a column is marked among rows of one scale
    const value = (row, key) => (row[key] === null && key !== "ms" ? Infinity : row[key] ?? undefined);
    const best = (row, key) => {
      const peers = rows.filter((r) => r.scale === row.scale).map((r) => value(r, key)).filter((x) => x !== undefined);
      const x = value(row, key);
      return peers.length > 1 && x !== undefined && x === (key === "ms" ? Math.min(...peers) : Math.max(...peers));
    };
    node.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows.map((row) => make("tr", {},
      make("th", { textContent: row.name, scope: "row" }),
      ...columns.map(([key]) => make("td", { textContent: number(key, row[key]), className: best(row, key) ? "best" : "" }))))));
  }

  function facts() {
    const measured = (v) => v.kind === "filter" || v.kind === "model";
    const columns = [["psnr", "PSNR of Y, dB"], ["ssim", "SSIM of Y"], ["ms", "time, ms"]];
    const s = subject();
    const used = columns.filter(([key]) => s.views.some((v) => v[key] !== undefined));
    $("facts-title").textContent = s.name;
    table($("facts"), s.views.filter(measured), used);
    if (data.subjects.length < 2) return;
    const means = s.views.filter(measured).map(({ name, scale }) => {
      const same = data.subjects.map((t) => t.views.find((v) => v.name === name)).filter(Boolean);
      const row = { name, scale };
      for (const [key] of columns) {
        const values = same.map((v) => v[key]);
        if (values.every((x) => typeof x === "number")) row[key] = values.reduce((x, y) => x + y, 0) / values.length;
      }
      return row;
    });
    $("means-title").hidden = false;
    $("means-title").textContent = `Mean of ${data.subjects.length} pictures`;
    table($("means"), means, used);
  }

  // ---- mouse, touch, keys

  const pointers = new Map();

  function origin(event) {
    const pane = panes.find((p) => p.pane.contains(event.target)) ?? panes[0];
    const box = pane.pane.getBoundingClientRect();
    return [box.left, box.top];
  }

  function local(event) {
    const [left, top] = origin(event);
    return [event.clientX - left, event.clientY - top];
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    zoomAt(Math.exp(clamp(-pixels, -250, 250) * (event.ctrlKey ? 0.01 : 0.0022)), ...local(event));
  }, { passive: false });

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const divider = event.target.id === "divider";
    const from = pointers.size ? [...pointers.values()][0].from : origin(event); // fingers on two panes pinch the first one's
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, divider, from });
    if (pointers.size > 1) for (const pointer of pointers.values()) pointer.divider = false;
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("moving");
  });

  stage.addEventListener("pointermove", (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) return;
    const dx = event.clientX - pointer.x, dy = event.clientY - pointer.y;
    if (pointer.divider) {
      const box = stage.getBoundingClientRect();
      split((event.clientX - box.left) / box.width);
    } else if (pointers.size === 1) {
      move(dx, dy);
    } else {
      const other = [...pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      move(dx / 2, dy / 2);
      const [left, top] = pointer.from;
      if (before > 0) zoomAt(after / before, (event.clientX + other.x) / 2 - left, (event.clientY + other.y) / 2 - top);
    }
    pointer.x = event.clientX;
    pointer.y = event.clientY;
  });

  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) stage.classList.remove("moving");
    });
  }

  stage.addEventListener("dblclick", (event) => {
    if (event.target.id !== "divider") zoomAt(2, ...local(event));
  });

  const alone = (on) => { state.alone = on; placeDivider(); };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, summary")) return;
    const onStage = stage.contains(event.target);
    const step = event.shiftKey ? 160 : 40;
    const towards = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const slide = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
    if (event.target.id === "divider" && slide !== undefined) split(state.split + slide);
    else if (onStage && towards) move(towards[0] * step, towards[1] * step);
    else if (event.key === " " && onStage) alone(true);
    else {
      const side = event.shiftKey ? -1 : 1;
      const action = {
        "+": () => zoomCentre(1.25), "=": () => zoomCentre(1.25), "-": () => zoomCentre(0.8), _: () => zoomCentre(0.8), 0: fit, 1: oneToOne,
        s: () => setMode("slider"), g: () => setMode("grid"), d: () => setMode("map"), x: swap,
        a: () => pick("left", state.left + side), b: () => pick("right", state.right + side),
        "[": () => choose(state.subject - 1), "]": () => choose(state.subject + 1), "?": () => { $("keys").open = !$("keys").open; },
      }[event.key.toLowerCase()];
      if (!action) return;
      action();
    }
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") alone(false); });
  window.addEventListener("blur", () => alone(false));

  $("swap").onclick = swap;
  for (const mode of ["slider", "grid", "map"]) $(`mode-${mode}`).onclick = () => setMode(mode);
  for (const side of ["left", "right"]) $(side).onchange = () => pick(side, Number($(side).value));
  $("zoom-in").onclick = () => zoomCentre(1.25);
  $("zoom-out").onclick = () => zoomCentre(0.8);
  $("zoom-fit").onclick = fit;
  $("zoom-one").onclick = oneToOne;
  $("gain").oninput = () => {
    $("gain-text").textContent = `${2 ** Number($("gain").value)}x`;
    const canvas = stage.querySelector("canvas");
    if (canvas) drawDifference(canvas);
  };
  new ResizeObserver(() => (state.mode === "grid" ? build() : place())).observe(stage);

  $("notes").replaceChildren(...data.notes.map((text) => make("li", { textContent: text })));
  if (data.subjects.length > 1) {
    $("pictures").replaceChildren(...data.subjects.map((s, k) => {
      const button = make("button", { type: "button", title: s.name }, make("img", { src: s.views[0].src, alt: "" }), make("span", { textContent: s.name }));
      button.onclick = () => choose(k);
      return button;
    }));
  }
  Object.assign(state, { left: firstLeft(subject()), right: firstRight(subject()) });
  choose(0);
})();

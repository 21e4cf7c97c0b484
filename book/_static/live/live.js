/* The page on which a model runs: place objects, ask, change attention, watch the answer turn. The model itself
   (engine.js) runs in a worker, so the page stays awake; pictures and questions are made by scene.js. */
"use strict";

(() => {
  const MODELS = { "mini-llava-1.5-xs": "extra small (0.5 million weights)", "mini-llava-1.5": "default (2 million weights)" };
  const START = { model: "mini-llava-1.5-xs", things: "00001.12110.21221.33340", kind: "count", question: "", seed: 0, layer: "mean",
    head: "mean", change: "sap:keys=visual,queries=text,weights=gaussian" };
  const RIVALS = 5, ITEM = "page"; // the name that draws are keyed by; scenes of a run are page-0, page-1, …
  const KINDS = { existence: "Is it there?", color: "What color?", shape: "What shape?", size: "What size?",
    location: "Where is it?", count: "How many?", count_plus: "How many, plus a number?", relation: "Is it left of …?",
    relation_choice: "Left, right, above or below?", arithmetic: "A sum (no picture needed)" };
  const RULES = { gaussian: "noise (gaussian)", permuted: "shuffled", uniform: "all alike", gaussian_abs: "noise (absolute)",
    static: "one fixed table", gaussian_logits: "noise like its own scores", zero: "nothing" };
  const SAY = {
    rule: "What stands in place of the learned weights. Shuffled keeps each row's weights and deals them out to the wrong tokens.",
    keys: "Which weights are replaced: those on image tokens, on text tokens, or all of them.",
    queries: "Whose attention is changed: that of every token, of the words after the image, of the image's own tokens, or of the last token, which answers.",
    mass: "How much attention the replaced weights get together. Keep leaves each row's learned total; share gives every token the same.",
    layers: "Layers in which attention is changed; the first one is 0.", heads: "Heads whose attention is changed.",
    seed: "Of the noise. Another seed draws other weights; the same seed draws the same ones, here and in Python.",
    other: "Knock-out cuts the words off from image tokens, VAR moves attention from sinks to other image tokens, pool makes all image tokens alike.",
  };

  // ---- small helpers --------------------------------------------------------------------------------------------------

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value); else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  let ids = 0;
  const labelled = (text, control, hint) => {
    const box = make("label", {}, make("span", {}, text), control);
    if (!hint) return box;
    control.setAttribute("aria-describedby", `lost-hint-${++ids}`);
    return make("div", { class: "live-field" }, box,
      make("details", {}, make("summary", { "aria-label": `About ${text}` }, "?"), make("p", { id: `lost-hint-${ids}` }, hint)));
  };
  const select = (options, onchange) => make("select", { onchange },
    ...Object.entries(options).map(([value, text]) => make("option", { value }, text)));
  const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const percent = (share) => `${Math.round(100 * share)} %`;

  // ---- the model in its worker ----------------------------------------------------------------------------------------

  const served = () => { // runs in the worker, beside the engine
    const engine = lostEngine(), models = {};
    onmessage = ({ data: { id, name, about, buffer, ask } }) => {
      try {
        if (buffer) models[name] = new engine.Model(buffer, about);
        postMessage({ id, found: ask && models[name].answer(ask) });
      } catch (error) { postMessage({ id, error: error.message }); }
    };
  };
  const source = `const lostEngine = ${lostEngine};\n(${served})();`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const waiting = new Map();
  worker.onmessage = ({ data: { id, found, error } }) => {
    const [resolve, reject] = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error)); else resolve(found);
  };
  const send = (message, transfer = []) => new Promise((resolve, reject) => {
    waiting.set(++ids, [resolve, reject]);
    worker.postMessage({ id: ids, ...message }, transfer);
  });

  const home = document.currentScript.src.replace(/[^/]*$/, "");
  const loaded = {};
  const load = (name) => loaded[name] ??= (async () => {
    if (!globalThis.lostModels?.[name]) {
      await new Promise((onload, onerror) => document.head.append(make("script", { src: `${home}${name}.js`, onload, onerror })));
    }
    const { weights, ...about } = lostModels[name], { buffer } = bytes(weights);
    delete lostModels[name].weights;
    await send({ name, about, buffer }, [buffer]);
    return about;
  })();
  const ask = async (name, question) => { await load(name); return send({ name, ask: question }); };

  // ---- the world ------------------------------------------------------------------------------------------------------

  const engine = lostEngine(); // for its grammar of interventions; the model runs in the worker
  const world = { ...lostWorld, noise: new Float32Array(bytes(lostWorld.noise).buffer),
    sprites: Object.fromEntries(Object.entries(lostWorld.sprites).map(([name, [side, mask]]) => [name, [side, bytes(mask)]])) };
  const { render, relevant, questions, name: nameOf } = lostScene(world);
  const COLORS = Object.keys(world.colors), SIZES = Object.keys(world.sizes);
  const toScene = (text) => ({ background: 60, things: (text.match(/\b[0-3][0-3][0-6][0-4][01]\b/g) || []).slice(0, 6).map((code) => {
    const [row, column, color, shape, size] = [...code].map(Number);
    return { row, column, color: COLORS[color], shape: world.shapes[shape], size: SIZES[size], dx: 0, dy: 0 };
  }).sort((a, b) => a.row - b.row || a.column - b.column) });
  const toText = (scene) => scene.things.map((t) =>
    [t.row, t.column, COLORS.indexOf(t.color), world.shapes.indexOf(t.shape), SIZES.indexOf(t.size)].join("")).join(".");

  // ---- the page ---------------------------------------------------------------------------------------------------------

  const start = (box) => {
    const state = { ...START, ...box.dataset, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
    let scene = toScene(state.things), turn = 0, running = null, shown = null;
    const brush = { color: select(Object.fromEntries(COLORS.map((c) => [c, c]))),
      shape: select(Object.fromEntries(world.shapes.map((s) => [s, s]))), size: select({ large: "large", small: "small" }) };

    // the picture, and a button for each of its cells
    const picture = make("canvas", { width: 64, height: 64, "aria-hidden": "true" });
    const cells = [...Array(16).keys()].map((k) => make("button", { type: "button", onclick: () => touch(k >> 2, k & 3) }));
    const touch = (row, column) => {
      const there = scene.things.find((t) => t.row === row && t.column === column);
      const things = scene.things.filter((t) => t !== there);
      if (there) for (const part of ["color", "shape", "size"]) brush[part].value = there[part]; // picked up
      else if (things.length < 6) things.push({ row, column, dx: 0, dy: 0, color: brush.color.value, shape: brush.shape.value, size: brush.size.value });
      else return say("A scene has six objects at most: click one to pick it up.");
      state.things = toText({ things });
      scene = toScene(state.things);
      update();
    };

    // question, answers, maps
    const kind = select(KINDS, () => { state.kind = kind.value; state.question = ""; update(); });
    const question = make("select", { onchange: () => { state.question = question.value; update(); } });
    const status = make("p", { role: "status", class: "live-status" });
    const say = (text) => { status.textContent = text; };
    const sides = ["learned", "changed"].map((title) => ({
      title, answer: make("strong"), mark: make("span"), rivals: make("ul", { class: "live-rivals" }),
      map: make("canvas", { width: 128, height: 128, role: "img", "aria-label": `Attention on the picture, ${title}` }), note: make("p"),
    }));
    const layer = select({ mean: "mean of all layers" }, () => { state.layer = layer.value; drawMaps(); link(); });
    const head = select({ mean: "mean of all heads" }, () => { state.head = head.value; drawMaps(); link(); });

    // what is done to attention
    const model = select(MODELS, () => { state.model = model.value; update(); });
    const rule = select({ none: "learned weights (no change)", ...RULES, knockout: "knock-out of image tokens", var: "VAR", pool: "pool" }, fromSwitches);
    const keys = select({ visual: "on image tokens", text: "on text tokens", all: "on all tokens" }, fromSwitches);
    const queries = select({ all: "all rows", text: "rows of words after the image", visual: "the image's own rows", last: "the last row" }, fromSwitches);
    const mass = select({ keep: "keep", share: "share" }, fromSwitches);
    const boxes = (count, what) => [...Array(count).keys()].map((k) =>
      make("label", { class: "live-check" }, make("input", { type: "checkbox", checked: "", value: k, onchange: fromSwitches, "aria-label": `${what} ${k}` }), `${k}`));
    const layers = boxes(6, "layer"), heads = boxes(4, "head");
    const seed = make("input", { type: "number", min: 0, max: 999, step: 1, onchange: () => { state.seed = Math.max(0, Math.min(999, Math.round(Number(seed.value) || 0))); update(); } });
    const form = make("input", { type: "text", spellcheck: "false", "aria-label": "the intervention as text", onchange: fromText });
    const command = make("code");

    const ticked = (list) => {
      const on = list.map((label) => label.firstChild).filter((input) => input.checked).map((input) => input.value);
      return on.length === list.length ? "all" : on.join("+");
    };
    function fromSwitches() {
      const chosen = { layers: ticked(layers), heads: ticked(heads) };
      if (!chosen.layers || !chosen.heads) return say("Tick at least one layer and one head.");
      if (rule.value === "none" || rule.value === "pool") state.change = rule.value;
      else if (rule.value === "knockout") state.change = engine.write([{ ...engine.parse("knockout:keys=all_visual")[0], layers: chosen.layers }]);
      else if (rule.value === "var") state.change = "var:tau=2";
      else {
        const fixed = ["gaussian_logits", "zero"].includes(rule.value); // they fix the mass themselves
        const made = { ...engine.parse("sap")[0], ...chosen, weights: rule.value, keys: keys.value, queries: queries.value, mass: fixed ? "keep" : mass.value };
        state.change = engine.write([made]);
      }
      update();
    }
    function fromText() {
      try { state.change = engine.write(engine.parse(form.value)); update(); } catch (error) { say(error.message); }
    }
    const toSwitches = () => {
      const forms = engine.parse(state.change), [first] = forms;
      rule.value = !first ? "none" : first.name === "sap" ? first.weights : first.name;
      const sapped = first?.name === "sap";
      for (const control of [keys, queries, mass]) control.disabled = !sapped;
      if (sapped) { keys.value = first.keys; queries.value = first.queries; mass.value = first.mass; }
      for (const [list, text] of [[layers, first?.layers], [heads, first?.heads]]) {
        const on = engine.numbers(text ?? "all", list.length);
        list.forEach((label, k) => { label.firstChild.checked = on.includes(k); label.firstChild.disabled = text === undefined; });
      }
      form.value = state.change; seed.value = state.seed; model.value = state.model; kind.value = state.kind;
      command.textContent = `lostlib run answers --model ${state.model} --benchmark mini-pope --n 200 --seed ${state.seed} --intervention "${state.change}"`;
    };

    // one question, asked twice
    const link = () => history.replaceState(null, "", `#${new URLSearchParams(state)}`);
    const update = async () => {
      const now = ++turn;
      link(); toSwitches(); drawScene();
      const found = questions(state.kind, scene);
      question.replaceChildren(...found.map(({ text }) => make("option", { value: text }, text.split("\n")[0])));
      const chosen = found.find(({ text }) => text === state.question) ?? found[favourite(found)];
      if (!chosen) return say("This scene does not admit a question of this kind: place other objects.");
      question.value = chosen.text;
      say(loaded[state.model] ? "The model is thinking …" : "Loading the model …");
      const about = { pixels: render(scene), question: chosen.text, item: ITEM, seed: Number(state.seed) };
      try {
        const before = await ask(state.model, { ...about, intervention: "none" });
        const after = state.change === "none" ? before : await ask(state.model, { ...about, intervention: state.change });
        if (now !== turn) return; // somebody has asked for something else
        shown = { answers: [before, after], chosen, patches: relevant(scene, chosen.things) };
        say(before.text === after.text ? "The answer stays." : "The answer turns.");
        drawAnswers(); drawMaps();
      } catch (error) { say(`Something went wrong: ${error.message}`); }
    };
    const favourite = (found) => Math.max(0, found.findIndex(({ things }) => things.length > 1)); // one that takes looking

    const drawScene = () => {
      picture.getContext("2d").putImageData(image(render(scene)), 0, 0);
      cells.forEach((cell, k) => {
        const there = scene.things.find((t) => t.row === k >> 2 && t.column === (k & 3));
        cell.setAttribute("aria-label", `row ${(k >> 2) + 1} column ${(k & 3) + 1}: ${there ? `${there.size} ${nameOf(there)}, pick it up` : "empty, place an object"}`);
      });
    };
    const image = (pixels) => {
      const data = new ImageData(64, 64);
      for (let i = 0; i < 4096; i++) data.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
      return data;
    };
    const drawAnswers = () => sides.forEach((side, k) => {
      const { text, rivals } = shown.answers[k], right = text === shown.chosen.answer;
      side.answer.textContent = text || "(nothing)";
      side.mark.textContent = right ? " ✓ right" : ` ✗ right would be ${shown.chosen.answer}`;
      side.mark.className = right ? "live-right" : "live-wrong";
      side.rivals.replaceChildren(...rivals.slice(0, RIVALS).map(({ word, probability }) => make("li", {},
        make("span", {}, word.replace("</s>", "(end)")), make("meter", { min: 0, max: 1, value: probability, "aria-label": word }), percent(probability))));
    });

    /* what the last token of the prompt sees of the picture: the chosen layers' and heads' mean weight on each patch */
    const patchWeights = ({ attention, visual }) => {
      const count = attention[0].length / visual.length, first = visual.indexOf(1);
      const layersShown = state.layer === "mean" ? attention : [attention[state.layer]];
      const headsShown = state.head === "mean" ? [...Array(count).keys()] : [Number(state.head)];
      return [...Array(64).keys()].map((patch) => {
        let sum = 0;
        for (const weights of layersShown) for (const h of headsShown) sum += weights[h * visual.length + first + patch];
        return sum / layersShown.length / headsShown.length;
      });
    };
    const drawMaps = () => {
      if (!shown) return;
      const found = shown.answers.map(patchWeights), top = Math.max(...found.flat(), 1e-9), pixels = image(render(scene));
      sides.forEach((side, k) => {
        const context = side.map.getContext("2d"), small = new OffscreenCanvas(64, 64);
        small.getContext("2d").putImageData(pixels, 0, 0);
        context.imageSmoothingEnabled = false;
        context.filter = "grayscale(1) brightness(0.55)"; context.drawImage(small, 0, 0, 128, 128); context.filter = "none";
        found[k].forEach((weight, patch) => {
          const x = patch % 8 * 16, y = (patch >> 3) * 16;
          context.fillStyle = `rgba(255, 200, 40, ${0.85 * weight / top})`; context.fillRect(x, y, 16, 16);
          if (shown.patches.includes(patch)) { context.strokeStyle = "#fff"; context.strokeRect(x + 1, y + 1, 14, 14); }
        });
        const total = found[k].reduce((sum, w) => sum + w, 0), own = shown.patches.reduce((sum, patch) => sum + found[k][patch], 0);
        side.note.textContent = `${percent(total)} of the last token's attention is on the picture, ${percent(own)} on the patches that decide (outlined).`;
        side.map.setAttribute("aria-label", `Attention on the picture, ${side.title}: ${side.note.textContent}`);
      });
    };

    // the same kind of question about forty scenes
    const bars = { learned: "attention learned", changed: "attention changed", constant: "always the commonest answer" };
    const tallies = Object.fromEntries(Object.keys(bars).map((key) => [key, make("meter", { min: 0, max: 1, value: 0, "aria-label": bars[key] })]));
    const counts = Object.fromEntries(Object.keys(bars).map((key) => [key, make("span", {}, "–")]));
    const run = make("button", { type: "button", onclick: () => running ? stop() : many() }, "Run 40 scenes");
    const stop = () => { running = null; run.textContent = "Run 40 scenes"; };
    const many = async () => {
      const mine = running = {}, right = { learned: 0, changed: 0 }, answers = {};
      run.textContent = "Stop";
      for (let i = 0, done = 0; i < world.scenes.length && running === mine; i++) {
        const found = questions(state.kind, world.scenes[i]);
        const yes = found.filter(({ answer }) => answer === "yes"); // as many of one answer as of the other
        const pool = yes.length ? (i % 2 ? yes : found.filter(({ answer }) => answer !== "yes")) : found;
        if (!pool.length) continue;
        const chosen = pool[(7919 * i) % pool.length];
        const about = { pixels: render(world.scenes[i]), question: chosen.text, item: `${ITEM}-${i}`, seed: Number(state.seed) };
        const before = await ask(state.model, { ...about, intervention: "none" });
        const after = state.change === "none" ? before : await ask(state.model, { ...about, intervention: state.change });
        if (running !== mine) return;
        done++; right.learned += before.text === chosen.answer; right.changed += after.text === chosen.answer;
        answers[chosen.answer] = (answers[chosen.answer] || 0) + 1;
        for (const [key, value] of Object.entries({ ...right, constant: Math.max(...Object.values(answers)) })) {
          tallies[key].value = value / done; counts[key].textContent = `${value} of ${done}`;
        }
      }
      stop();
    };

    const reset = () => { Object.assign(state, START); scene = toScene(state.things); shown = null; update(); };
    const copy = (text) => navigator.clipboard?.writeText(text).then(() => say("Copied."), () => say(text)) ?? say(text);
    const button = (text, onclick) => make("button", { type: "button", onclick }, text);

    for (let k = 0; k < 6; k++) layer.append(make("option", { value: k }, `layer ${k}`));
    for (let k = 0; k < 4; k++) head.append(make("option", { value: k }, `head ${k}`));
    layer.value = state.layer; head.value = state.head;
    box.replaceChildren(
      make("section", { class: "live-scene" },
        make("div", { class: "live-picture" }, picture, make("div", { class: "live-grid", role: "group", "aria-label": "The picture's cells" }, ...cells)),
        make("p", { class: "live-hint" }, "Click an empty cell to place an object, click an object to pick it up."),
        make("div", { class: "live-row" }, labelled("color", brush.color), labelled("shape", brush.shape), labelled("size", brush.size),
          button("Clear", () => { state.things = ""; scene = toScene(""); update(); })),
        make("div", { class: "live-row" }, labelled("kind of question", kind), labelled("question", question)), status),
      make("section", { class: "live-sides" }, ...sides.map((side) => make("div", { class: "live-side" }, make("h3", {}, `Attention ${side.title}`),
        make("p", { class: "live-answer", "aria-live": "polite" }, side.answer, side.mark), side.rivals, side.map, side.note)),
      make("div", { class: "live-row" }, labelled("map of", layer), labelled("and", head))),
      make("section", { class: "live-switches" }, make("h3", {}, "Change attention"),
        labelled("weights", rule, `${SAY.rule} ${SAY.other}`), labelled("replaced", keys, SAY.keys), labelled("rows", queries, SAY.queries), labelled("mass", mass, SAY.mass),
        make("fieldset", {}, make("legend", {}, "layers"), ...layers), make("fieldset", {}, make("legend", {}, "heads"), ...heads),
        labelled("seed", seed, SAY.seed), labelled("model", model),
        make("div", { class: "live-form" }, form, button("Copy", () => copy(state.change))),
        make("details", {}, make("summary", {}, "The same in Python, on a benchmark"), make("pre", {}, command), button("Copy the command", () => copy(command.textContent)))),
      make("section", { class: "live-many" }, make("h3", {}, "And over many scenes?"), run, make("ul", { class: "live-rivals" },
        ...Object.keys(bars).map((key) => make("li", {}, make("span", {}, bars[key]), tallies[key], counts[key]))),
      make("div", { class: "live-row" }, button("Copy a link to this state", () => copy(location.href)), button("Start again", reset))),
    );
    Object.assign(globalThis.lostLive ??= {}, { ask, render, questions, relevant, world, state, update });
    return update();
  };

  document.querySelectorAll(".lost-live").forEach(start);
})();

/* Figures that a reader drives: data comes from the page itself, text is only ever set as text. */
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

  const make = (tag, attributes = {}, ...children) => {
    const node = ["svg", "image", "rect"].includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  /* a labelled control; `update` runs at once and at every change */
  const labelled = (text, control) => make("label", {}, make("span", {}, text), control);
  const choice = (names, first = 0) => {
    const select = make("select", {}, ...names.map((name, k) => make("option", { value: k }, name)));
    select.value = first;
    return select;
  };
  const slider = (count, first) => make("input", { type: "range", min: 0, max: count - 1, step: 1, value: first });
  const mark = ([said, right]) => `${right ? "✓" : "✗"} ${said}`;
  const drive = (box, controls, update) => {
    box.append(make("div", { class: "lost-controls" }, ...controls));
    controls.forEach((control) => control.addEventListener("input", update));
  };

  /* choose an intervention, see the answers change */
  const answers = (box, data) => {
    const run = choice(data.runs, 1);
    const tally = make("p", { "aria-live": "polite" });
    const cards = data.scenes.map((scene) => {
      const said = make("dd");
      const facts = make("dl", {}, make("dt", {}, "truth"), make("dd", {}, scene.truth),
        make("dt", {}, data.runs[0]), make("dd", {}, mark(scene.answers[0])), make("dt", {}, "now"), said);
      const picture = make("img", { src: scene.picture, alt: "Coloured shapes, the picture of this question" });
      const card = make("li", {}, picture, make("p", { class: "lost-question" }, scene.question), facts);
      return { scene, said, card };
    });
    const update = () => {
      for (const { scene, said, card } of cards) {
        said.textContent = mark(scene.answers[run.value]);
        card.classList.toggle("lost-wrong", !scene.answers[run.value][1]);
      }
      const right = data.scenes.filter((scene) => scene.answers[run.value][1]).length;
      tally.textContent = `${data.runs[run.value]}: ${right} of ${data.scenes.length} right.`;
    };
    drive(box, [labelled("intervention", run)], update);
    box.append(tally, make("ul", { class: "lost-cards" }, ...cards.map(({ card }) => card)));
    update();
  };

  /* choose question, layer, head and replacement, see the map before and after */
  const maps = (box, data) => {
    const { length: layers } = data.scenes[0].weights[0];
    const { length: heads } = data.scenes[0].weights[0][0];
    const question = choice(data.scenes.map((scene) => scene.question.split("\n")[0]));
    const layer = slider(layers, Math.min(2, layers - 1));
    const head = choice(["mean of all heads", ...Array.from({ length: heads }, (_, k) => `head ${k}`)]);
    const run = choice(data.runs.slice(1));
    const number = make("output");
    const panels = [0, 1].map(() => {
      const title = make("strong"), said = make("p"), svg = make("svg", { role: "img" });
      return { title, said, svg, panel: make("div", {}, title, svg, said) };
    });
    const row = (scene, which) => {
      const own = scene.weights[which][layer.value];
      const chosen = head.value === "0" ? own : [own[head.value - 1]];
      return own[0].map((_, k) => chosen.reduce((sum, w) => sum + w[k], 0) / chosen.length / data.scale);
    };
    const draw = ({ title, said, svg }, scene, which, weights, most) => {
      const side = Math.sqrt(weights.length), inside = new Set(scene.relevant);
      const spot = (w, k) => make("rect", { x: k % side, y: Math.floor(k / side), width: 1, height: 1,
        "fill-opacity": most ? 0.85 * (1 - Math.sqrt(w / most)) : 0.85, class: inside.has(k) ? "lost-relevant" : "" });
      const frames = weights.map(spot).sort((a, b) => a.classList.length - b.classList.length);
      const total = (values) => values.reduce((sum, w) => sum + w, 0);
      const found = total(weights.filter((_, k) => inside.has(k)));
      title.textContent = data.runs[which];
      svg.setAttribute("viewBox", `-0.05 -0.05 ${side + 0.1} ${side + 0.1}`);
      svg.replaceChildren(make("image", { href: scene.picture, width: side, height: side }), ...frames);
      said.textContent = `Mass on the image ${total(weights).toFixed(2)}` +
        (inside.size ? `, on the patches that decide ${found.toFixed(2)}` : "") + `. The model says ${mark(scene.answers[which])}`;
      svg.setAttribute("aria-label", `Attention map, ${title.textContent}, layer ${layer.value}. ${said.textContent}`);
    };
    const update = () => {
      const scene = data.scenes[question.value], chosen = [0, Number(run.value) + 1];
      const rows = chosen.map((which) => row(scene, which));
      number.textContent = layer.value;
      panels.forEach((panel, k) => draw(panel, scene, chosen[k], rows[k], Math.max(...rows.flat())));
    };
    const layered = labelled("layer", layer);
    layered.append(number);
    drive(box, [labelled("question", question), layered, labelled("head", head), labelled("replacement", run)], update);
    box.append(make("div", { class: "lost-panels", "aria-live": "polite" }, ...panels.map(({ panel }) => panel)));
    update();
  };

  const kinds = { answers, maps };
  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll(".lost-explore")) {
      const data = JSON.parse(box.querySelector("script").textContent);
      kinds[data.kind](box, data);
      box.hidden = false;
    }
  });
})();

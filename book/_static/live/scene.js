/* Pictures and questions of the mini world in JavaScript: pixel for pixel what `lostlib.miniworld` draws, in its words.

   A scene is {things: [{row, column, color, shape, size, dx, dy}], background}. Every scene of this page has the same
   pixel noise, which comes with `world`: {sprites: name -> [side, bytes], noise: 64 * 64 * 3 values}. */
"use strict";

const lostScene = (world) => {
  const IMAGE = 64, CELL = 16, PATCH = 8, SIDE = IMAGE / PATCH, VISIBLE = 3;
  const COLORS = world.colors, RADIUS = world.sizes, SHAPES = world.shapes;
  const OPPOSITE = { left: "right", right: "left", above: "below", below: "above" };
  const PHRASE = { left: "to the left of", right: "to the right of", above: "above", below: "below" };

  const name = (thing) => `${thing.color} ${thing.shape}`;
  const article = (word) => "aeiou".includes(word[0]) ? "an" : "a";
  const plural = (word) => word.endsWith("s") ? `${word}es` : `${word}s`;

  // ---- pictures -------------------------------------------------------------------------------------------------------

  /* visit(x, y, coverage 0-255) every pixel of a thing's sprite that lies in the picture */
  const paste = (thing, visit) => {
    const [side, mask] = world.sprites[`${thing.shape} ${thing.size}`], radius = RADIUS[thing.size];
    const left = thing.column * CELL + CELL / 2 + (thing.dx || 0) - radius, top = thing.row * CELL + CELL / 2 + (thing.dy || 0) - radius;
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
      if (left + x < 0 || top + y < 0 || left + x >= IMAGE || top + y >= IMAGE) continue;
      visit(left + x, top + y, mask[y * side + x]);
    }
  };

  /* a scene -> pixels (64, 64, 3), 0-255: colours blended as Pillow does, noise added in single precision */
  const render = (scene) => {
    const clean = new Uint8Array(IMAGE * IMAGE * 3).fill(scene.background);
    for (const thing of scene.things) paste(thing, (x, y, cover) => {
      for (let c = 0; c < 3; c++) {
        const at = (y * IMAGE + x) * 3 + c, sum = clean[at] * (255 - cover) + COLORS[thing.color][c] * cover + 128;
        clean[at] = ((sum >> 8) + sum) >> 8;
      }
    });
    return clean.map((value, i) => Math.max(0, Math.min(255, Math.fround(value + world.noise[i]))));
  };

  /* the patches (0-63) on which at least three pixels of one of these things are seen */
  const relevant = (scene, wanted) => {
    const owner = new Int8Array(IMAGE * IMAGE).fill(-1), count = {};
    scene.things.forEach((thing, i) => paste(thing, (x, y, cover) => { if (cover > 127) owner[y * IMAGE + x] = i; }));
    owner.forEach((i, at) => {
      const patch = Math.floor(at / IMAGE / PATCH) * SIDE + Math.floor(at % IMAGE / PATCH);
      if (wanted.includes(i)) count[`${patch} ${i}`] = (count[`${patch} ${i}`] || 0) + 1;
    });
    const found = Object.keys(count).filter((key) => count[key] >= VISIBLE).map((key) => Number(key.split(" ")[0]));
    return [...new Set(found)].sort((a, b) => a - b);
  };

  // ---- questions ------------------------------------------------------------------------------------------------------

  /* indices of the things whose value no other thing shares */
  const unique = (scene, value) => scene.things.flatMap((thing, i) =>
    scene.things.filter((other) => value(other) === value(thing)).length === 1 ? [i] : []);

  /* words that fit thing i alone: colour and shape, the shape, or the colour */
  const references = (scene, i) => {
    const thing = scene.things[i], ways = [[name, name(thing)], [(t) => t.shape, thing.shape], [(t) => t.color, `${thing.color} object`]];
    return ways.filter(([value]) => unique(scene, value).includes(i)).map(([, words]) => words);
  };

  const directions = (one, other) => [
    ...one.column < other.column ? ["left"] : one.column > other.column ? ["right"] : [],
    ...one.row < other.row ? ["above"] : one.row > other.row ? ["below"] : []];

  const groups = (scene) => [
    ["objects", () => true],
    ...SHAPES.map((shape) => [plural(shape), (t) => t.shape === shape]),
    ...Object.keys(COLORS).map((color) => [`${color} objects`, (t) => t.color === color])]
    .map(([words, belongs]) => [words, scene.things.flatMap((t, i) => belongs(t) ? [i] : [])]);

  /* kind -> scene -> every question of that kind that it admits: {text, answer, things} */
  const KINDS = {
    existence: (scene) => Object.keys(COLORS).flatMap((color) => SHAPES.map((shape) => {
      const things = scene.things.flatMap((t, i) => t.color === color && t.shape === shape ? [i] : []);
      return { text: `Is there ${article(color)} ${color} ${shape} in the image?`, answer: things.length ? "yes" : "no", things };
    })),
    color: (scene) => unique(scene, (t) => t.shape).map((i) =>
      ({ text: `What color is the ${scene.things[i].shape}?`, answer: scene.things[i].color, things: [i] })),
    shape: (scene) => unique(scene, (t) => t.color).map((i) =>
      ({ text: `What shape is the ${scene.things[i].color} object?`, answer: scene.things[i].shape, things: [i] })),
    size: (scene) => unique(scene, name).flatMap((i) => references(scene, i).map((words) =>
      ({ text: `What size is the ${words}?`, answer: scene.things[i].size, things: [i] }))),
    location: (scene) => unique(scene, name).flatMap((i) => references(scene, i).map((words) => {
      const { row, column } = scene.things[i];
      return { text: `Where is the ${words}?`, answer: `row ${row + 1} column ${column + 1}`, things: [i] };
    })),
    count: (scene) => groups(scene).map(([words, things]) =>
      ({ text: `How many ${words} are there?`, answer: `${things.length}`, things })),
    count_plus: (scene) => groups(scene).flatMap(([words, things]) => [1, 2, 3, 4, 5].map((more) =>
      ({ text: `How many ${words} are there plus ${more}?`, answer: `${things.length + more}`, things }))),
    relation: (scene) => pairs(scene).flatMap(([i, j, first, second]) => {
      const true_ = directions(scene.things[i], scene.things[j]);
      return true_.flatMap((way) => [way, OPPOSITE[way]].map((asked) =>
        ({ text: `Is the ${first} ${PHRASE[asked]} the ${second}?`, answer: asked === way ? "yes" : "no", things: [i, j] })));
    }),
    relation_choice: (scene) => pairs(scene).flatMap(([i, j, first, second]) => {
      const held = directions(scene.things[i], scene.things[j]);
      return held.map((way) => {
        const offered = Object.keys(OPPOSITE).filter((other) => other === way || !held.includes(other));
        const lines = offered.map((other, k) => `${"ABCD"[k]}. ${other}`).join("\n");
        return { text: `Where is the ${first} relative to the ${second}?\n${lines}\nAnswer with the letter.`,
          answer: "ABCD"[offered.indexOf(way)], things: [i, j] };
      });
    }),
    arithmetic: () => [3, 8, 13, 17].flatMap((a) => [2, 6, 9].flatMap((b) => [
      { text: `What is ${a} plus ${b}?`, answer: `${a + b}`, things: [] },
      { text: `What is ${Math.max(a, b)} minus ${Math.min(a, b)}?`, answer: `${Math.abs(a - b)}`, things: [] }])),
  };

  /* two things that can be referred to, and words for each */
  const pairs = (scene) => {
    const able = unique(scene, name);
    return able.flatMap((i) => able.filter((j) => j !== i).flatMap((j) =>
      references(scene, i).flatMap((first) => references(scene, j).map((second) => [i, j, first, second]))));
  };

  return { render, relevant, questions: (kind, scene) => KINDS[kind](scene), kinds: Object.keys(KINDS), name };
};

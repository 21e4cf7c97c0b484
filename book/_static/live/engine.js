/* The mini LLaVA-1.5 in JavaScript: pictures and questions in, answers, probabilities and attention out.
   A reference to read beside `lostlib`: the same model from the same safetensors file, the same interventions, the same
   random draws, without a dependency. Matrices are Float32Arrays in rows; comments give shapes: S tokens, Q of them asked
   in this call, K keys seen so far, H hidden size, d dimensions of a head. There is one picture and one question, so no
   batch and no padding: a token's position is its column. */
"use strict";

const lostEngine = () => {
  // ---- arithmetic --------------------------------------------------------------------------------------------------

  /* x (rows, ins) times w (outs, ins) transposed, plus bias (outs) -> (rows, outs); 4 rows by 2 columns at a time */
  const linear = (x, w, ins, bias) => {
    const rows = x.length / ins, outs = w.length / ins, y = new Float32Array(rows * outs);
    const one = (r, o) => {
      let sum = 0;
      for (let i = 0; i < ins; i++) sum += x[r * ins + i] * w[o * ins + i];
      y[r * outs + o] = sum;
    };
    const whole = rows - rows % 4, even = outs - outs % 2;
    for (let o = 0; o < even; o += 2) for (let r = 0; r < whole; r += 4) {
      const p = o * ins, q = p + ins, a = r * ins, b = a + ins, c = b + ins, d = c + ins, at = r * outs + o;
      let a0 = 0, a1 = 0, b0 = 0, b1 = 0, c0 = 0, c1 = 0, d0 = 0, d1 = 0;
      for (let i = 0; i < ins; i++) {
        const u = w[p + i], v = w[q + i], xa = x[a + i], xb = x[b + i], xc = x[c + i], xd = x[d + i];
        a0 += u * xa; a1 += v * xa; b0 += u * xb; b1 += v * xb; c0 += u * xc; c1 += v * xc; d0 += u * xd; d1 += v * xd;
      }
      y[at] = a0; y[at + 1] = a1; y[at + outs] = b0; y[at + outs + 1] = b1;
      y[at + 2 * outs] = c0; y[at + 2 * outs + 1] = c1; y[at + 3 * outs] = d0; y[at + 3 * outs + 1] = d1;
    }
    for (let r = 0; r < rows; r++) for (let o = r < whole ? even : 0; o < outs; o++) one(r, o);
    if (bias) for (let r = 0; r < rows; r++) for (let o = 0; o < outs; o++) y[r * outs + o] += bias[o];
    return y;
  };
  const add = (x, y) => x.map((value, i) => value + y[i]);
  /* root-mean-square norm of each row of x (rows, n); with a bias, layer norm */
  const norm = (x, weight, eps, bias) => {
    const n = weight.length, y = new Float32Array(x.length);
    for (let at = 0; at < x.length; at += n) {
      let mean = 0, square = 0;
      if (bias) { for (let i = 0; i < n; i++) mean += x[at + i]; mean /= n; }
      for (let i = 0; i < n; i++) square += (x[at + i] - mean) ** 2;
      const scale = 1 / Math.sqrt(square / n + eps);
      for (let i = 0; i < n; i++) y[at + i] = (x[at + i] - mean) * scale * weight[i] + (bias ? bias[i] : 0);
    }
    return y;
  };

  const silu = (z) => z / (1 + Math.exp(-z));
  const quickGelu = (z) => z / (1 + Math.exp(-1.702 * z));
  const gelu = (z) => { // by Abramowitz and Stegun 7.1.26, which is right to 2e-7
    const t = 1 / (1 + 0.3275911 * Math.abs(z) / Math.SQRT2);
    const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return 0.5 * z * (1 + Math.sign(z) * (1 - series * Math.exp(-z * z / 2)));
  };

  /* softmax of the scores at these places of a row, written there */
  const softmax = (row, scores, places) => {
    let top = -Infinity, sum = 0;
    for (const j of places) top = Math.max(top, scores[j]);
    for (const j of places) sum += row[j] = Math.exp(scores[j] - top);
    for (const j of places) row[j] /= sum;
  };
  const total = (row, places) => places.reduce((sum, j) => sum + row[j], 0);
  const range = (count) => Array.from({ length: count }, (_, i) => i);

  // ---- random numbers that are functions of what they are for (lostlib.models.keyed_random) ------------------------

  let high = 0, low = 0; // the 64-bit number at work, in halves: BigInt takes a hundred times as long

  const times = (h, l) => { // multiplied, modulo 2^64
    const a0 = low & 0xffff, a1 = low >>> 16, b0 = l & 0xffff, b1 = l >>> 16;
    const p0 = a0 * b0, p1 = a0 * b1, p2 = a1 * b0;
    const middle = (p0 >>> 16) + (p1 & 0xffff) + (p2 & 0xffff);
    const carry = a1 * b1 + (p1 >>> 16) + (p2 >>> 16) + (middle >>> 16);
    high = (Math.imul(high, l) + Math.imul(low, h) + carry) | 0;
    low = (middle << 16) | (p0 & 0xffff);
  };
  const fold = (bits) => { // xor with itself, shifted to the right
    const shifted = (low >>> bits) | (high << (32 - bits));
    high ^= high >>> bits; low ^= shifted;
  };
  const mix = () => { // splitmix64's finaliser
    fold(30); times(0xbf58476d, 0x1ce4e5b9); fold(27); times(0x94d049bb, 0x133111eb); fold(31);
  };
  const entered = ([h, l]) => { // a number [high, low] as it enters a chain
    high = h; low = l; times(0x9e3779b9, 0x7f4a7c15);
    const sum = (low >>> 0) + 0x133111eb;
    high = (high + 0x94d049bb + (sum > 0xffffffff ? 1 : 0)) | 0; low = sum | 0;
    mix();
    return [high, low];
  };
  const small = (number) => [number < 0 ? -1 : 0, number | 0];
  const step = (state, number) => { high = state[0] ^ number[0]; low = state[1] ^ number[1]; mix(); };
  const chain = (...numbers) => numbers.reduce(
    (state, number) => { const next = entered(number); step(state, next); return [high, low]; }, [0, 0]);

  /* a standard normal number from the number at work, by Box and Muller, each step in single precision */
  const f = Math.fround, TURN = f(2 * Math.PI * 2 ** -32);
  const normal = () => {
    const radius = f(Math.sqrt(f(-2 * f(Math.log(f(f(f(high >>> 0) + 0.5) * 2 ** -32))))));
    return f(f(Math.cos(f(f(f(low >>> 0) + 0.5) * TURN))) * radius);
  };
  const positions = range(512).map((position) => entered(small(position)));

  /* BLAKE2b of a text, 8 bytes, as [high, low]: the key of an item's name */
  const textKey = (text) => {
    const data = new TextEncoder().encode(text), blocks = Math.max(1, Math.ceil(data.length / 128));
    const start = [0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
      0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n];
    const order = ["0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
      "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0"];
    const state = BigUint64Array.from(start), turn = (x, n) => (x >> n) | BigInt.asUintN(64, x << (64n - n));
    state[0] ^= 0x01010008n;
    for (let block = 0; block < blocks; block++) {
      const bytes = new Uint8Array(128), v = BigUint64Array.from([...state, ...start]);
      bytes.set(data.subarray(128 * block, 128 * block + 128));
      const words = new BigUint64Array(bytes.buffer);
      v[12] ^= BigInt(Math.min(data.length, 128 * block + 128));
      if (block === blocks - 1) v[14] = ~v[14];
      const quarter = (a, b, c, d, x, y) => {
        v[a] += v[b] + x; v[d] = turn(v[d] ^ v[a], 32n); v[c] += v[d]; v[b] = turn(v[b] ^ v[c], 24n);
        v[a] += v[b] + y; v[d] = turn(v[d] ^ v[a], 16n); v[c] += v[d]; v[b] = turn(v[b] ^ v[c], 63n);
      };
      for (let round = 0; round < 12; round++) {
        const m = [...order[round % 10]].map((digit) => words[parseInt(digit, 16)]);
        for (let i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1]);
        const slant = (i) => [i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4];
        for (let i = 0; i < 4; i++) quarter(...slant(i), m[8 + 2 * i], m[9 + 2 * i]);
      }
      for (let i = 0; i < 8; i++) state[i] ^= v[i] ^ v[8 + i];
    }
    return [Number(state[0] >> 32n) | 0, Number(state[0] & 0xffffffffn) | 0];
  };

  // ---- interventions as they are written (lostlib.forms) -----------------------------------------------------------

  const FORMS = { // parameters in printed order: their default, or all choices, of which the first is the default
    sap: { keys: ["visual", "text", "all"], queries: ["all", "text", "visual", "last"],
      weights: ["gaussian", "gaussian_abs", "uniform", "permuted", "static", "gaussian_logits", "zero"],
      mass: "keep", layers: "all", heads: "all", phase: ["both", "prefill", "decode"],
      spare: ["none", "first"] },
    knockout: { keys: ["sinks", "random", "all_visual"], flavour: ["renormalise", "zero"], per: ["item", "layer"],
      tau: 20, layers: "all", among: ["visual", "text", "all"] },
    var: { tau: null, min_mass: null, p: null, rho: null, target: ["visual", "text", "both"], layers: "all" },
    pool: {},
  };
  const PRINTED = { sap: ["keys", "weights"], knockout: ["keys"] };
  const first = (value) => Array.isArray(value) ? value[0] : value;
  const usual = (name) => Object.fromEntries(Object.entries(FORMS[name]).map(([key, value]) => [key, first(value)]));

  /* "sap:weights=permuted,layers=3-5 & pool" -> [{name, keys, …}, …]; "none" -> [] */
  const parse = (text) => text.trim() === "none" ? [] : text.split("&").map((part) => {
    const [, name, rest] = /^\s*(\w+)(?::(.*?))?\s*$/.exec(part) || [];
    if (!(name in FORMS)) throw new Error(`no intervention ${part.trim()}; there are ${Object.keys(FORMS).join(", ")}`);
    const form = usual(name);
    for (const pair of rest ? rest.split(",") : []) {
      const [key, value] = pair.split("=").map((side) => side.trim());
      if (!(key in form) || !value) throw new Error(`${name} has no ${pair}; it takes ${Object.keys(form).join(", ")}`);
      const all = FORMS[name][key];
      if (Array.isArray(all) && !all.includes(value)) throw new Error(`${key}=${value} is not one of ${all}`);
      form[key] = Number.isNaN(Number(value)) || key === "layers" || key === "heads" ? value : Number(value);
    }
    return { name, ...form };
  });

  /* the one way in which it is written */
  const write = (forms) => forms.map(({ name, ...form }) => {
    const shown = Object.entries(form).filter(([k, v]) => v !== usual(name)[k] || PRINTED[name]?.includes(k));
    return name + (shown.length ? ":" + shown.map(([k, v]) => `${k}=${v}`).join(",") : "");
  }).join(" & ") || "none";

  /* "0+3+5-8" -> those numbers; "all" -> as many as there are */
  const numbers = (text, count) => text === "all" ? range(count) : text.split("+").flatMap((part) => {
    const [first, last] = part.split("-").map(Number);
    return range((last ?? first) - first + 1).map((i) => first + i);
  });

  // ---- what interventions do to attention: weights and scores (heads, Q, K), changed in place ----------------------

  /* What is known about the rows of one layer in one call, as `lostlib.models.attention.Rows`:
     layer, layers, heads, seed, item (key), visual (K), start (tokens before these Q), Q, K, prompt (its tokens),
     firstVisual, sinks (K) where they are asked for. */
  const eachRow = (rows, chosen, change) => range(rows.Q).map((q) => rows.start + q).filter(chosen).forEach(
    (t) => change(t, t - rows.start));

  const sap = (form, weights, scores, rows) => {
    const decoding = rows.Q === 1 && rows.K > 1;
    const apart = form.phase === (decoding ? "prefill" : "decode");
    if (apart || !numbers(form.layers, rows.layers).includes(rows.layer)) return;
    const kept = form.spare === "first" ? 0 : -1; // a key that is taken out of the block
    const inBlock = { visual: (j) => rows.visual[j], text: (j) => !rows.visual[j] && j !== kept,
      all: (j) => j !== kept }[form.keys];
    const asked = { all: () => true, visual: (t) => rows.visual[t], last: (t) => t >= rows.prompt - 1,
      text: (t) => !rows.visual[t] && t > rows.firstVisual }[form.queries];
    eachRow(rows, asked, (t, q) => {
      const seen = range(t + 1), block = seen.filter(inBlock), others = seen.filter((j) => !inBlock(j));
      if (!block.length || (form.weights === "zero" && !others.length)) return;
      for (const head of numbers(form.heads, rows.heads)) {
        const at = (head * rows.Q + q) * rows.K, row = weights.subarray(at, at + rows.K);
        replaceRow(form, row, scores.subarray(at, at + rows.K), block, others, () => noise(form, rows, head, t, block));
      }
    });
  };

  const replaceRow = (form, row, scores, block, others, drawn) => {
    if (form.weights === "zero") {
      for (const j of block) row[j] = 0;
      return softmax(row, scores, others);
    }
    if (form.weights === "gaussian_logits") {
      const mean = total(scores, block) / block.length, draws = drawn();
      const spread = Math.sqrt(block.reduce((sum, j) => sum + (scores[j] - mean) ** 2, 0) / block.length);
      const changed = scores.slice();
      block.forEach((j, i) => { changed[j] = mean + spread * draws[i]; });
      return softmax(row, changed, [...others, ...block]);
    }
    const learned = total(row, block), kept = form.mass === "keep";
    spreadOver(form.weights, row, block, drawn); // sums to 1 over the block
    const share = form.mass === "share" ? block.length / (block.length + others.length) : form.mass;
    const mass = kept ? learned : others.length ? share : 1;
    for (const j of block) row[j] *= mass;
    if (kept || !others.length) return;
    softmax(row, scores, others);
    for (const j of others) row[j] *= 1 - mass;
  };

  const spreadOver = (rule, row, block, drawn) => {
    const draws = rule === "uniform" ? block.map(() => 0) : drawn();
    if (rule === "permuted") { // the weight whose draw is the smallest comes first
      const learned = block.map((j) => row[j]), sum = total(row, block);
      const order = range(block.length).sort((a, b) => draws[a] - draws[b]);
      block.forEach((j, i) => { row[j] = learned[order[i]] / Math.max(sum, 1e-30); });
    } else if (rule === "gaussian_abs") {
      const sum = draws.reduce((s, z) => s + Math.abs(z), 0);
      block.forEach((j, i) => { row[j] = Math.abs(draws[i]) / sum; });
    } else { // gaussian, static, uniform
      block.forEach((j, i) => { row[j] = draws[i]; });
      softmax(row, row, block);
    }
  };

  /* one draw for each key of the block, keyed by (seed, item, layer, head, query, key); static: (seed, query, key) */
  const noise = (form, rows, head, t, block) => {
    const source = [small(rows.seed)];
    if (form.weights !== "static") source.push(rows.item, small(rows.layer), small(head));
    const state = chain(...source, small(t));
    return block.map((j) => { step(state, positions[j]); return normal(); });
  };

  const knockout = (form, weights, scores, rows) => {
    if (!numbers(form.layers, rows.layers).includes(rows.layer)) return;
    const cut = cutKeys(form, rows);
    eachRow(rows, (t) => !rows.visual[t], (t, q) => {
      const seen = range(t + 1), others = seen.filter((j) => !cut.has(j));
      if (others.length === seen.length || (form.flavour === "renormalise" && !others.length)) return;
      for (let head = 0; head < rows.heads; head++) {
        const at = (head * rows.Q + q) * rows.K, row = weights.subarray(at, at + rows.K);
        const left = total(row, others);
        for (const j of seen) if (cut.has(j)) row[j] = 0;
        if (form.flavour === "zero") continue;
        if (left > 0) for (const j of others) row[j] /= left;
        else softmax(row, scores.subarray(at, at + rows.K), others);
      }
    });
  };

  const cutKeys = (form, rows) => {
    const all = range(rows.K), visual = (j) => rows.visual[j];
    if (form.keys === "all_visual") return new Set(all.filter(visual));
    const among = all.filter({ visual, text: (j) => !visual(j), all: () => true }[form.among]);
    const found = among.filter((j) => rows.sinks[j]);
    if (form.keys === "sinks") return new Set(found);
    const of = chain(small(rows.seed), textKey("knockout"), small(form.per === "layer" ? rows.layer : 0));
    const state = chain(of, rows.item), drawn = new Map(among.map((j) => {
      step(state, positions[j]);
      return [j, [high, low >>> 0]];
    }));
    const order = (a, b) => drawn.get(a)[0] - drawn.get(b)[0] || drawn.get(a)[1] - drawn.get(b)[1];
    return new Set(among.sort(order).slice(0, found.length));
  };

  const redistribute = (form, weights, scores, rows) => { // VAR
    if (!numbers(form.layers, form.layers === "all" ? rows.layers - 1 : rows.layers).includes(rows.layer)) return;
    const all = range(rows.K), visual = (j) => rows.visual[j], sink = (j) => rows.sinks[j];
    if (!all.some((j) => visual(j) && sink(j))) return;
    const p = form.p ?? 0.6, rho = form.rho ?? 0.5, least = form.min_mass ?? 0.2;
    const seen = all.filter(visual), other = seen.filter((j) => !sink(j)), sinks = all.filter(sink);
    const receivers = { visual: other, text: all.filter((j) => !visual(j) && !sink(j)),
      both: all.filter((j) => !sink(j)) }[form.target];
    eachRow(rows, (t) => !rows.visual[t], (t, q) => {
      for (let head = 0; head < rows.heads; head++) {
        const row = weights.subarray((head * rows.Q + q) * rows.K, (head * rows.Q + q + 1) * rows.K);
        const mass = total(row, seen), receiving = total(row, receivers), drawn = total(row, sinks);
        if (!(mass > 0 && mass >= least && receiving > 0 && total(row, other) / mass >= rho)) continue;
        for (const j of receivers) row[j] += p * drawn * row[j] / receiving;
        for (const j of sinks) row[j] *= 1 - p;
      }
    });
  };

  const EDITS = { sap, knockout, var: redistribute };
  // ---- the model ---------------------------------------------------------------------------------------------------

  /* a safetensors file in half precision -> {w: name -> values, shapes: name -> sizes} */
  const tensors = (buffer) => {
    const size = Number(new DataView(buffer).getBigUint64(0, true)), w = {}, shapes = {};
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
    delete header.__metadata__;
    for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
      if (dtype !== "F16") throw new Error(`${name} is stored as ${dtype}; expected F16`);
      w[name] = Float32Array.from(new Uint16Array(buffer.slice(8 + size + from, 8 + size + to)), half);
      shapes[name] = shape;
    }
    return { w, shapes };
  };
  const half = (h) => {
    const exponent = (h >> 10) & 31, fraction = h & 1023, sign = h >> 15 ? -1 : 1;
    return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
  };

  class Model {
    /* `about`: config (of transformers), vocabulary (word -> id), mean and std of pixels, dims (sink dimensions) */
    constructor(buffer, about) {
      const { text_config: text, vision_config: vision } = about.config;
      Object.assign(this, about, tensors(buffer), { text, vision });
      this.words = Object.keys(this.vocabulary).sort((a, b) => this.vocabulary[a] - this.vocabulary[b]);
    }

    /* a linear layer by its name: x (rows, ins) -> (rows, outs) */
    apply(name, x) {
      return linear(x, this.w[`${name}.weight`], this.shapes[`${name}.weight`][1], this.w[`${name}.bias`]);
    }

    /* pixels (64, 64, 3) 0-255 -> visual tokens (S, H), of the size of word embeddings */
    look(pixels) {
      const { hidden_size: H, patch_size: P, image_size: N, num_attention_heads: heads } = this.vision;
      const eps = this.vision.layer_norm_eps;
      const side = N / P, S = side * side, patches = new Float32Array(S * 3 * P * P), tower = "vision_tower";
      for (let y = 0; y < N; y++) for (let x = 0; x < N; x++) for (let c = 0; c < 3; c++) {
        const patch = Math.floor(y / P) * side + Math.floor(x / P), at = (c * P + y % P) * P + x % P;
        patches[patch * 3 * P * P + at] = (pixels[(y * N + x) * 3 + c] / 255 - this.mean[c]) / this.std[c];
      }
      const seen = linear(patches, this.w[`${tower}.embeddings.patch_embedding.weight`], 3 * P * P);
      let x = join(this.w[`${tower}.embeddings.class_embedding`], seen);
      x = add(x, this.w[`${tower}.embeddings.position_embedding.weight`]);
      const layerNorm = (name, z) => norm(z, this.w[`${name}.weight`], eps, this.w[`${name}.bias`]);
      x = layerNorm(`${tower}.pre_layrnorm`, x);
      for (let layer = 0; layer < this.vision.num_hidden_layers + 1 + this.config.vision_feature_layer; layer++) {
        const own = `${tower}.encoder.layers.${layer}`, normed = layerNorm(`${own}.layer_norm1`, x);
        const [q, k, v] = ["q", "k", "v"].map((part) => this.apply(`${own}.self_attn.${part}_proj`, normed));
        x = add(x, this.apply(`${own}.self_attn.out_proj`, attend(q, k, v, heads, heads, H / heads, Infinity)));
        const inner = this.apply(`${own}.mlp.fc1`, layerNorm(`${own}.layer_norm2`, x)).map(quickGelu);
        x = add(x, this.apply(`${own}.mlp.fc2`, inner));
      }
      const projected = this.apply("multi_modal_projector.linear_1", x.subarray(H)).map(gelu);
      return this.apply("multi_modal_projector.linear_2", projected);
    }

    /* token ids of a question about one picture, as the chat template and the tokenizer make them */
    encode(question) {
      const word = (text) => this.vocabulary[text] ?? this.vocabulary["<unk>"];
      const split = (text) => (text.match(/\d+\.\d+|\w+|[^\w\s]/g) || []).map(word);
      const image = Array(this.config.image_seq_length).fill(this.config.image_token_index);
      return [this.text.bos_token_id, ...split("USER: "), ...image, ...split(`${question} ASSISTANT:`)];
    }

    /* One picture, one question, greedily.

       ask      pixels, question, item (its name), intervention (a text), seed, most (tokens)
       returns  text, tokens [{word, logprob}], rivals of the first one [{word, probability}], most probable first,
                attention [layer] of the last prompt token (heads, K), visual (K) */
    answer({ pixels, question, item = "0", intervention = "none", seed = 0, most = 8 }) {
      const forms = parse(intervention), ids = this.encode(question), H = this.text.hidden_size;
      const visual = Uint8Array.from(ids, (id) => id === this.config.image_token_index);
      const run = { forms, seed, item: textKey(item), visual: [...visual], prompt: ids.length, cache: [], phis: [],
        firstVisual: visual.indexOf(1), attention: [] };
      let x = this.embed(ids);
      if (this.seen?.pixels !== pixels) this.seen = { pixels, tokens: this.look(pixels) }; // a picture is seen once
      x.set(this.seen.tokens, run.firstVisual * H);
      if (forms.some((form) => form.name === "pool")) pool(x, visual, H);
      let tokens = [], rivals = [];
      while (tokens.length < most) {
        const logits = this.forward(x, run), odds = new Float32Array(logits.length);
        softmax(odds, logits, range(logits.length));
        const token = odds.indexOf(Math.max(...odds));
        if (!tokens.length) {
          rivals = [...odds].map((probability, id) => ({ word: this.words[id], probability }));
          rivals = rivals.sort((a, b) => b.probability - a.probability).slice(0, 5);
        }
        tokens.push({ word: this.words[token], logprob: Math.log(odds[token]) });
        if (token === this.text.eos_token_id) break;
        run.visual.push(0); x = this.embed([token]);
      }
      const text = tokens.map(({ word }) => word).filter((word) => !/^<.*>$/.test(word)).join(" ");
      return { text, tokens, rivals, attention: run.attention, visual };
    }

    embed(ids) {
      const H = this.text.hidden_size, x = new Float32Array(ids.length * H);
      const table = this.w["language_model.model.embed_tokens.weight"];
      ids.forEach((id, t) => x.set(table.subarray(id * H, (id + 1) * H), t * H));
      return x;
    }

    /* new rows x (Q, H) through all layers, on top of what the run remembers -> logits (words) of the last */
    forward(x, run) {
      const { hidden_size: H, num_attention_heads: heads, num_key_value_heads: groups, rms_norm_eps: eps } = this.text;
      const { num_hidden_layers: layers, head_dim: d } = this.text;
      const Q = x.length / H, K = run.visual.length, start = K - Q, model = "language_model.model";
      for (let layer = 0; layer < layers; layer++) {
        const own = `${model}.layers.${layer}`, normed = norm(x, this.w[`${own}.input_layernorm.weight`], eps);
        const [q, k, v] = ["q", "k", "v"].map((part) => this.apply(`${own}.self_attn.${part}_proj`, normed));
        rotate(q, heads, d, start, this.text.rope_parameters.rope_theta);
        rotate(k, groups, d, start, this.text.rope_parameters.rope_theta);
        const [keys, values] = run.cache[layer] = [k, v].map((part, i) => join(run.cache[layer]?.[i] ?? [], part));
        const fresh = range(Q).map((t) => this.phi(x.subarray(t * H, t * H + H)));
        const phis = run.phis[layer] = [...run.phis[layer] ?? [], ...fresh];
        const rows = { ...run, layer, layers, heads, start, Q, K };
        const edit = (weights, scores) => {
          for (const form of run.forms) {
            if ("tau" in form) rows.sinks = phis.map((phi) => phi >= threshold(form.tau ?? 20, H));
            EDITS[form.name]?.(form, weights, scores, rows);
          }
          if (!start) run.attention[layer] = lastRow(weights, heads, Q, K);
        };
        const read = attend(q, keys, values, heads, groups, d, start, edit);
        x = add(x, this.apply(`${own}.self_attn.o_proj`, read)); // resid_mid
        const after = norm(x, this.w[`${own}.post_attention_layernorm.weight`], eps);
        const up = this.apply(`${own}.mlp.up_proj`, after);
        const gate = this.apply(`${own}.mlp.gate_proj`, after).map((z, i) => silu(z) * up[i]);
        x = add(x, this.apply(`${own}.mlp.down_proj`, gate)); // resid_post
      }
      const last = norm(x.subarray((Q - 1) * H), this.w[`${model}.norm.weight`], eps);
      return this.apply("language_model.lm_head", last);
    }

    /* how much the strongest sink dimension stands out of a token's residual stream (H) */
    phi(token) {
      const mean = token.reduce((sum, value) => sum + value * value, 0) / token.length;
      return Math.max(...this.dims.map((dim) => Math.abs(token[dim]))) / Math.sqrt(mean + 1e-6);
    }
  }

  const threshold = (tau, H) => typeof tau === "string" ? Math.sqrt(parseFloat(tau) / 100 * H) : tau;

  /* q (Q, heads·d), k and v (K, groups·d) -> what tokens read (Q, heads·d); token start + i sees keys up to its own.
     `edit` may change the weights (heads, Q, K) between softmax and the product with the values. */
  const attend = (q, k, v, heads, groups, d, start, edit) => {
    const Q = q.length / (heads * d), K = k.length / (groups * d), every = range(K);
    const [scores, weights, out] = [heads * Q * K, heads * Q * K, q.length].map((size) => new Float32Array(size));
    const each = (visit) => {
      for (let head = 0; head < heads; head++) for (let i = 0; i < Q; i++) {
        const group = Math.floor(head * groups / heads);
        visit((i * heads + head) * d, group * d, Math.min(K, start + i + 1), (head * Q + i) * K);
      }
    };
    each((from, of, seen, at) => {
      for (let j = 0; j < seen; j++) {
        let sum = 0;
        for (let c = 0; c < d; c++) sum += q[from + c] * k[j * groups * d + of + c];
        scores[at + j] = sum / Math.sqrt(d);
      }
      softmax(weights.subarray(at, at + K), scores.subarray(at, at + K), seen === K ? every : every.slice(0, seen));
    });
    edit?.(weights, scores);
    each((from, of, seen, at) => {
      for (let j = 0; j < seen; j++) {
        for (let c = 0; c < d; c++) out[from + c] += weights[at + j] * v[j * groups * d + of + c];
      }
    });
    return out;
  };

  /* rotary positions: x (Q, heads·d) in place, halves of each head turned by its token's position */
  const rotate = (x, heads, d, start, theta) => {
    const half = d / 2, speeds = range(half).map((c) => theta ** (-c / half));
    for (let at = 0; at < x.length; at += d) {
      const position = start + Math.floor(at / (heads * d));
      for (let c = 0; c < half; c++) {
        const cos = Math.cos(position * speeds[c]), sin = Math.sin(position * speeds[c]);
        const one = x[at + c], other = x[at + half + c];
        x[at + c] = one * cos - other * sin;
        x[at + half + c] = other * cos + one * sin;
      }
    }
  };

  /* every visual token of x (S, H) becomes the mean of them all */
  const pool = (x, visual, H) => {
    const tokens = range(visual.length).filter((t) => visual[t]);
    for (let c = 0; c < H; c++) {
      const mean = tokens.reduce((sum, t) => sum + x[t * H + c], 0) / tokens.length;
      for (const t of tokens) x[t * H + c] = mean;
    }
  };

  const join = (x, y) => Float32Array.from([...x, ...y]);

  /* of weights (heads, Q, K) the last query's (heads, K) */
  const lastRow = (weights, heads, Q, K) => range(heads).flatMap(
    (head) => [...weights.subarray(((head + 1) * Q - 1) * K, (head + 1) * Q * K)]);

  return { Model, parse, write, numbers };
};

"""The same in nnsight: watch the residual stream and replace attention, and compare with lostlib.

1. Both libraries read resid_pre, attn_out, resid_mid, mlp_out and resid_post of every layer.
2. Both put Gaussian noise, the same numbers, in the place of one layer's attention update and read the logits.
3. The largest deviation of each is printed; above 1e-4 the script fails.

    python -m venv /tmp/nnsight && /tmp/nnsight/bin/pip install -r book/nnsight/requirements.txt -e .
    /tmp/nnsight/bin/python book/nnsight/same.py
"""

import sys
from importlib.metadata import version

import torch
from nnsight import NNsight

import lostlib

SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
LAYER, TOLERANCE = 2, 1e-4

m = lostlib.load_model("mini-llava-1.5")
batch = m.encode(lostlib.load_benchmark("mini-realworldqa", n=1).items)

# --- lostlib ----------------------------------------------------------------------------------------------------------
with torch.no_grad():
    with lostlib.watch(m) as stream:
        m.forward(batch)
    ours = {(k, site): getattr(stream[k], site).clone() for k in range(m.n_layers) for site in SITES}
    with lostlib.watch(m) as stream, lostlib.intervene(m, f"noise_delta:layers={LAYER}", seed=0):
        logits = m.forward(batch).logits
    noise = stream[LAYER].attn_out.clone()

# --- nnsight: the same places, by the names of the model's own modules, asked for in the order in which they run ------
model = NNsight(m.hf)
layers = model.model.language_model.layers
theirs = {}
with torch.no_grad(), model.trace(**batch.tensors, use_cache=False):
    for k in range(m.n_layers):
        theirs[k, "resid_pre"] = layers[k].input.save()
        theirs[k, "attn_out"] = layers[k].self_attn.output[0].save()
        theirs[k, "resid_mid"] = layers[k].post_attention_layernorm.input.save()
        theirs[k, "mlp_out"] = layers[k].mlp.output.save()
        theirs[k, "resid_post"] = layers[k].output.save()
with torch.no_grad(), model.trace(**batch.tensors, use_cache=False):
    layers[LAYER].self_attn.output[0][:] = noise
    replaced = model.output.logits.save()

# --- do they agree? ---------------------------------------------------------------------------------------------------
deviation = {
    site: max(float((ours[k, site] - theirs[k, site]).abs().max()) for k in range(m.n_layers)) for site in SITES
}
deviation["logits under noise"] = float((logits - replaced).abs().max())
moved = float((logits - m.forward(batch).logits).abs().max())
for name in ("nnsight", "torch", "transformers"):
    print(f"{name} {version(name)}")
for what, value in deviation.items():
    print(f"{what:<20} largest deviation {value:.1e}")
print(f"the noise itself moves logits by up to {moved:.1f}")
sys.exit(max(deviation.values()) > TOLERANCE)

"""What figures and tables call the updates of the residual stream."""

import pandas as pd

UPDATES = {"attention": "attn", "FFN": "ffn", "Noise Δ": "noise_delta", "Noise QKV": "noise_qkv"}  # and in keys
CONTROLS = {"noise_delta": "Noise Δ", "noise_qkv": "Noise QKV", "no_rope": "ε(RoPE)"}
MODULES = {"attn": "attention", "ffn": "FFN"}


def of_updates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a `residual` table with one name, `kind`, for module and control.

    >>> of_updates(pd.DataFrame({"module": ["ffn", "attn"], "control": ["none", "no_rope"]}))["kind"].tolist()
    ['FFN', 'ε(RoPE)']
    """
    return rows.assign(kind=rows["control"].map(CONTROLS).fillna(rows["module"].map(MODULES)))

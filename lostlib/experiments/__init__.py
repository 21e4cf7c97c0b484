"""What can be measured: one module an experiment, all through one door.

- `answers`    what the model says; planned, resumable
- `residual`, `nulls`, `spans`, `measures`  what updates bring to the stream; beside null models; over spans of layers
- `attention`, `sinks`, `probes`  where it looks; what sinks draw and write; what single visual tokens tell
- `losses`, `writing`  how surprised it is by a text; which neurons write a massive activation
- `rows`       what the loops share
- `measure`    from a key to a table
- `recheck`    shipped tables measured again
"""

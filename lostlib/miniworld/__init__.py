"""The mini world: scenes of coloured shapes, questions about them, and the small LVLMs trained on both.

- `scenes`    what is in a picture: a few objects on a grid, drawn from a seed; every scene belongs to one split
- `render`    the picture (PIL) and which object each visual token shows
- `questions` question kinds with known answers and known relevant objects
- `build`     tokenizer, processor and model of a mini LVLM, saved in hub format
- `train`     the three training stages of LLaVA, on two CPU cores or a GPU
"""

"""The mini world: scenes of coloured shapes, charts and questions about them, with known answers. No torch.

- `scenes`     what is in a picture: a few objects on a grid, drawn from a seed; every scene belongs to one split
- `render`     the picture (PIL) and which object each visual token shows
- `questions`  question kinds with known answers and known relevant objects
"""

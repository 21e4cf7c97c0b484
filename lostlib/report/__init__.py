"""What a chapter shows: numbers, figures, tables, verdicts and where they came from. No torch.

- `numbers`      what prose prints
- `figures`      numbered figures and tables
- `glance`       grids of verdicts
- `verdicts`     claims beside what was measured; where it came from
- `drawing`      the look of figures; points, groups and curves with their intervals
- `readings`     how much is left under each reading of the replacement
- `pretrained`   where the FFNs of a pretrained model innovate, and what one token makes of it
- `live`         what the page on which a model runs needs
- `parameters`   a chapter's parameters, checked
- `notebook`     how an output reaches the reader, in the book and elsewhere
- `myst`         the book's Markdown, and what any notebook shows of it
"""

from lostlib.report.drawing import style
from lostlib.report.figures import figure, table
from lostlib.report.myst import Cell, escape
from lostlib.report.notebook import BOOK, GRID, NUMBER, VERDICT
from lostlib.report.numbers import Number, Published, published, say, tell
from lostlib.report.parameters import ParameterError, check_parameters
from lostlib.report.verdicts import MARKS, provenance, verdict

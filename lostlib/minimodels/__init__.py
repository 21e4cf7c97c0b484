"""The small LVLMs trained on the mini world.

- `recipes`        sizes, tower and training length of each, one row a model
- `bodies`         tokenizer, processor and untrained model of each family, in hub format
- `towers`         what the vision tower is trained to say
- `conversations`  scenes and questions as training batches
- `trainer`        the three training stages of LLaVA, on two CPU cores or a GPU
- `planting`       sinks put into a trained model
- `exam`, `cards`  what a model knows, and its card
"""

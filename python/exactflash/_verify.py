"""What the programs that compare models share."""

from exactflash._generate import has_tokenizer
from exactflash._model import Model


def some_ids(count: int, vocab_size: int) -> list[int]:
    """Ids without a meaning, the same each time."""
    ids, state = [], 1
    for _ in range(count):
        state = (state * 1103515245 + 12345) % (1 << 31)
        ids.append((state >> 8) % vocab_size)
    return ids


def text_of(model: Model, ids: list[int]) -> str:
    """What ids say, or the ids where there is no tokenizer."""
    return model.tokenizer.decode(ids) if has_tokenizer(model) else str(ids)

"""Prompts to text embeddings: CLIP text encoders, A1111's emphasis, prompts of more than 77 tokens, clip skip.

A plain prompt of at most one window (77 tokens for CLIP) is encoded exactly as diffusers does. A prompt
with A1111's emphasis, or a longer one, is encoded window by window:

    (word:1.2)  weight 1.2      (word)  1.1      [word]  1/1.1      \\( \\) \\[ \\]  the characters themselves

Weights scale the embeddings of their tokens, and the mean of the whole is put back afterwards, as A1111
does. A bracket without its partner is a character like any other.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

import torch

from generation.engine.errors import InvalidRequest

from .lora import ActiveLoras, active_in_text_encoders, cache_key

MAX_WINDOWS = 10
"""750 tokens with CLIP. What comes after is left out and counted, since attention pays for every window."""
MAX_WEIGHT = 10.0
CACHE_SIZE = 128


@dataclass(frozen=True, slots=True)
class Embedding:
    """One encoded prompt. `tokens` is 1 x (windows * length) x width; `pooled` is 1 x width or None."""

    tokens: torch.Tensor
    pooled: torch.Tensor | None
    dropped: int = 0
    """Tokens that did not fit."""


class PromptEncoder:
    """The text encoders of one model, with the last prompts kept.

    `encoders` are (tokenizer, text encoder) pairs: one for SD, two for SDXL, whose second gives the
    pooled embedding. `zero_empty`: no negative prompt is all zeros, as most SDXL models were trained
    (`force_zeros_for_empty_prompt` in their `model_index.json`), and not the embedding of no words.
    """

    def __init__(self, encoders: list[tuple], device: torch.device, dtype: torch.dtype, *, zero_empty: bool = False):
        self._encoders = encoders
        self._device = device
        self._dtype = dtype
        self._zero_empty = zero_empty
        self._cache: OrderedDict[tuple, Embedding] = OrderedDict()

    def encode(self, prompt: str, loras: ActiveLoras = (), clip_skip: int = 0) -> Embedding:
        """`loras`: those that act on the encoders. `clip_skip`: last layers that are left out. Raises InvalidRequest
        where an encoder has fewer."""
        return self._cached(prompt, 1, loras, clip_skip)

    def encode_pair(
        self, prompt: str, negative: str, loras: ActiveLoras = (), clip_skip: int = 0
    ) -> tuple[Embedding, Embedding]:
        """Both prompts, the shorter one filled up with empty windows to the length of the longer."""
        if self._zero_empty and not negative:
            positive = self.encode(prompt, loras, clip_skip)
            return positive, Embedding(torch.zeros_like(positive.tokens), torch.zeros_like(positive.pooled))
        pair = self.encode(prompt, loras, clip_skip), self.encode(negative, loras, clip_skip)
        lengths = [embedding.tokens.shape[1] for embedding in pair]
        if lengths[0] != lengths[1]:
            windows = max(lengths) // self._encoders[0][0].model_max_length
            pair = tuple(self._cached(text, windows, loras, clip_skip) for text in (prompt, negative))
        return pair

    @property
    def encoders(self) -> list[torch.nn.Module]:
        return [encoder for _, encoder in self._encoders]

    def forget(self) -> None:
        self._cache.clear()

    def _cached(self, prompt: str, min_windows: int, loras: ActiveLoras, clip_skip: int) -> Embedding:
        key = prompt, min_windows, cache_key(loras), clip_skip
        if key not in self._cache:
            with active_in_text_encoders(loras):
                self._cache[key] = self._encode(prompt, min_windows, clip_skip)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _encode(self, prompt: str, min_windows: int, clip_skip: int) -> Embedding:
        pieces = parse_emphasis(prompt)
        weighted = any(weight != 1.0 for _, weight in pieces)
        text = "".join(text for text, _ in pieces)
        short = min_windows == 1 and all(_fits(tokenizer, text) for tokenizer, _ in self._encoders)
        if short and not weighted:
            results = [
                self._run(encoder, _plain_inputs(tokenizer, text), clip_skip) for tokenizer, encoder in self._encoders
            ]
            dropped = 0
        else:
            split = [_windows(tokenizer, pieces) for tokenizer, _ in self._encoders]
            dropped = max(sum(len(tokens) for tokens, _ in windows[MAX_WINDOWS:]) for windows in split)
            count = min(max(min_windows, *map(len, split)), MAX_WINDOWS)
            results = [
                self._run_windows(*encoder, windows, count, clip_skip)
                for encoder, windows in zip(self._encoders, split, strict=True)
            ]
        return Embedding(
            torch.cat([tokens for tokens, _ in results], dim=-1).to(self._device, self._dtype), results[-1][1], dropped
        )

    def _run(self, encoder, inputs, clip_skip) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Hidden states (windows x length x width) and, from SDXL's second encoder, the pooled embedding."""
        ids, mask = inputs
        mask = mask.to(self._device) if getattr(encoder.config, "use_attention_mask", False) else None
        if len(self._encoders) == 1 and not clip_skip:
            return encoder(ids.to(self._device), attention_mask=mask)[0], None
        output = encoder(ids.to(self._device), attention_mask=mask, output_hidden_states=True)
        # SDXL was trained on the last layer but one; SD on the last, behind a norm that still belongs there.
        last = clip_skip + (2 if len(self._encoders) > 1 else 1)
        if last > len(output.hidden_states) - 1:
            raise InvalidRequest("This model's text encoder has fewer layers than that.", "clip_skip")
        states = output.hidden_states[-last]
        if len(self._encoders) == 1:
            return getattr(encoder, "text_model", encoder).final_layer_norm(states), None
        return states, output[0] if output[0].ndim == 2 else None

    def _run_windows(self, tokenizer, encoder, windows, count, clip_skip):
        length = tokenizer.model_max_length
        windows = (windows + [([], [])] * count)[:count]
        ids = torch.full((count, length), tokenizer.pad_token_id)
        mask = torch.zeros((count, length), dtype=torch.long)
        weights = torch.ones(count, length)
        for row, (tokens, token_weights) in enumerate(windows):
            filled = len(tokens) + 2
            ids[row, :filled] = torch.tensor([tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id])
            mask[row, :filled] = 1
            weights[row, 1 : filled - 1] = torch.tensor(token_weights)
        states, pooled = self._run(encoder, (ids, mask), clip_skip)
        states = states.reshape(1, count * length, -1)
        scaled = states * weights.reshape(1, -1, 1).to(states)
        before, after = states.float().mean(), scaled.float().mean()
        if before != 0 and after != 0:  # of an encoder that ends in a plain norm both may round to nothing
            scaled = scaled * (before / after).to(scaled.dtype)
        return scaled, None if pooled is None else pooled[:1]


def _fits(tokenizer, text) -> bool:
    return len(tokenizer(text, truncation=False, verbose=False).input_ids) <= tokenizer.model_max_length


def _plain_inputs(tokenizer, text):
    length = tokenizer.model_max_length
    inputs = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return inputs.input_ids, inputs.attention_mask


def _windows(tokenizer, pieces) -> list[tuple[list[int], list[float]]]:
    """Token ids and their weights, cut into windows without their start and end tokens. At least one."""
    tokens, weights = [], []
    for text, weight in pieces:
        ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
        tokens += ids
        weights += [weight] * len(ids)
    length = tokenizer.model_max_length - 2
    return [(tokens[i : i + length], weights[i : i + length]) for i in range(0, len(tokens) or 1, length)]


_MARK = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*(\d{1,4}(?:\.\d{0,6})?|\.\d{1,6})\s*(?=\))")
_CLOSES = {")": "(", "]": "["}
_FACTOR = {"(": 1.1, "[": 1 / 1.1}


def parse_emphasis(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt into (text, weight) pieces. `parse_emphasis("a (red:1.3) boat")` gives
    `[("a ", 1.0), ("red", 1.3), (" boat", 1.0)]`. Weights are kept within 0…10.
    """
    pieces: list[list] = []
    opened: list[int] = []  # where in `pieces` each bracket stands that has no partner yet
    explicit, end = None, 0
    for match in _MARK.finditer(prompt):
        pieces.append([prompt[end : match.start()], 1.0])
        mark, end = match.group(), match.end()
        if mark[0] == ":":
            if opened and pieces[opened[-1]][0] == "(":
                explicit = float(match[1])
            else:
                pieces.append([mark, 1.0])
        elif mark in "([":
            opened.append(len(pieces))
            pieces.append([mark, 1.0])
        elif mark in ")]" and opened and pieces[opened[-1]][0] == _CLOSES[mark]:
            start = opened.pop()
            factor = _FACTOR[_CLOSES[mark]] if explicit is None else explicit
            pieces[start][0] = ""
            for piece in pieces[start:]:
                piece[1] = min(piece[1] * factor, MAX_WEIGHT)
            explicit = None
        else:
            pieces.append([mark[-1], 1.0])
    pieces.append([prompt[end:], 1.0])
    return _merge(pieces)


def _merge(pieces) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = merged[-1][0] + text, weight
        elif text:
            merged.append((text, weight))
    return merged or [("", 1.0)]

"""A byte-level BPE trained on our captions, saved in the form `CLIPTokenizer` loads.

The alphabet holds all 256 bytes, alone and at the end of a word, so any input is legal; words of
the captions become one token each. CLIP pads with its end token, which is also the unknown token
that never occurs.
"""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from .captions import caption, nothing
from .recipe import Recipe
from .scene import random_scene

START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(n: int = 12_000):
    """Captions of scenes; seeded, so that a recipe always yields the same tokenizer."""
    rng = random.Random(5)
    for seed in range(n):
        yield caption(random_scene(seed), rng)
        if seed % 20 == 0:
            yield nothing(rng)


def byte_letters() -> list[str]:
    """The printable letters that byte-level BPE uses for the 256 bytes, in a fixed order."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train(recipe: Recipe, out: Path) -> None:
    """Writes the tokenizer's folder."""
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", fuse_unk=False))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # The word pattern of CLIP's tokenizer, which the loaded tokenizer applies too.
            pre_tokenizers.Split(
                Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    letters = byte_letters()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - 256 - 2,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=2,
    )
    bpe.train_from_iterator(corpus(), trainer)
    learned = json.loads(bpe.to_str())["model"]
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    known = set(tokens)
    tokens += [t for t, _ in sorted(learned["vocab"].items(), key=lambda kv: kv[1]) if t not in known]
    tokens += [START, END]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    tokenizer = CLIPTokenizer(
        vocab={t: i for i, t in enumerate(tokens)},
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.tokens,
    )
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(part)
    # transformers 5 writes tokenizer.json only; these two are what earlier versions read.
    (part / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (part / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    part.replace(out)

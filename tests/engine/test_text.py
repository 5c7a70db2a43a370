"""Prompts: emphasis, long ones, and the cache."""

import pytest
import torch

from generation.engine.loader import ModelManager
from generation.engine.text import MAX_WINDOWS, PromptEncoder, parse_emphasis

CASES = {
    "a red cat": [("a red cat", 1.0)],
    "": [("", 1.0)],
    "a (red:1.3) cat": [("a ", 1.0), ("red", 1.3), (" cat", 1.0)],
    "(cat)": [("cat", 1.1)],
    "((cat))": [("cat", 1.21)],
    "[cat]": [("cat", 1 / 1.1)],
    "(a (b:2) c:0.5)": [("a ", 0.5), ("b", 1.0), (" c", 0.5)],
    "(cat:.5)": [("cat", 0.5)],
    "(cat : 1.5 )": [("cat ", 1.5)],
    r"a \(red\) cat": [("a (red) cat", 1.0)],
    "half open (cat": [("half open (cat", 1.0)],
    "closed) cat": [("closed) cat", 1.0)],
    "(a] b)": [("a] b", 1.1)],
    "ratio 16:9) and (x:y)": [("ratio 16:9) and ", 1.0), ("x:y", 1.1)],
    "[a:1.5]": [("a:1.5", 1 / 1.1)],
    "(cat:9999)": [("cat", 10.0)],
    ":) smile (:": [(":) smile (:", 1.0)],
}


@pytest.mark.parametrize(("prompt", "expected"), CASES.items())
def test_emphasis_as_a1111_users_write_it(prompt, expected):
    pieces = parse_emphasis(prompt)
    assert [text for text, _ in pieces] == [text for text, _ in expected]
    assert [weight for _, weight in pieces] == pytest.approx([weight for _, weight in expected])


@pytest.mark.parametrize("prompt", ["(" * 2000, ")" * 2000, "(" * 1000 + ")" * 1000, "[(" * 500 + ")]" * 500,
                                    "(x" * 400 + ":9)" * 400, "\\" * 2000])
def test_any_brackets_are_survived(prompt):
    assert all(0 <= weight <= 10 for _, weight in parse_emphasis(prompt))


@pytest.fixture(scope="module")
def manager(catalog):
    return ModelManager(device="cpu", allow_download=False)


@pytest.fixture(params=["sd1", "sdxl"])
def encoder(request, manager, catalog):
    model = manager.get(catalog.get(request.param))
    return PromptEncoder(model.text._encoders, model.device, model.dtype)


@torch.inference_mode()
def test_a_plain_prompt_is_encoded_as_it_stands(encoder):
    plain = encoder.encode("a red cat").tokens
    assert plain.shape[1] == 77
    assert torch.equal(plain, encoder.encode("a \\red cat".replace("\\", "")).tokens)
    assert torch.equal(encoder.encode("a (red:1.0) cat").tokens, plain)


@torch.inference_mode()
def test_weights_change_their_words_and_keep_the_mean(encoder):
    plain, heavy = (encoder.encode(prompt).tokens for prompt in ("a red cat", "a (red:1.5) cat"))
    assert plain.shape == heavy.shape and not torch.allclose(plain, heavy)
    assert heavy.mean() == pytest.approx(plain.mean().item(), abs=1e-5)
    ratio = (heavy / plain)[0].median(dim=-1).values
    assert ratio[2] / ratio[1] == pytest.approx(1.5, rel=1e-3), "the token after the start and “a”"


@torch.inference_mode()
def test_a_long_prompt_takes_more_windows_and_every_word_counts(encoder):
    words = ["x"] * 100
    long = encoder.encode(" ".join(words)).tokens
    assert long.shape[1] == 2 * 77
    assert not torch.allclose(long, encoder.encode(" ".join([*words[:-1], "y"])).tokens)
    pair = encoder.encode_pair(" ".join(words), "grey")
    assert pair[0].tokens.shape == pair[1].tokens.shape == long.shape
    assert torch.equal(pair[0].tokens, long)


@torch.inference_mode()
def test_what_does_not_fit_is_counted(encoder):
    result = encoder.encode("x " * 1000)
    assert result.tokens.shape[1] == MAX_WINDOWS * 77
    assert result.dropped == 1000 - MAX_WINDOWS * 75


@torch.inference_mode()
def test_a_prompt_is_encoded_once(encoder, monkeypatch):
    first = encoder.encode("a red cat")
    monkeypatch.setattr(encoder, "_encode", lambda *args: pytest.fail("encoded again"))
    assert encoder.encode("a red cat") is first
    encoder.forget()
    with pytest.raises(pytest.fail.Exception):
        encoder.encode("a red cat")


def test_long_weighted_and_odd_prompts_are_drawn(torch_engine, catalog):
    from generation.engine.request import build_request

    prompts = ["(red:1.4) [cat] " * 60, "🐱" * 300, "((((", "<|endoftext|> x <|startoftext|>", "a " * 999]
    for prompt in prompts:
        for key in ("sd1", "sdxl"):
            request = build_request(catalog.get(key), prompt=prompt, negative_prompt="(grey:1.2)", steps=1)
            image = torch_engine.submit(request).result(60)[0]
            assert image.pixels.size == (32, 32)
    assert image.recipe["prompt_tokens_dropped"] == 999 - MAX_WINDOWS * 75

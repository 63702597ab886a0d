"""transformers with attn_implementation="exactflash": the models, their caches, and equal bits."""

import pytest
import torch
import transformers
from conftest import DEMO_MODEL

import exactflash
import exactflash.torch
import exactflash.transformers

exactflash.transformers.register()
exactflash.transformers.register()  # again is harmless

SMALL = {
    "vocab_size": 99, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MODELS = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral": ("MistralConfig", {"sliding_window": 8}),
    "gemma2": ("Gemma2Config", {"sliding_window": 8, "attn_logit_softcapping": 30.0, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 8, "query_pre_attn_scalar": 16}),
    "gpt-oss": ("GptOssConfig", {"sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1}),
}


def make(name, implementation):
    """A small model with random weights, the same for every implementation."""
    kind, options = MODELS[name]
    config = getattr(transformers, kind)(**SMALL, **options)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation)
    return model.eval()


def prompts():
    """Two sequences, the second with left padding: (ids, attention mask)."""
    ids = torch.randint(3, 99, (2, 20), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    ids[1, :7], mask[1, :7] = 0, 0
    return ids, mask


@pytest.mark.parametrize("name", MODELS)
def test_logits(name):
    """Those of eager attention, for every position that is no padding."""
    ids, mask = prompts()
    with torch.no_grad():
        ours = make(name, "exactflash")(ids, attention_mask=mask).logits
        eager = make(name, "eager")(ids, attention_mask=mask).logits
    real = mask.bool()
    torch.testing.assert_close(ours[real], eager[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", MODELS)
def test_generation(name, cache):
    """Greedy tokens are those of eager attention, with a padded batch and each kind of cache."""
    ids, mask = prompts()
    options = {"max_new_tokens": 12, "do_sample": False, "cache_implementation": cache, "disable_compile": True}
    texts = [
        make(name, kind).generate(ids, attention_mask=mask, **options) for kind in ("exactflash", "eager")
    ]
    assert torch.equal(*texts)


def test_compile_without_graph_breaks():
    model = make("llama", "exactflash")
    ids, mask = prompts()
    compiled = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(ids, attention_mask=mask, use_cache=False).logits,
            model(ids, attention_mask=mask, use_cache=False).logits,
        )


def test_sdpa_routed():
    """A model that calls scaled_dot_product_attention, without being told of exactflash."""
    model = make("llama", "sdpa")
    ids, mask = prompts()
    with torch.no_grad():
        want = model(ids, attention_mask=mask).logits
        with exactflash.torch.sdpa():
            ours = model(ids, attention_mask=mask).logits
    real = mask.bool()
    assert not torch.equal(ours[real], want[real])  # it was another's arithmetic
    torch.testing.assert_close(ours[real], want[real], rtol=1e-4, atol=1e-4)


def test_errors():
    model = make("llama", "exactflash")
    with pytest.raises(exactflash.UnsupportedError, match="no gradient"):
        model(torch.tensor([[3, 4, 5]]))


# ---- batch invariance ----


def one_layer(implementation, q, k, v, mask, causal):
    """The attention layer of transformers, as a model calls it: [batch, q_len, heads, dim]."""
    forward = transformers.AttentionInterface()[implementation]
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups = True, q.shape[1] // k.shape[1]
    with torch.no_grad():
        return forward(module, q, k, v, mask, scaling=q.shape[3] ** -0.5, is_causal=causal)[0]


def ways(implementation, length=300, pad=37):
    """One sequence's attention: alone, beside another in a batch, left-padded, and in two chunks."""
    made = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn((2, heads, length, 64), generator=made) for heads in (8, 2, 2))
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    alone = one_layer(implementation, q[:1], k[:1], v[:1], None, None)[0]
    batched = one_layer(implementation, q, k, v, causal.expand(2, 1, -1, -1), None)[0]
    wide = [torch.cat([torch.randn((2, x.shape[1], pad, 64), generator=made), x], dim=2) for x in (q, k, v)]
    mask = torch.ones(length + pad, length + pad, dtype=torch.bool).tril().repeat(2, 1, 1, 1)
    mask[:, :, :, :pad] = False
    padded = one_layer(implementation, *wide, mask, None)[0, pad:]
    cut = 171
    first = one_layer(implementation, q[:1, :, :cut], k[:1, :, :cut], v[:1, :, :cut], None, None)[0]
    second = one_layer(implementation, q[:1, :, cut:], k[:1], v[:1], causal[None, None, cut:], None)[0]
    return {"alone": alone, "batched": batched, "padded": padded, "chunked": torch.cat([first, second])}


def test_batch_invariance():
    """The same sequence has the same bits in all four ways; sdpa's agree within rounding only."""
    ours, theirs = ways("exactflash"), ways("sdpa")
    for name, out in ours.items():
        assert torch.equal(out, ours["alone"]), name
        torch.testing.assert_close(out, theirs[name], rtol=1e-5, atol=2e-6)
    assert not all(torch.equal(out, theirs["alone"]) for out in theirs.values())


def test_whole_models_are_invariant_in_exactflash():
    """exactflash's own model, unlike transformers' around our attention: its matrix products are
    torch's, whose bits depend on the number of rows."""
    model = exactflash.build_model(DEMO_MODEL)
    ids = model.tokenizer.encode("Once upon a time there was a king who had three daughters.")
    alone = model(ids)
    beside = model([[5, 6, 7] * 9, ids, [9] * 50])[1]
    cache = model.new_cache()
    pieces = [model(ids[begin : begin + 3], cache=cache) for begin in range(0, len(ids), 3)]
    assert alone.tobytes() == beside.tobytes() == b"".join(piece.tobytes() for piece in pieces)

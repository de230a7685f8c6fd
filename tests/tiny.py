"""Tiny models and tokenizers with weights from a formula, and checkpoints of them in the published formats."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import sentencepiece as spm
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor, nn

from bianque.catalog.builtin import by_name
from bianque.catalog.card import Checkpoint, Model
from bianque.models.baichuan import Baichuan, BaichuanConfig
from bianque.models.chatglm import ChatGLM, ChatGLMConfig, EarlyChatGLMConfig
from bianque.models.t5 import T5, T5Config
from bianque.models.tokenizers import BaichuanTokenizer, ChatGLMTokenizer, EarlyChatGLMTokenizer, T5Tokenizer
from bianque.train import vocabulary

SENTENCES = (
    "病人：最近总是头痛，晚上更厉害。\n医生：头痛是一阵一阵的还是一直痛？",
    "病人：一阵一阵的，休息以后会好一些。\n医生：有没有恶心、呕吐或者看东西模糊？",
    "病人：没有，就是睡不好。\n医生：建议您规律作息，少喝咖啡，三天不好转请到医院就诊。",
    "病人：孩子昨天开始发烧，三十八度五。\n医生：孩子多大了？精神怎么样？",
    "病人：两岁，精神还可以，能吃能玩。\n医生：建议多喝水，温水擦身，超过三天请看儿科。",
    "病人：胃胀，吃完饭反酸。\n医生：这种情况多久了？平时吃饭规律吗？",
    "病人：半个月了，经常不吃早饭。\n医生：建议按时吃饭，少吃辛辣油腻的东西。",
    "病人：膝盖上下楼梯疼。\n医生：以前受过伤吗？早上起来僵硬吗？",
    "病人：没有受过伤，蹲下去也疼。\n医生：建议减少爬楼，注意保暖，可以先拍片看看。",
    "病人：皮肤起红疹，很痒，怎么办？\n医生：吃过什么特别的东西，或者换过洗衣液吗？",
    "病人：换了洗衣液。\n医生：建议先停用，外用止痒药膏，不要抓。",
    "心理咨询师：患者和用户都可以说说。",
    "Patient: I have a headache, 3 days (39.5 C). Doctor: please rest!",
)


def numbers(shape: torch.Size, phase: int) -> Tensor:
    """Float32 numbers in ±1, the same on every machine and version: digits of a fast sine, not a generator's."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return ((torch.sin(index * 12.9898 + phase * 78.233) * 43758.5453) % 1 * 2 - 1).float().reshape(shape)


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Weights large enough that every part shows in the logits, and exact in half precision."""
    for phase, (name, weight) in enumerate(model.named_parameters(), 1):
        drawn = numbers(weight.shape, phase)
        if weight.ndim == 1:
            drawn = 0.3 * drawn + (0 if name.endswith("bias") else 1)
        elif not any(table in name for table in ("embed", "shared", "relative_attention_bias")):
            drawn = drawn * 1.7 * weight.shape[1] ** -0.5
        weight.copy_(drawn.half().float())
    return model.eval().requires_grad_(False)


def begun(model, prompts, reply: int = 16, cache=None) -> tuple[Tensor, Any]:
    """Logits [rows, vocab] of prompts read into the first slots of a cache, and the cache."""
    cache = cache or model.new_cache(len(prompts), max(map(len, prompts)), reply)
    return torch.stack([read(model, prompt, cache, slot) for slot, prompt in enumerate(prompts)]), cache


def read(model, prompt, cache, slot: int = 0) -> Tensor:
    """Logits [vocab] of a prompt read to its end."""
    pages = model.prefill(torch.tensor(prompt), cache, slot)
    while True:
        try:
            next(pages)
        except StopIteration as done:
            return done.value


def replies(model, prompts, replies) -> Tensor:
    """Logits [rows, 1 + reply, vocab] of given replies, written together."""
    logits, cache = begun(model, prompts, len(replies[0]))
    found = [logits]
    for column in torch.tensor(replies).T:
        found.append(model.decode_step(column, cache))
    return torch.stack(found, dim=1)


def chatglm(**changes: Any) -> ChatGLM:
    facts = dict(
        vocab_size=48, hidden_size=32, inner_hidden_size=48, num_layers=3, num_attention_heads=2,
        bos_token_id=42, eos_token_id=43, pad_token_id=3, mask_token_id=40, gmask_token_id=41,
    )  # fmt: skip
    return fill(ChatGLM(ChatGLMConfig(**(facts | changes))))


def t5(**changes: Any) -> T5:
    facts = dict(
        vocab_size=48, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_decoder_layers=3, num_heads=3,
        relative_attention_num_buckets=8, relative_attention_max_distance=20, tie_word_embeddings=False,
    )  # fmt: skip
    return fill(T5(T5Config(**(facts | changes))))


def ice_text(folder: Path) -> ChatGLMTokenizer:
    texts = [sentence.replace("\n", "<n>") for sentence in SENTENCES] * 4
    vocabulary.train_ice_text(texts, folder / "ice_text.model", 320)
    return ChatGLMTokenizer(folder / "ice_text.model")


def spiece(folder: Path) -> T5Tokenizer:
    texts = [sentence.replace("\n", "\\n") for sentence in SENTENCES] * 4
    vocabulary.train_spiece(texts, folder / "spiece.model", 320)
    return T5Tokenizer(folder / "spiece.model")


def chatglm_of(tokenizer: ChatGLMTokenizer) -> ChatGLM:
    return chatglm(
        vocab_size=-(-tokenizer.model.vocab_size() // 64) * 64,
        bos_token_id=tokenizer.bos, eos_token_id=tokenizer.eos, pad_token_id=tokenizer.pad,
        mask_token_id=tokenizer.mask, gmask_token_id=tokenizer.gmask,
    )  # fmt: skip


def t5_of(tokenizer: T5Tokenizer) -> T5:
    return t5(vocab_size=-(-(tokenizer.model.vocab_size() + 100) // 64) * 64)


def card(name: str) -> Model:
    return by_name()[name]


def changed(card: Model, **facts: Any) -> Model:
    """The same card with other facts, those of its checkpoint among them."""
    inner = {field.name: facts.pop(field.name) for field in fields(Checkpoint) if field.name in facts}
    return replace(card, **facts, checkpoint=replace(card.loadable, **inner))


def chatglm_config(model: ChatGLM) -> dict[str, Any]:
    """`config.json` with the fields of BianQue-2 on the Hub."""
    return {
        "_name_or_path": "THUDM/chatglm-6b",
        "architectures": ["ChatGLMForConditionalGeneration"],
        "auto_map": {
            "AutoConfig": "configuration_chatglm.ChatGLMConfig",
            "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
        },
        "model_type": "chatglm",
        "position_encoding_2d": True,
        "pre_seq_len": None,
        "prefix_projection": False,
        "quantization_bit": 0,
        "torch_dtype": "float16",
        "transformers_version": "4.28.1",
        "use_cache": True,
        **asdict(model.config),
    }


def t5_config(model: T5) -> dict[str, Any]:
    """`config.json` with the fields of BianQue-1.0 on the Hub."""
    return {
        "_name_or_path": "ClueAI/ChatYuan-large-v2",
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "dropout_rate": 0.1,
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "output_past": True,
        "torch_dtype": "float32",
        "transformers_version": "4.25.1",
        "use_cache": True,
        **asdict(model.config),
    }


def stored(model: ChatGLM | T5) -> dict[str, Tensor]:
    """What a published checkpoint of the model holds: half (ChatGLM), and the keys that no parameter stands behind."""
    if isinstance(model, ChatGLM):
        frequencies = torch.ones(model.config.head_dim // 4).half()
        prefix = "transformer.layers.{}.attention.rotary_emb.inv_freq"
        extra = {prefix.format(i): frequencies.clone() for i in range(model.config.num_layers)}
        return {name: weight.half() for name, weight in model.state_dict().items()} | extra
    views = {f"{stack}.embed_tokens.weight": model.shared.weight.clone() for stack in ("encoder", "decoder")}
    return dict(model.state_dict()) | views


def shards_of(tensors: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    names = sorted(tensors)
    return [{name: tensors[name].contiguous() for name in names[part::count]} for part in range(count)]


def write_bin(folder: Path, tensors: Mapping[str, Tensor], count: int = 1) -> None:
    """One `pytorch_model.bin`, or so many with an index."""
    if count == 1:
        return torch.save(dict(tensors), folder / "pytorch_model.bin")
    files = {f"pytorch_model-{i:05}-of-{count:05}.bin": part for i, part in enumerate(shards_of(tensors, count), 1)}
    for name, part in files.items():
        torch.save(part, folder / name)
    write_index(folder / "pytorch_model.bin.index.json", files)


def write_safetensors(folder: Path, tensors: Mapping[str, Tensor], count: int = 2) -> None:
    if count == 1:
        return save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    files = {f"model-{i:05}-of-{count:05}.safetensors": part for i, part in enumerate(shards_of(tensors, count), 1)}
    for name, part in files.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    write_index(folder / "model.safetensors.index.json", files)


def write_index(path: Path, files: Mapping[str, Mapping[str, Tensor]]) -> None:
    size = sum(t.numel() * t.element_size() for part in files.values() for t in part.values())
    places = {name: file for file, part in files.items() for name in part}
    path.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}))


def bianque_2(folder: Path) -> ChatGLM:
    """A checkpoint as BianQue-2 is published: `ice_text.model`, `config.json`, numbered `.bin` files and their index."""
    model = chatglm_of(ice_text(folder))
    (folder / "config.json").write_text(json.dumps(chatglm_config(model)))
    write_bin(folder, stored(model), 3)
    return model


def bianque_1(folder: Path) -> T5:
    """A checkpoint as BianQue-1.0 is published: `spiece.model`, `config.json` and one `pytorch_model.bin`."""
    model = t5_of(spiece(folder))
    (folder / "config.json").write_text(json.dumps(t5_config(model)))
    write_bin(folder, stored(model))
    return model


async def collect(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


def gathered(items: AsyncIterable[Any]) -> list[Any]:
    """Everything an asynchronous stream gives, from synchronous code."""
    return asyncio.run(collect(items))


def baichuan(**changes: Any) -> Baichuan:
    facts = dict(vocab_size=48, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3)
    return fill(Baichuan(BaichuanConfig(**(facts | changes))))


def tokenizer_model(folder: Path) -> BaichuanTokenizer:
    """Baichuan-13B's layout: reserved pieces among the bytes, so that 195 and 196 are the two speakers."""
    path, reserved = folder / "tokenizer.model", [f"<reserved_{n}>" for n in range(104)]
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_prefix=str(path.with_suffix("")),
        vocab_size=640,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        byte_fallback=True,
        character_coverage=0.98,
        user_defined_symbols=reserved,
        num_threads=1,
        minloglevel=2,
    )
    path.with_suffix(".vocab").unlink()
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    pieces, first = list(model.pieces), 3  # behind <unk> <s> </s>: reserved pieces, then bytes, then words
    speakers, others = pieces[first:][: len(reserved)], [*pieces[:first], *pieces[first + len(reserved) :]]
    del model.pieces[:]
    model.pieces.extend([*others[:93], *speakers, *others[93:]])
    path.write_bytes(model.SerializeToString())
    return BaichuanTokenizer(path)


def baichuan_of(tokenizer: BaichuanTokenizer) -> Baichuan:
    return baichuan(vocab_size=tokenizer.model.vocab_size(), pad_token_id=tokenizer.pad)


def baichuan_config(model: Baichuan) -> dict[str, Any]:
    """`config.json` with the fields of DISC-MedLLM on the Hub."""
    return {
        "_from_model_config": True,
        "architectures": ["BaichuanForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_baichuan.BaichuanConfig",
            "AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM",
        },
        "model_type": "baichuan",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "gradient_checkpointing": False,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "model_max_length": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.29.2",
        "use_cache": True,
        **asdict(model.config),
    }


def disc_medllm(folder: Path) -> Baichuan:
    """A checkpoint as DISC-MedLLM is published: `tokenizer.model`, the configs, numbered `.bin` files and their index."""
    model = baichuan_of(tokenizer_model(folder))
    chat = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, user_token_id=195, assistant_token_id=196)
    defaults = dict(do_sample=True, temperature=1, top_k=5, top_p=0.85, repetition_penalty=1.1, max_new_tokens=4096)
    (folder / "config.json").write_text(json.dumps(baichuan_config(model)))
    (folder / "generation_config.json").write_text(json.dumps({**chat, **defaults}))
    write_bin(folder, {name: weight.half() for name, weight in model.state_dict().items()}, 3)
    return model


def early_chatglm(**changes: Any) -> ChatGLM:
    return fill(ChatGLM(EarlyChatGLMConfig(**asdict(chatglm(**changes).config))))


def early_config(model: ChatGLM) -> dict[str, Any]:
    """`config.json` with the fields of MedicalGPT-zh's copy of ChatGLM-6B: no masks, no padding."""
    later = ("mask_token_id", "gmask_token_id", "pad_token_id", "pre_seq_len", "prefix_projection", "quantization_bit")
    return {name: value for name, value in chatglm_config(model).items() if name not in later}


def early_ice_text(folder: Path) -> EarlyChatGLMTokenizer:
    """The pieces of `ice_text` in a file that lacks the last 344, as the early code reads it."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(ice_text(folder).model.serialized_model_proto())
    del model.pieces[-344:]
    model.trainer_spec.byte_fallback = False
    (folder / "ice_text.model").write_bytes(model.SerializeToString())
    return EarlyChatGLMTokenizer(folder / "ice_text.model")


def stored_quantised(model: ChatGLM, bits: int) -> dict[str, Tensor]:
    """What chatglm-6b-int8 and -int4 hold: a scale a row; two 4-bit columns a byte, the even one in the high half."""
    tensors, largest = stored(model), 2 ** (bits - 1) - 1
    for name in [n for n in tensors if ".layers." in n and n.endswith("weight") and "layernorm" not in n]:
        weight = tensors[name].float()
        scale = (weight.abs().amax(dim=1) / largest).half()
        numbers = (weight / scale.float()[:, None]).round().clamp(-largest, largest).to(torch.int8)
        if bits == 4:
            numbers = numbers[:, ::2] * 16 + numbers[:, 1::2] % 16
        tensors |= {name: numbers, f"{name}_scale": scale}
    return tensors


def medicalgpt_zh(folder: Path) -> ChatGLM:
    """ChatGLM-6B's first release in numbered `.bin` files, and beside it a `lora.p` as MedicalGPT-zh ships it."""
    tokenizer = early_ice_text(folder)
    size = tokenizer.first + tokenizer.model.vocab_size()
    model = early_chatglm(vocab_size=size, bos_token_id=tokenizer.bos, eos_token_id=tokenizer.eos)
    model.config = replace(model.config, mask_token_id=tokenizer.mask, gmask_token_id=tokenizer.gmask)
    model.lm_head.weight[: tokenizer.first] = 0  # image tokens are not what it says
    (folder / "config.json").write_text(json.dumps(early_config(model)))
    write_bin(folder, stored(model), 3)
    hidden, rank = model.config.hidden_size, 8
    factors = {}
    for layer in range(model.config.num_layers):
        name = f"base_model.model.transformer.layers.{layer}.attention.query_key_value"
        factors[f"{name}.lora_A.weight"] = numbers(torch.Size((2 * rank, hidden)), layer).half() * 0.2
        factors[f"{name}.lora_B.weight"] = numbers(torch.Size((2 * hidden, rank, 1)), layer + 9).half() * 0.2
    torch.save(factors, folder / "lora.p")
    return model


def chatglm_quantised(folder: Path, bits: int) -> ChatGLM:
    """A checkpoint as chatglm-6b-int8 or -int4 is published: one `pytorch_model.bin`, the bits in `config.json`."""
    model = chatglm_of(ice_text(folder))
    config = chatglm_config(model) | {"quantization_bit": bits, "quantization_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    write_bin(folder, stored_quantised(model, bits))
    return model

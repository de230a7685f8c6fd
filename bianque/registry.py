"""The table of models. A further checkpoint of a known architecture is one more entry and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bianque import prompts
from bianque.errors import UnknownModel
from bianque.types import ModelCard, Sampling

BIANQUE_PAPER = (
    "Chen et al., BianQue: Balancing the Questioning and Suggestion Ability of Health LLMs, arXiv 2310.15896"
)
DATA_LICENCES = "Apache-2.0; 训练数据 MIT, Apache-2.0, CC BY 4.0, CC0 (见模型卡)"

CARDS = (
    ModelCard(
        name="bianque-1",
        title="扁鹊-1.0 BianQue-1.0",
        architecture="t5",
        role="asks",
        prompt=prompts.bianque_1,
        clean=prompts.t5_reply,
        # scutcyr/BianQue-1.0 model card, `answer(sample=True)`; the input is cut to 768 tokens there.
        sampling=Sampling(temperature=0.7, top_p=1.0, no_repeat_ngram=3, max_new_tokens=512),
        window=768,
        bytes=3_100_000_000,
        parameters=783_150_080,
        kept=65_924_096,
        licence="Apache-2.0",
        citation=BIANQUE_PAPER,
        repo="scutcyr/BianQue-1.0",
        files=("config.json", "spiece.model", "pytorch_model.bin"),
    ),
    ModelCard(
        name="bianque-2",
        title="扁鹊-2.0 BianQue-2.0",
        architecture="chatglm",
        role="advises",
        prompt=prompts.bianque_2,
        clean=prompts.chatglm_reply,
        # scutcyr/BianQue bianque_v2_app.py: `model.chat(max_length=2048, top_p=0.7, temperature=0.95)`.
        sampling=Sampling(temperature=0.95, top_p=0.7, max_new_tokens=1024),
        window=2048,
        bytes=13_420_000_000,
        parameters=6_707_929_088,
        kept=1_070_784_512,
        licence="Apache-2.0 (code), ChatGLM-6B MODEL_LICENSE (weights): non-commercial research only",
        citation=BIANQUE_PAPER,
        repo="scutcyr/BianQue-2",
        files=("config.json", "ice_text.model", "pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ),
    ModelCard(
        name="ask-mini",
        title="问诊小模型 ask-mini",
        architecture="t5",
        role="asks",
        prompt=prompts.bianque_1,
        clean=prompts.t5_reply,
        sampling=Sampling(temperature=0.5, top_p=0.8, repetition_penalty=1.2, no_repeat_ngram=3, max_new_tokens=160),
        window=448,
        bytes=23_288_360,
        parameters=11_638_528,
        kept=4_167_424,
        licence=DATA_LICENCES,
        citation=BIANQUE_PAPER,
        preview=True,
    ),
    ModelCard(
        name="advise-mini",
        title="建议小模型 advise-mini",
        architecture="chatglm",
        role="advises",
        prompt=prompts.bianque_2,
        clean=prompts.chatglm_reply,
        sampling=Sampling(temperature=0.5, top_p=0.8, repetition_penalty=1.25, no_repeat_ngram=3, max_new_tokens=160),
        window=768,
        bytes=21233752,
        parameters=10_611_200,
        kept=4_319_744,
        licence=DATA_LICENCES,
        citation=BIANQUE_PAPER,
        preview=True,
    ),
)


def by_name(cards: Iterable[ModelCard] = CARDS) -> dict[str, ModelCard]:
    return {card.name: card for card in cards}


def find(cards: Mapping[str, ModelCard], name: str) -> ModelCard:
    """The card of exactly this name; UnknownModel lists the names there are."""
    if name not in cards:
        raise UnknownModel(f"没有名为 {name!r} 的模型 (no such model); 可选 (choose one of): {', '.join(cards)}")
    return cards[name]

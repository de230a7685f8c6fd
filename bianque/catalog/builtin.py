"""The table of models. A further checkpoint of a known architecture is one more entry and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bianque.catalog import prompts
from bianque.catalog.card import Checkpoint, Model, split_name
from bianque.errors import BadInput, UnknownModel
from bianque.types import Dialogue, Sampling

BIANQUE_PAPER = (
    "Chen et al., BianQue: Balancing the Questioning and Suggestion Ability of Health LLMs, arXiv 2310.15896"
)
SOULCHAT_PAPER = (
    "Chen et al., SoulChat: Improving LLMs' Empathy, Listening, and Comfort Abilities through Fine-tuning with "
    "Multi-turn Empathy ModelCache, Findings of EMNLP 2023"
)
GLM_PAPERS = (
    "Du et al., GLM: General Language Model Pretraining with Autoregressive Blank Infilling, ACL 2022; "
    "Zeng et al., GLM-130B: An Open Bilingual Pre-trained Model, ICLR 2023"
)
QINGGENG = "Liu et al., MedicalGPT-zh (青囊 QingGeng), github.com/MediaBrain-SJTU/MedicalGPT-zh, 2023"
DISC_PAPER = (
    "Bao et al., DISC-MedLLM: Bridging General Large Language Models and Real-World Medical Consultation, "
    "arXiv 2308.14346"
)
DATA_LICENCES = "Apache-2.0; 训练数据 MIT, Apache-2.0, CC BY 4.0, CC0 (见模型卡)"

# What a card says of its prompt, by name: how a dialogue is written, and how a raw reply is read.
FORMATS: dict[str, tuple[Callable[[Dialogue], str], Callable[[str], str]]] = {
    "bianque-1": (prompts.bianque_1, prompts.t5_reply),
    "bianque-2": (prompts.bianque_2, prompts.chatglm_reply),
    "soulchat": (prompts.soulchat, prompts.soulchat_reply),
    "chatglm": (prompts.chatglm_rounds, prompts.chatglm_reply),
    "baichuan": (prompts.baichuan, prompts.plain_reply),
    "baichuan-older": (prompts.baichuan_older, prompts.plain_reply),
}

BIANQUE_1 = Model(
    name="bianque-1",
    title="扁鹊-1.0 BianQue-1.0",
    role="asks",
    # scutcyr/BianQue-1.0 model card, `answer(sample=True)`; the input is cut to 768 tokens there.
    sampling=Sampling(temperature=0.7, top_p=1.0, no_repeat_ngram=3, max_new_tokens=512),
    licence="Apache-2.0",
    citation=BIANQUE_PAPER,
    repo="scutcyr/BianQue-1.0",
    checkpoint=Checkpoint(
        architecture="t5",
        prompt=prompts.bianque_1,
        clean=prompts.t5_reply,
        window=768,
        bytes=3_100_000_000,
        parameters=783_150_080,
        kept=33_025_024,
        head=32_899_072,
        cache=98_304,
        files=("config.json", "spiece.model", "pytorch_model.bin"),
    ),
)
BIANQUE_2 = Model(
    name="bianque-2",
    title="扁鹊-2.0 BianQue-2.0",
    role="advises",
    # scutcyr/BianQue bianque_v2_app.py: `model.chat(max_length=2048, top_p=0.7, temperature=0.95)`.
    sampling=Sampling(temperature=0.95, top_p=0.7, max_new_tokens=1024),
    licence="Apache-2.0 (code), ChatGLM-6B MODEL_LICENSE (weights): non-commercial research only",
    citation=BIANQUE_PAPER,
    repo="scutcyr/BianQue-2",
    checkpoint=Checkpoint(
        architecture="chatglm",
        prompt=prompts.bianque_2,
        clean=prompts.chatglm_reply,
        window=2048,
        bytes=13_420_000_000,
        parameters=6_707_929_088,
        kept=536_141_824,
        head=534_642_688,
        cache=458_752,
        files=("config.json", "ice_text.model", "pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ),
)
SOULCHAT = BIANQUE_2.changed(
    name="soulchat",
    title="灵心 SoulChat",
    role="counsels",
    prompt=prompts.soulchat,
    clean=prompts.soulchat_reply,
    # scutcyr/SoulChat soulchat_app.py: the last 5 rounds; `model.chat(max_length=2048, top_p=0.75, temperature=0.95)`.
    sampling=Sampling(temperature=0.95, top_p=0.75, max_new_tokens=1024),
    rounds=5,
    citation=SOULCHAT_PAPER,
    repo="scutcyr/SoulChat",
)
CHATGLM_6B = BIANQUE_2.changed(
    # its `chat` defaults are those the BianQue-2.0 app uses
    name="chatglm-6b",
    title="ChatGLM-6B",
    prompt=prompts.chatglm_rounds,
    citation=GLM_PAPERS,
    repo="THUDM/chatglm-6b",
    revision="v1.1.0",
)
MEDICALGPT_ZH = CHATGLM_6B.changed(
    name="medicalgpt-zh",
    title="青囊 MedicalGPT-zh (QingGeng)",
    # The first release, vocabulary 150528; its LoRA also fits the later one, which lacks only the image tokens.
    bytes=13_740_000_000,
    parameters=6_871_769_088,
    kept=618_061_824,
    head=616_562_688,
    citation=QINGGENG,
    revision="v0.1.0",
    adapter="lora.p",
)
DISC_MEDLLM = Model(
    name="disc-medllm",
    title="DISC-MedLLM (HealGPT)",
    role="both",
    # FudanDISC/DISC-MedLLM web_demo.py, its commented defaults (there `max_new_tokens=4096`).
    sampling=Sampling(temperature=1.0, top_k=5, top_p=0.85, repetition_penalty=1.1, max_new_tokens=1024),
    licence="Apache-2.0 (code), Baichuan-13B Community Licence (weights)",
    citation=DISC_PAPER,
    repo="Flmc/DISC-MedLLM",
    checkpoint=Checkpoint(
        architecture="baichuan",
        prompt=prompts.baichuan,
        clean=prompts.plain_reply,
        window=4096,
        bytes=26_529_802_240,
        parameters=13_264_901_120,
        kept=328_094_720,
        head=327_680_000,
        cache=819_200,
        files=("config.json", "tokenizer.model", "pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ),
)

CARDS = (
    BIANQUE_1,
    BIANQUE_2,
    SOULCHAT,
    MEDICALGPT_ZH,
    DISC_MEDLLM,
    CHATGLM_6B,
    CHATGLM_6B.changed(
        name="chatglm-6b-int8",
        title="ChatGLM-6B INT8",
        bytes=7_000_000_000,
        repo="THUDM/chatglm-6b-int8",
        revision="main",
        stored=8,
    ),
    CHATGLM_6B.changed(
        name="chatglm-6b-int4",
        title="ChatGLM-6B INT4",
        bytes=4_000_000_000,
        repo="THUDM/chatglm-6b-int4",
        revision="main",
        stored=4,
    ),
    Model(
        name="ask-mini",
        title="问诊小模型 ask-mini",
        role="asks",
        sampling=Sampling(temperature=0.7, top_p=0.8, max_new_tokens=160),
        licence=DATA_LICENCES,
        citation=BIANQUE_PAPER,
        preview=True,
        checkpoint=Checkpoint(
            architecture="t5",
            prompt=prompts.bianque_1,
            clean=prompts.t5_reply,
            window=448,
            bytes=34_022_912,
            parameters=17_005_760,
            kept=2_608_320,
            head=2_600_960,
            cache=5_120,
        ),
    ),
    Model(
        name="advise-mini",
        title="建议小模型 advise-mini",
        role="advises",
        sampling=Sampling(temperature=0.3, top_p=0.8, max_new_tokens=320),
        licence=DATA_LICENCES,
        citation=BIANQUE_PAPER,
        preview=True,
        checkpoint=Checkpoint(
            architecture="chatglm",
            prompt=prompts.bianque_2,
            clean=prompts.chatglm_reply,
            window=768,
            bytes=30_471_528,
            parameters=15_230_080,
            kept=2_716_800,
            head=2_682_880,
            cache=10_240,
        ),
    ),
)


def by_name(cards: Iterable[Model] = CARDS) -> dict[str, Model]:
    return {card.name: card for card in cards}


def find(cards: Mapping[str, Model], name: str) -> Model:
    """The card of exactly this name, or of `name@bits`, which is held with so many bits a weight.

    UnknownModel lists the names there are, BadInput the bits.
    """
    base, bits = split_name(name) if isinstance(name, str) else ("", None)  # an endpoint's caller may send anything
    shown = repr(name)[:80]
    if base not in cards:
        raise UnknownModel(f"没有名为 {shown} 的模型 (no such model); 可选 (choose one of): {', '.join(cards)}")
    if bits is None:
        return cards[base]
    for known in cards[base].precisions:
        if bits == str(known):
            return cards[base].at(known)
    can = ", ".join(f"{base}@{known}" for known in cards[base].precisions) or base
    raise BadInput(f"{shown}: 没有这个位数 (no such precision); 可选 (choose one of): {can}")

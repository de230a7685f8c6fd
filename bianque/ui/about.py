"""The About tab: which models, under which licences, and what this is not."""

from __future__ import annotations

from collections.abc import Sequence

from bianque import safety
from bianque.types import ModelCard

ROLES = {"asks": "问诊 asks", "advises": "建议 advises", "both": "问诊与建议 both", "counsels": "倾听 counsels"}
ARCHITECTURES = {"t5": "T5", "chatglm": "ChatGLM"}


def text(cards: Sequence[ModelCard], budget: int) -> str:
    rows = "\n".join(row(card) for card in cards)
    cites = "\n".join(f"- {cite}" for cite in dict.fromkeys(card.citation for card in cards))
    return f"""
**{safety.LABEL}；{safety.DISCLAIMER}。** 紧急情况请拨打 **120**；心理援助热线 **12356**；报警 **110**。

*AI-generated, for reference only. In mainland China: ambulance 120, psychological assistance 12356.*

### 怎样工作 How it works

医生会先问。自动模式里，问诊模型逐一提问（最多 {budget} 个）；当它没有更多要问、问题重复、问满，或您要求直接给建议时，由建议模型作答。给出建议之后的追问仍由建议模型回答；新的主诉会重新开始提问。

*In auto mode one model asks, up to {budget} questions; when it has nothing new to ask, or you say so, the other advises.*

对话只保存在您的浏览器里，服务器不保存、不记录您说的话。自带的 mini 模型只演示流程，不是医学知识。

*The dialogue is kept in your browser alone. The mini models are previews, not medical knowledge.*

### 模型 Models

| 模型 | 卡片 | 来源 | 结构 | 角色 | 大小 | 许可 |
|---|---|---|---|---|---|---|
{rows}

### 引用 Citation

{cites}
"""


def row(card: ModelCard) -> str:
    source = f"[{card.repo}](https://huggingface.co/{card.repo})" if card.repo else "本仓库 bundled"
    kind, role = ARCHITECTURES.get(card.architecture, card.architecture), ROLES[card.role]
    return f"| {card.title} | {card.name} | {source} | {kind} | {role} | {size(card.bytes)} | {card.licence} |"


def size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

"""What a report says, in Chinese and in English."""

from __future__ import annotations

from html import escape

from bianque.data.formats import ASPECTS

# What the reader says; report.js fills the braces.
WORDS: dict[str, tuple[str, str]] = {
    "models": ("显示的模型（下面的条件指其中任何一个）", "Models shown (the conditions below mean any of them)"),
    "q": ("搜索文字或编号", "Search text or id"), "set": ("数据集", "Set"), "set_any": ("全部", "all"),
    "task": ("任务", "Task"), "task_any": ("全部", "all"), "next": ("下一轮", "next turn"),
    "consultation": ("整次问诊", "whole consultation"), "recorded": ("已录输出", "recorded outputs"),
    "asks": ("提问", "Questions"), "asks_any": ("不限", "any"), "by_some": ("有模型提问", "a model asks"),
    "by_none": ("都不提问", "none asks"), "by_split": ("有的问有的不问", "some ask, some do not"),
    "by_human": ("与人类医生不同", "unlike the human doctor"), "aspect": ("评分项", "Score"),
    "aspect_any": ("各项平均", "mean of all"), "low": ("评分 ≥", "score ≥"), "high": ("评分 ≤", "score ≤"),
    "proactivity": ("主动", "proactive"), "accuracy": ("准确", "accurate"), "helpfulness": ("有用", "helpful"),
    "linguistic_quality": ("语言", "language"), "sort": ("排序", "Order"), "sort_any": ("原来的顺序", "as in the data"),
    "by_longest": ("最长的回答", "longest answer"), "by_shortest": ("最短的回答", "shortest answer"),
    "by_uneven": ("长度相差最大", "lengths differ most"), "by_differ": ("用字分歧最大", "wordings differ most"),
    "by_judges": ("评分相差最大", "scores differ most"), "by_slow": ("最慢的回答", "slowest answer"),
    "errors": ("只看有错误的", "only with an error"), "reset": ("清除条件", "Reset"), "patient": ("患者", "Patient"),
    "doctor": ("医生", "Doctor"), "asking": ("问诊", "asking"), "advising": ("建议", "advising"),
    "earlier": ("之前的对话（{n} 句）", "Earlier turns ({n})"), "asks_badge": ("问", "asks"), "advises_badge": ("答", "answers"),
    "judge": ("整段评分", "Dialogue judged"), "unread": ("没有读出分数", "no score could be read"),
    "judge_prompt": ("评审的提示词", "The judge's prompt"), "took": ("{n} 秒", "{n} s"), "first": ("首字 {n} 秒", "first token {n} s"),
    "characters": ("{n} 字", "{n} characters"), "tokens": ("{n} 词元", "{n} tokens"), "length": ("截断", "cut at the limit"),
    "cancelled": ("已停止", "stopped"), "failed": ("出错", "Error"), "raw": ("原始输出", "Raw output"),
    "reference": ("人类医生", "Human doctor"), "turn": ("第\u00a0{n}\u00a0轮", "turn\u00a0{n}"), "link": ("链接", "Link"),
    "count": ("{all} 条中的 {n} 条 · 第 {page}/{pages} 页", "{n} of {all} items · page {page}/{pages}"),
    "nothing": ("没有符合条件的条目", "No item meets these conditions"),
    "gone": ("没有这一条，或不合条件：{key}", "No such item, or the conditions hide it: {key}"),
    "first_page": ("« 首页", "« First"), "back": ("‹ 上一页", "‹ Back"), "forward": ("下一页 ›", "Next ›"),
    "last_page": ("末页 »", "Last »"),
}  # fmt: skip

NAMES: dict[str, tuple[str, str]] = {  # of the fields of run.json, in this order; another is shown by its own name
    "command": ("重做的命令", "Command to repeat it"), "contenders": ("由谁回答", "Who answered"), "label": ("参评者", "Contender"),
    "mode": ("模式", "Mode"), "question_budget": ("最多提问", "Questions at most"), "cards": ("模型", "Models"),
    "name": ("名称", "Name"), "phase": ("环节", "Phase"), "repo": ("仓库", "Repository"), "revision": ("版本", "Revision"),
    "bits": ("位", "Bits"),
    "sampling": ("采样", "Sampling"), "kernels": ("计算精度", "Precision"), "data": ("数据", "Data"),
    "references": ("参考回答", "References"), "tasks": ("任务", "Tasks"), "limit": ("最多对话数", "Dialogues at most"),
    "judge": ("评审", "Judge"), "licences": ("许可", "Licences"), "started": ("开始于", "Began"), "finished": ("结束于", "Ended"), "openings": ("历次运行", "Runs"),
    "versions": ("软件版本", "Versions"), "bianque": ("bianque 版本", "bianque version"), "signature": ("sacrebleu 签名", "sacrebleu signature"),
}  # fmt: skip

HEADINGS: dict[str, tuple[str, str]] = {  # above the measure with this name
    "question_rate": ("提问", "Asking"), "length": ("用词", "Wording"), "bleu_1": ("与人类医生的重合", "Overlap with the human doctor"),
    f"judge_{ASPECTS[0]}": ("评审的评分", "A judge's scores"), "first_median": ("用时", "Latency"),
}  # fmt: skip
# Of these there is a plot.
MAIN = (
    "question_rate",
    "pqa_f1",
    "judge_mean",
    "judge_proactivity",
    "rouge_l",
    "bleu_4",
    "distinct_2",
    "self_repetition",
    "length",
)


def both(chinese: str, english: str) -> str:
    """Words in both languages; the style sheet hides one."""
    return f'<span class="zh" lang="zh-CN">{escape(chinese)}</span><span class="en" lang="en">{escape(english)}</span>'

"""What the page and the terminal say, in four languages. Chinese is written first; a missing word falls back to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, cast

from bianque.i18n import compare
from bianque.types import Progress

Lang = Literal["zh-CN", "zh-TW", "en", "ko"]

Words = tuple[str, str, str, str]  # zh-CN, zh-TW, en, ko

WORDS: dict[str, Words] = {
    "consult": ("问诊", "問診", "Consult", "상담"),
    "about": ("关于", "關於", "About", "소개"),
    "mode": ("模式", "模式", "Mode", "모드"),
    "auto": ("自动", "自動", "Auto", "자동"),
    "ask": ("只问诊", "只問診", "Ask only", "질문만"),
    "advise": ("给建议", "給建議", "Advise", "조언"),
    "auto_why": (
        "先由问诊模型逐一提问，问清楚后交给建议模型。", "先由問診模型逐一提問，問清楚後交給建議模型。",
        "One model asks until enough is known, then the other advises.", "한 모델이 충분히 질문한 뒤 다른 모델이 조언합니다.",
    ),
    "ask_why": (
        "只提问，不给建议。", "只提問，不給建議。", "Only asks, gives no advice.", "질문만 하고 조언은 하지 않습니다.",
    ),
    "advise_why": (
        "不再提问，直接给出建议。", "不再提問，直接給出建議。", "Advises at once, without asking.", "묻지 않고 바로 조언합니다.",
    ),
    "message": ("您的情况", "您的情況", "Your message", "증상"),
    "placeholder": (
        "请描述哪里不舒服、多久了……", "請描述哪裡不舒服、多久了……", "Describe what troubles you, in Chinese if you can …",
        "어디가 얼마나 불편한지 적어 주세요…",
    ),
    "chat": ("对话", "對話", "Conversation", "대화"),
    "welcome": (
        "请描述您的不适，我会先问几个问题。", "請描述您的不適，我會先問幾個問題。",
        "Describe what troubles you; a few questions come first.", "불편한 점을 적어 주시면 먼저 몇 가지를 여쭙니다.",
    ),
    "advise_now": ("直接给建议", "直接給建議", "Advise me now", "바로 조언"),
    "retry": ("重答", "重答", "Retry", "다시"),
    "undo": ("撤回", "撤回", "Undo", "되돌리기"),
    "clear": ("清空", "清空", "Clear", "지우기"),
    "markdown": ("导出 Markdown", "匯出 Markdown", "Export Markdown", "Markdown 저장"),
    "json": ("导出 JSON", "匯出 JSON", "Export JSON", "JSON 저장"),
    "examples": ("例子", "例子", "Examples", "예시"),
    "settings": ("模型、采样与导出", "模型、取樣與匯出", "Models, sampling and export", "모델, 샘플링, 내보내기"),
    "ask_model": ("问诊模型", "問診模型", "Asking model", "질문 모델"),
    "advise_model": ("建议模型", "建議模型", "Advising model", "조언 모델"),
    "temperature": ("温度", "溫度", "Temperature", "온도"),
    "top_p": ("top-p", "top-p", "top-p", "top-p"),
    "max_new_tokens": ("最多词元", "最多詞元", "Max tokens", "최대 토큰"),
    "seed": ("随机种子", "隨機種子", "Seed", "시드"),
    "default": ("默认", "預設", "default", "기본값"),
    "default_why": (
        "留空的项目用模型自己的默认值。", "留空的項目用模型自己的預設值。", "A field left empty takes the model's own default.",
        "비워 둔 항목은 모델의 기본값을 씁니다.",
    ),
    "copy": ("复制", "複製", "Copy", "복사"),
    "copy_all": ("复制全部对话", "複製全部對話", "Copy the conversation", "대화 전체 복사"),
    "latest": ("到最新一条", "到最新一則", "To the newest message", "최신 메시지로"),
    "send": ("发送", "傳送", "Send", "보내기"),
    "stop": ("停止", "停止", "Stop", "중지"),
    "label": (
        "内容由人工智能生成，仅供参考；不能替代医生诊疗，不开具处方", "內容由人工智慧生成，僅供參考；不能替代醫生診療，不開具處方",
        "AI-generated, for reference only; no substitute for a doctor, prescribes nothing",
        "AI가 생성한 참고용 내용이며 의사의 진료를 대신하지 않고 처방하지 않습니다",
    ),
    "preview": (
        "小型预览模型：演示问诊流程，不是医学知识", "小型預覽模型：演示問診流程，不是醫學知識",
        "small preview models: they show the conversation, not medical knowledge", "소형 미리보기 모델: 의학 지식이 아닙니다",
    ),
    "loading": ("正在加载 {model}… {percent}%", "正在載入 {model}… {percent}%", "Loading {model} … {percent}%", "{model} 불러오는 중… {percent}%"),
    "downloading": ("正在下载 {model}… {percent}%", "正在下載 {model}… {percent}%", "Downloading {model} … {percent}%", "{model} 내려받는 중… {percent}%"),
    "queued": ("{model} 排队中…", "{model} 排隊中…", "{model} is queued …", "{model} 대기 중…"),
    "ahead": (
        "{model} 排队中，前面还有 {count} 位…", "{model} 排隊中，前面還有 {count} 位…",
        "{model} is queued, {count} ahead …", "{model} 대기 중, 앞에 {count}명…",
    ),
    "thinking_asking": ("正在想要问什么…", "正在想要問什麼…", "Thinking of a question …", "질문을 생각하는 중…"),
    "thinking_advising": ("正在写建议…", "正在寫建議…", "Writing advice …", "조언을 쓰는 중…"),
    "asking": ("问诊", "問診", "Asking", "질문"),
    "advising": ("建议", "建議", "Advice", "조언"),
    "handed": ("由 {source} 转交 {target}：{reason}", "由 {source} 轉交 {target}：{reason}", "{source} handed over to {target}: {reason}", "{source} → {target}: {reason}"),
    "question": ("提问", "提問", "a question", "질문"),
    "not_question": ("没有更多要问的", "沒有更多要問的", "nothing more to ask", "더 물을 것이 없음"),
    "repeat": ("问题已经问过", "問題已經問過", "the question was asked before", "이미 한 질문"),
    "budget": ("问题已问满", "問題已問滿", "all questions are used", "질문 횟수 소진"),
    "requested": ("您要求直接给建议", "您要求直接給建議", "you asked for advice", "조언을 요청하셨습니다"),
    "after_advice": ("接着上面的建议", "接著上面的建議", "following the advice above", "위 조언에 이어서"),
    "new_complaint": ("新的主诉", "新的主訴", "a new complaint", "새로운 증상"),
    "failed": (
        "抱歉，这一轮没有完成。您的话没有丢，请点“重答”再试一次。", "抱歉，這一輪沒有完成。您的話沒有丟，請點「重答」再試一次。",
        "Sorry, this turn failed. Nothing you wrote is lost: press Retry.", "죄송합니다. 이번 답변에 실패했습니다. '다시'를 눌러 주세요.",
    ),
    "stopped": ("（已停止）", "（已停止）", "(stopped)", "(중지됨)"),
    "cut": ("（已到长度上限）", "（已到長度上限）", "(length limit reached)", "(길이 제한)"),
    "urgent": (
        "紧急情况请拨打 **120**；心理援助热线 **12356**；报警 **110**。",
        "在中國大陸，緊急情況請撥打 **120**；心理援助熱線 **12356**；報警 **110**。",
        "In mainland China call **120** for an ambulance, **12356** for psychological help, **110** for the police.",
        "중국 본토에서는 구급 **120**, 심리 지원 **12356**, 경찰 **110**에 전화하세요.",
    ),
    "how": ("怎样工作", "如何運作", "How it works", "작동 방식"),
    "how_text": (
        "医生会先问。自动模式里，问诊模型逐一提问（最多 {budget} 个）；当它没有更多要问、问题重复、问满，或您要求直接给建议时，"
        "由建议模型作答。给出建议之后的追问仍由建议模型回答；新的主诉会重新开始提问。",
        "醫生會先問。自動模式裡，問診模型逐一提問（最多 {budget} 個）；當它沒有更多要問、問題重複、問滿，或您要求直接給建議時，"
        "由建議模型作答。給出建議之後的追問仍由建議模型回答；新的主訴會重新開始提問。",
        "In auto mode one model asks, a question at a time and {budget} at most. When it has nothing new to ask, has used "
        "them all, or you ask for advice, the other model advises. What you ask next goes to the advising model; a new "
        "complaint begins a new round of questions. The models read and write Chinese.",
        "자동 모드에서는 한 모델이 한 번에 하나씩, 최대 {budget}개를 질문합니다. 더 물을 것이 없거나 횟수를 다 썼거나 조언을 "
        "요청하시면 다른 모델이 조언합니다. 그 뒤의 질문에는 조언 모델이 답하고, 새로운 증상을 말씀하시면 질문을 다시 시작합니다. "
        "모델은 중국어로 읽고 씁니다.",
    ),
    "privacy": (
        "对话只保存在您的浏览器里，服务器不保存、不记录您说的话。竞技场例外：对战期间对话留在服务器的内存里，投票会存下对话的 SHA-256 摘要，只有您同意时才存文字。"
        "自带的 mini 模型只演示流程，不是医学知识。",
        "對話只保存在您的瀏覽器裡，伺服器不保存、不記錄您說的話。競技場例外：對戰期間對話留在伺服器的記憶體裡，投票會存下對話的 SHA-256 摘要，只有您同意時才存文字。"
        "自帶的 mini 模型只演示流程，不是醫學知識。",
        "The dialogue is kept in your browser alone; the server neither stores nor logs what you say. One exception is the "
        "arena: a battle stays in the server's memory while it lasts, and a vote stores a SHA-256 of the conversation, and its "
        "text only if you agree. The bundled mini models show how a consultation goes; they are not medical knowledge.",
        "대화는 이 브라우저에만 저장되며 서버는 저장하거나 기록하지 않습니다. 예외로 아레나의 대화는 대결 동안 서버 메모리에 남고, "
        "투표하면 대화의 SHA-256 값이 저장되며 글은 동의하실 때만 저장됩니다. 함께 제공되는 mini 모델은 상담 과정을 보여 줄 뿐 의학 지식이 아닙니다.",
    ),
    "models": ("模型", "模型", "Models", "모델"),
    "bundled": ("随包自带", "隨套件附帶", "bundled", "기본 포함"),
    "memory": ("内存 {sizes}（{bits} 位）", "記憶體 {sizes}（{bits} 位元）", "{sizes} of memory at {bits} bits", "메모리 {sizes} ({bits}비트)"),
    "licence": ("许可：{licence}", "授權：{licence}", "Licence: {licence}", "라이선스: {licence}"),
    "asks": ("问诊", "問診", "asks", "질문"),
    "advises": ("建议", "建議", "advises", "조언"),
    "both": ("问诊与建议", "問診與建議", "asks and advises", "질문과 조언"),
    "counsels": ("倾听", "傾聽", "counsels", "심리 상담"),
    "citation": ("引用", "引用", "Citation", "인용"),
    "now_please": ("请直接给出建议。", "請直接給出建議。", "请直接给出建议。", "请直接给出建议。"),
    **compare.WORDS,
}  # fmt: skip
LANGS: tuple[Lang, ...] = ("zh-CN", "zh-TW", "en", "ko")


def say(lang: str, key: str, **values: object) -> str:
    return told(WORDS, lang, key, **values)


def told(table: Mapping[str, Words], lang: str, key: str, **values: object) -> str:
    """The words of a table, which may be another room's own."""
    return table[key][LANGS.index(cast(Lang, lang))].format(**values)


def waiting(lang: str, progress: Progress) -> str:
    """How far a model has come, or how many are served before."""
    if progress.ahead:
        return say(lang, "ahead", model=progress.model, count=progress.ahead)
    return say(lang, progress.stage, model=progress.model, percent=round(progress.fraction * 100))


def known(names: Iterable[str]) -> Lang:
    """The first of these language names that there are words for (zh_TW.UTF-8 and zh-Hant-HK as well), else Chinese."""
    for name in (name.strip().lower().replace("_", "-").partition(".")[0] for name in names):
        if name in ("zh-tw", "zh-hk", "zh-mo") or name.startswith("zh-hant"):
            return "zh-TW"
        for lang in LANGS:
            if name.split("-")[0] == lang.split("-")[0]:
                return lang
    return "zh-CN"

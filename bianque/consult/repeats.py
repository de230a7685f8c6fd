"""Whether a question repeats an earlier one in other words: what it wants to know, about which part and sign."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bianque.consult.questions import WH, plain, questions

# --- whether two questions ask the same thing ---

# The kind of answer wanted. Those in _OPEN may leave out what they are about (疼多久了 / 多久了).
_SLOTS = {
    "frequency": r"多久.{0,5}一次|[几多少]+次|[几多]少?回|次数|尿频|频率|频繁|经常发作",
    "duration": (
        r"多久|多长时间|(?<![这前后])[几多]少?(?:天|周|个?月|年|个?小时|个?星期)|(?:什么|啥)时候(?:开始|出现|有|起|发现"
        r"|得)|何时|从什么时候|持续时间|病程|时间长"
        r"|how long"
    ),
    "location": (
        r"哪$|在哪|哪(?:里|儿|个部位|块|[颗只条根]|个位置|个地方|边|一?侧)|(?:什么|啥)(?:部位|地方|位置)|具体(?:部位"
        r"|位置)|部位"
    ),
    "severity": r"厉害|严重|程度|受得了|忍(?:受|住)|难忍|剧烈",
    "nature": (
        r"(?:什么|怎么|怎)(?:样的?|个)(?:疼|痛)|性质|(?:刺|胀|隐|绞|钝|跳|酸|闷|灼|剧|抽)(?:疼|痛)|疼法|痛法|哪种(?:疼"
        r"|痛)|什么感觉"
    ),
    "pattern": r"一直|持续(?!多|时间|了|几)|阵发|间断|间歇|时有时无|还是一阵|还是有时|还是反复|断断续续|总是.*还是",
    "trigger": (
        r"什么(?:情况|时候|时间|姿势|动作)|诱因|(?:什么|啥)(?:原因|引起)|怎么(?:引起|弄|受?伤|造成|得|摔|扭)|加重|缓解"
        r"|时候(?:更|会|比较|最)|早上.*还是|白天.*还是"
    ),
    "colour": r"颜色|[尿痰便]发?[黄黑红白绿]|发黑|黑便|发黄|(?:黄|白|绿|红|黑|清|透明)色?的?.{0,3}还是",
    "temperature": r"(?<!近视)[多几]少?度|体温(?!高)|烧到",
    "age": (
        r"月龄|(?:宝宝|孩子|小孩|小朋友)(?:现在|今年)?[几多]少?个?月|岁|年龄|年纪"
        r"|(?<!块)(?<!肿)(?<!包)(?<!面积)多大(?!的|面积)|出生"
    ),
    "medicine": (
        r"(?:吃|用|服|涂|抹|擦|服用|使用)(?:过|了|着|的|没|什么|啥|哪些|点|一些|有)*(?:其他|别的)?.{0,4}药|用药|服药|吃药"
        r"|药物治疗|什么药|药物?(?:了|过)?[吗没]"
    ),
    "treatment": r"(?<!药物)治疗|治过|处理过",
    "exam": (
        r"检查|化验|(?:去|到)过?(?:医院|诊所)|看过?(?:医生|大夫)|就诊|就医|查过|拍过|拍片|(?:做|查|拍|验)(?:过|了"
        r"|个)*.{0,4}(?:镜|超|CT|片|图|血|规|孕|核磁)"
    ),
    "history": (
        r"病史|既往|基础病|慢性病|基础疾病|其[他它]疾?病|别的病|(?:以前|之前|过去|从前)(?:有|得)(?:过|没有)?(?:什么|啥"
        r"|其他|别的).{0,2}病|什么病"
    ),
    "recurrence": r"(?:以前|之前|过去|从前|曾经|第一次).{0,8}(?:这样|这种|类似|出现|发生|有过|发作|也)|第一次|类似",
    "allergy": r"过敏",
    "other": (
        r"(?:其[他它]|别的|哪些|什么|啥|哪里|怎么|伴随).{0,4}(?:症状|不舒服|不适|难受|异常|表现)|伴随(?:的)?(?:症状"
        r"|不适|不舒服)|(?:具体|主要).{0,3}症状"
    ),
    "meal": r"饭[前后]|空腹|餐[前后]|进食[前后]|吃(?:完|了)?饭[前后]",
    "amount": r"多少(?!度|次|天|岁|钱)",
    "result": r"结果|报告|数值|指标",
    "what": r"什么东西",
    "family": r"家族|家里|家人|遗传|父母",
}
_OPEN = frozenset({"duration", "location", "severity", "nature", "pattern", "frequency", "trigger", "meal"})
_WHOLE = frozenset(  # asked once, whatever it is about
    {"allergy", "temperature", "age", "history", "other", "family", "recurrence"}
)
_STRONGER = (  # where the words of two kinds are in one question, the first is meant
    ("age", "duration"),
    ("frequency", "duration"),
    ("other", "location"),
    ("allergy", "medicine"),
    ("recurrence", "duration"),
    ("history", "recurrence"),
    ("medicine", "treatment"),
    ("family", "history"),
    ("duration", "trigger"),
    ("trigger", "severity"),
    ("exam", "treatment"),
    ("result", "exam"),
    ("temperature", "amount"),
    ("duration", "amount"),
)

# One name for what people call differently; body parts first, since a part decides which pain is meant.
_PARTS = {
    "腹": r"肚子?|腹部?|小腹",
    "胃": r"胃(?!口)",
    "头": r"头(?!孢|发)|脑袋|脑门|太阳穴|后脑",
    "喉": r"嗓子?|咽喉?|喉咙?|扁桃体",
    "眼": r"眼睛?|视力|看东西",
    "耳": r"耳朵?|听力",
    "鼻": r"鼻子?|鼻",
    "牙": r"牙龈?|牙齿",
    "口": r"口腔|嘴|口干|舌",
    "颈": r"脖子|颈",
    "肩": r"肩膀?",
    "胸": r"胸口?|心口",
    "心": r"心(?=慌|悸|跳|脏|率)",
    "背": r"背部?",
    "腰": r"腰",
    "腿": r"腿|下肢",
    "膝": r"膝盖?",
    "脚": r"脚|踝",
    "手": r"上肢|手(?!术|淫)|胳膊|手臂|手指",
    "皮肤": r"皮肤|身上",
    "关节": r"关节",
    "乳房": r"乳房|胸部肿块|乳头",
}
_SIGNS = {
    "发热": r"发烧|发热|体温高|高烧|低烧|(?<!退)烧(?!心|药)",
    "咳": r"咳嗽?|咳",
    "痰": r"痰",
    "腹泻": r"拉肚子|腹泻|拉稀|水样便",
    "便秘": r"便秘|排便困难|大便干(?!还|不|吗|稀)|拉不出",
    "呕吐": r"呕吐|吐(?!痰)",
    "恶心": r"恶心|想吐|反胃",
    "反酸": r"反酸|烧心|泛酸|返酸",
    "痛": r"疼痛?|痛",
    "痒": r"瘙?痒",
    "疹": r"红?疹子?|皮疹|疙瘩|红点|红斑|起泡|水泡",
    "肿": r"肿(?!瘤|块)胀?|浮肿|水肿",
    "块": r"肿块|包块|硬块|硬结|疙瘩",
    "晕": r"头晕|眩晕|晕",
    "麻": r"发?麻木?",
    "乏力": r"乏力|无力|没力气|没劲|疲劳|疲倦|累",
    "失眠": r"失眠|睡眠不好|睡不好|睡[不得]?着|入睡",
    "睡眠": r"睡眠|睡觉|睡得(?!着)|睡的|睡好|休息",
    "食欲": r"食欲|胃口|吃饭(?!前|后|规律|时间)|饭量|吃得下|想吃",
    "精神": r"精神(?!压力)",
    "大便": r"大便|便[里中]|排便|便便",
    "小便": r"小便|尿(?!酸|检)|排尿",
    "经量": r"月经量|经[量血]",
    "月经": r"月经(?!量)|例假|大姨妈|末次|经期",
    "怀孕": r"怀孕|孕期|备孕|妊娠|孕",
    "同房": r"同房|性生活|性行为|夫妻生活",
    "胸闷": r"胸闷|闷",
    "气短": r"气短|气喘|憋气|呼吸困难|喘(?:不[过上]来?气?)?",
    "心慌": r"心慌|心悸|心跳快",
    "鼻涕": r"流?鼻涕|流涕",
    "鼻塞": r"鼻塞|鼻子不?通气?|不?通气|堵",
    "血": r"出血|流血|血丝|血(?![压糖脂管型氧]|常规)",
    "分泌物": r"分泌物|白带",
    "烟": r"抽烟|吸烟|烟",
    "酒": r"喝酒|饮酒|酒",
    "血压": r"血压",
    "血糖": r"血糖",
    "糖尿病": r"糖尿病",
    "体重": r"体重(?:有没有|有)?(?:下降|减轻|变化|增加)?|瘦了|变瘦|消瘦",
    "工作": r"职业|工作(?!压力)|上班|从事|行业|干什么|做什么的|什么行业",
    "压力": r"(?:工作|学习|生活|精神)?(?:压力|紧张)|焦虑",
    "情绪": r"情绪|心情",
    "耳鸣": r"耳鸣|耳朵?里?.{0,3}响声?|嗡嗡",
    "打鼾": r"打呼噜?|打鼾|鼾",
    "受凉": r"[受着]过?[凉寒]",
    "不洁": r"不干净|吃坏|不洁饮食|变质",
    "末次": r"末次月?经?|(?:上|最后一)次.{0,3}(?:月经|例假|大姨妈)|月经.{0,3}什么时候|什么时候.{0,3}月经",
    "手术": r"手术|开过刀",
    "受伤": r"受过?伤|外伤|摔|碰|撞|扭",
    "出汗": r"出汗|盗汗|冒汗|多汗",
    "饮水": r"喝水|饮水",
    "辛辣": r"辛辣|辣的?|刺激性?|油腻",
    "饮食": r"饮食|吃饭(?=规律|怎么样|时间)|吃了什么(?!药)|吃什么(?!药)|吃的什么(?!药)|吃过什么(?!药)",
    "性别": r"性别|男(?:的|孩|士|性)?还是女|男宝还是女宝|是男是女",
    "放射": r"放射|窜到|牵扯|传到",
    "胀": r"胀气?|胀",
    "打嗝": r"打嗝|嗳气",
    "怕冷": r"怕冷|发冷|寒战",
    "手脚凉": r"手脚发?[凉冷]",
    "口干": r"口干|口渴",
    "口苦": r"口苦",
    "抽搐": r"抽搐|抽筋",
    "熬夜": r"熬夜|晚睡",
    "运动": r"运动|锻炼",
    "降压药": r"降压药",
    "止痛药": r"止[痛疼]药|布洛芬",
    "消炎药": r"消炎药|抗生素|头孢|阿莫西林",
    "退烧药": r"退[烧热]药",
    "激素": r"激素",
    "安眠药": r"安眠药",
    "避孕药": r"避孕药",
    "胃镜": r"胃镜",
    "肠镜": r"肠镜",
    "B超": r"[bB]超|彩超|超声",
    "CT": r"CT|ct",
    "核磁": r"核磁|磁共振|MRI",
    "X光": r"拍片|X光|x光|胸片|片子",
    "心电图": r"心电图",
    "血检": r"血常规|验血|抽血|查血",
    "尿检": r"尿常规|验尿",
    "便检": r"便常规",
    "验孕": r"验孕|试纸|早孕",
}
_EXAMS = frozenset({"胃镜", "肠镜", "B超", "CT", "核磁", "X光", "心电图", "血检", "尿检", "便检", "验孕"})
_DRUGS = frozenset({"降压药", "止痛药", "消炎药", "退烧药", "激素", "安眠药", "避孕药"})
_ANY_ILLNESS = re.compile(r"慢性|基础|什么|哪些|其[他它]|别的")
_SLOT = {name: re.compile(words, re.IGNORECASE) for name, words in _SLOTS.items()}
_PART = {name: re.compile(words) for name, words in _PARTS.items()}
_SIGN = {name: re.compile(words) for name, words in _SIGNS.items()}
# What is left of a question once its frame is taken away is what it is about.
_FRAME = re.compile(
    r"这几天|这两天|您好|你好|请问一下|请问|问一下|想问|我想|了解|一下|好的|明白|知道|有没有|有无|是不是|是否|能不能"
    r"|会不会|要不要|还是|怎么样|如何|怎样|正常|情况|习惯|可能|经常|容易|比较"
    r"|东西|规律|规则|周期|病史|既往|疾病|晚上|夜里|夜间|这种|这个|那个|那么|现在|目前|平时|平常|日常|最近|近期|之前"
    r"|以前"
    r"|大概|一共|大约|已经|持续|出现|感觉|觉得|症状|具体|主要|什么|哪些|多少|几|任何|比如|例如|或者|以及|同时|另外"
    r"|还有|并且|伴有|伴随|没有|有过|做过|吃过|用过|得过|发生|病前|发病|自己"
    r"|孩子|宝宝|患者|病人|时候"
    r"|[前查香吃用更史物受流拉着呀多您你他她它的地得了过吗呢么啊呀吧哦嗯哈有没不是在会能还也都就那这和与及跟个些啥好高大很时被对到从把给去做开始]"
)


_ASKS_SOMETHING = re.compile(
    r"[?？]|[吗呢么没嘛不否]$|有没有|有无|是不是|是否|还是|能不能|会不会|要不要|(.)不\1|"  # or a word of WH
    + WH.pattern
)
_STATE = re.compile(
    r"怎么样|如何|好吗|好不好|好$|正常|规律|状态|质量|情况|控制|性状|变化|什么样子?|怎样|干.{0,2}还是|稀.{0,2}还是"
)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One thing asked: the kind of answer wanted, the body parts and signs it concerns, and other words."""

    slots: frozenset[str]
    parts: frozenset[str]
    signs: frozenset[str]
    rest: str
    state: bool = False  # a general enquiry: 睡眠怎么样, 大便正常吗

    @property
    def empty(self) -> bool:
        return not (self.slots or self.parts or self.signs or len(self.rest) > 1)


def _read(clause: str) -> _Ask:
    clause = re.sub(r"(.{1,2})[不没]\1", r"\1", clause)  # 恶不恶心 is 恶心
    slots = {name for name, words in _SLOT.items() if words.search(clause)}
    framed = sorted(slots)
    if _SIGN["末次"].search(clause):
        return _Ask(frozenset(), frozenset(), frozenset({"末次"}), "")
    for stronger, weaker in _STRONGER:
        if stronger in slots:
            slots.discard(weaker)
    parts, signs, rest = set(), set(), clause
    for name, words in _SIGN.items():
        if words.search(clause):
            signs.add(name)
            rest = words.sub("", rest)
    for name, words in _PART.items():  # in what the signs left: 腹泻 is no matter of the belly, 腹痛 is
        if words.search(rest):
            parts.add(name)
            rest = words.sub("", rest)
    for name in framed:
        rest = _SLOT[name].sub("", rest)
    slots |= {"exam"} if signs & _EXAMS and "result" not in slots else set()
    slots |= {"medicine"} if signs & _DRUGS and "allergy" not in slots else set()
    if signs and not _ANY_ILLNESS.search(clause):  # 有高血压吗 and 有没有高血压病史 are one question
        slots.discard("history")
    signs |= {"咳"} if "痰" in signs else set()
    rest = re.sub(r"\W|\d", "", _FRAME.sub("", rest))
    return _Ask(frozenset(slots), frozenset(parts), frozenset(signs), rest, bool(_STATE.search(clause)))


def _asked_in(text: str) -> list[_Ask]:
    """The single things a turn asks; a clause that asks nothing lends its words to its neighbour."""
    found: list[_Ask] = []
    for sentence in questions(text) or [text]:
        clauses = [clause for clause in re.split(r"[，,：:]", plain(sentence)) if re.search(r"\w", clause)]
        asking: list[str] = []
        lead = ""
        for clause in clauses:
            if _ASKS_SOMETHING.search(clause):
                own = _read(clause)
                asking.append(clause if own.parts or own.signs else lead + clause)
                lead = ""
            elif asking:
                asking[-1] += clause
            else:
                lead += clause
        found += [ask for ask in map(_read, asking or [lead]) if not ask.empty]
    return found


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)} or {text}


def _agree(one: frozenset[str], other: frozenset[str]) -> bool:
    return not one or not other or bool(one & other)


def _same(new: _Ask, old: _Ask) -> bool:
    """Whether `old` has already asked for what `new` asks for."""
    shared = new.slots & old.slots
    if shared & _OPEN and new.slots <= old.slots | {"other"}:
        alike = "trigger" not in new.slots or _alike(new.rest, old.rest)
        return alike and _agree(new.parts, old.parts) and _agree(new.signs, old.signs)
    if shared and new.slots == shared:
        named, before = new.parts | new.signs, old.parts | old.signs
        return shared <= _WHOLE or ((named <= before if named else not before) and _alike(new.rest, old.rest))
    if new.slots or old.slots - {"amount"}:
        return False
    named, before = new.parts | new.signs, old.parts | old.signs
    if named and named == before and ((new.state and old.state) or not new.rest):
        return True
    return named <= before and (not before or bool(named)) and _alike(new.rest, old.rest)


def _alike(new: str, old: str) -> bool:
    """Whether the words outside the tables say nothing new (character pairs, half of them known)."""
    if len(new) < 2:
        return new in old
    pairs = _pairs(new)
    return len(pairs & _pairs(old)) >= len(pairs) / 2


def repeats(text: str, earlier: Iterable[str]) -> bool:
    """True if all that the turn asks was asked, perhaps in other words, in the earlier turns."""
    earlier = list(earlier)
    if any(plain(text).strip() == plain(old).strip() for old in earlier):
        return True
    known = [ask for old in earlier for ask in _asked_in(old)]
    asked = _asked_in(text)
    return bool(asked) and all(any(_same(ask, old) for old in known) for ask in asked)

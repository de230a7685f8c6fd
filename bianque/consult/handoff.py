"""Ask or advise: which model answers next, as a pure decision over the dialogue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bianque.consult.questions import asks, plain
from bianque.consult.repeats import repeats
from bianque.types import Message, Phase

Reason = Literal["question", "not_question", "repeat", "budget", "requested", "after_advice", "new_complaint"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Who speaks: `asking` shows (or consults) the asking model, `advising` lets the advising model answer."""

    phase: Phase
    reason: Reason


# Words that ask for advice at once hold in every turn ...
_AT_ONCE = re.compile(
    r"(?<!医生)(?<!大夫)(?<!医院)(?<!他们)直接(?:跟我|和我|给我|帮我|对我|就)?(?:告诉|说|讲|开(?!了|的|刀)|推荐|回答"
    r"|建议|给(?:我)?(?:一?个|些|点|出"
    r"|开)?[^，,。医]{0,4}(?:建议|意见|方案|答案|结论|办法|处理|结果|诊断|药)|上(?:建议|结论|方案|答案))"
    r"|(?<!孩子)(?<!他)(?<!她)(?<!宝宝)(?<!儿子)(?<!女儿)(?:别|不要|不用|不必|不想|不愿意?|懒得|甭|少|停止|跳过|省略"
    r"|没必要|不耐烦|能不能不|可不可以不|可以不)(?:让我"
    r"|被|您|你|再|老|总|一直|老是|总是|继续|反复|这样|一个劲)*(?:问(?!题)|提问|回答|答(?=了|，|。|$|你|您|这)|追问"
    r"|问诊|问问题|盘问|绕弯子|绕圈子|啰嗦)"
    r"|不想(?:再)?说(?:那么多|这么多|了|太多)|问(?:这么|那么)多|问(?:个)?(?:没完|不停)|没完没了|问够了|(?:怎么"
    r"|为什么)(?:还|一直|老|总)(?:是)?(?:在)?(?:问|要问)"
    r"|问题(?:也|太|真|这么|那么)(?:太)?多|废话(?:少说|真多|太多)|少废话|跳过(?:问诊|提问|问题|这些|这步)"
    r"|(?:不|别)(?:要)?(?:再)?了解(?:了|那么多|这么多)|(?:只|就)(?:想|要)知道(?:该|应该)?(?:怎么|如何|吃|用)|(?:说"
    r"|讲)重点|只想?要[^，,]{0,4}(?:建议|答案"
    r"|方案|结论)|直接要|别再?(?:磨|墨|绕|扯)|要(?:的是)?(?:建议|答案|结论)[，,]?不(?:是|要)|别(?:再)?(?:打听|废话)"
    r"|(?:(?<!尽)快|赶紧|赶快|马上|立刻|立马|干脆|索性|只要|只需)(?:点|就)?(?:告诉我|给我?(?:个|些|点|出|开)?(?:建议"
    r"|意见|方案|结论|答案|办法|药)|说(?:结论|建议|方案"
    r"|办法|怎么|该|吃什么|用什么))"
    r"|(?:告诉我|说|讲)(?:一下)?(?:该|应该|要)?(?:怎么(?:办|治|治疗|处理|做|吃药|用药)|吃(?:什么|啥)药|用(?:什么|啥)药"
    r"|(?:怎么|如何)(?:调理|缓解))(?:就(?:行|好"
    r"|可以|成)|好了|得了|行了|可以了)",
)
# ... and gentler ones only once questions have been asked: on the first turn they are how people describe a complaint.
_BY_NOW = re.compile(
    r"(?:^|[，,。！!；; ]|请|麻烦|能不能|能|可不可以|可以|[你您]|那|就|还是|先|医生|大夫|希望|想)(?:给|提|说|来|要"
    r"|听听)(?:我|我们|出|下|一下|几|个|一?点|一?些|一?条"
    r"|[你您]的?)*[^，,。的了]{0,4}(?:药方|方子|建议|意见|方案|办法|结论|答案|治疗方案|处理办法|处理方法|诊断)"
    r"|(?:^|[，,]|请|麻烦|能不能|可不可以|可以|[你您]|那|就|先|还是|赶紧|快)(?:给|帮)(?:我|我们)?开(?:点|些"
    r"|个)?药(?!了)"
    r"|(?:先|就|快|赶紧)开(?:点|些|个)?药(?!了)"
    r"|(?:先|就|快)告诉我(?:怎么|如何|[吃用抹涂]什么)|(?:^|[，,。！!；; ]|那|就|[你您]|先|还是|请|快)(?:告诉我|说说?"
    r"|讲讲?|谈谈)(?:一下|吧)?(?:该|应该|要"
    r"|我)*(?:怎么(?:办|治|治疗|处理|弄|做|调|吃|用)|如何(?:治疗|处理|调理)|吃(?:什么|啥)药?|用(?:什么|啥)药?|(?:治疗"
    r"|处理)(?:方法|办法|方案)|结论|诊断|什么病)"
    r"|(?:就(?:这些|这样|这么多)|没有?(?:别的|其他的?|什么(?=了|[，,]))了?|情况就)[^？?]{0,10}(?:说吧|开始吧|怎么(?:办"
    r"|治|处理)|建议|开药)"
    r"|可以(?:给|出|下|开)(?:个)?(?:建议|结论|方案|诊断|药)了|(?:信息|情况)(?:都|应该|也)*(?:够|足够|说完|说清楚)了"
    r"|^(?:求|要)?(?:给?个?)?(?:建议|方案"
    r"|结论)(?:吧|呗|就行)"
)
_FOREIGN = re.compile(
    r"\bjust (?:tell|give|answer|say|advi[sc]e|help)|\btell me (?:directly|now|straight)|\b(?:stop|quit|enough"
    r"|no more|skip|without|done with|tired of)\b.{0,16}\b(?:question|ask)"
    r"|\b(?:don'?t|do not|no need to) (?:ask|want to answer|keep asking|wanna answer)|\bget to the (?:point"
    r"|advice)|\bgive me (?:your |some |the |any )?(?:advice|answer|treatment|diagnosis|recommendation)"
    r"|\bskip to\b|\bstraight to\b|\badvice (?:now|please|only)"
    r"|^\W*(?:please )?tell me what (?:to|i should)\b[^?]*$"
    r"|(?:그냥|바로|빨리|일단|이제)[^?]{0,16}(?:말해|알려|처방|조언|추천|답해|해결)|(?:질문|묻|물어)[^?]{0,8}(?:그만"
    r"|말고|마세요|말아|하지 ?마|됐)|그만 ?(?:물어"
    r"|묻|질문|좀)|(?:대답|답)하기 ?싫|(?:조언|처방)(?:을|만|이나|부터|해)? ?(?:주세요|해 ?줘|해 ?주세요|줘|부탁)",
    re.IGNORECASE,
)

_PERSONS = {
    "母": r"妈|母亲|娘",
    "父": r"爸|父亲|老爹",
    "夫": r"老公|丈夫|先生(?!的药)",
    "妻": r"老婆|妻子|媳妇|太太",
    "子": (
        r"孩子|儿子|女儿|闺女|宝宝|小孩|宝贝|小朋友|娃|小儿(?![^，,。]{0,8}(?:颗粒|糖浆|片|口服液|胶囊|丸))|幼儿|婴儿"
        r"|新生儿|个月大"
    ),
    "祖": r"爷爷|奶奶|外公|外婆|姥姥|姥爷|老人",
    "姻": r"岳母|岳父|婆婆|公公",
    "兄": r"哥哥|弟弟|我哥|我弟|表[哥弟]",
    "姐": r"姐姐|妹妹|我姐|我妹|表[姐妹]",
    "友": r"同事|朋友|同学|室友|舍友|邻居|对象|闺蜜",
    "孙": r"孙子|孙女|外孙",
    "侄": r"侄|外甥",
    "叔": r"叔|舅|姑|姨(?!妈巾)|伯",
    "foreign": (
        r"\bmy (?:mom|mother|mum|dad|father|wife|husband|son|daughter|baby|kid|child|friend|brother|sister"
        r"|grand\w+)|엄마|어머니|아빠|아버지|아이|아기|남편|아내|친구"
    ),
}
_ORGANS = {
    "头": r"头(?!孢|发)|脑袋|后脑|偏头|\bhead",
    "眼": r"眼|视力|看东西|\beyes?\b|눈",
    "耳": r"耳|听力|\bears?\b|귀",
    "牙": r"牙|\btooth|\bteeth|치아|이가",
    "口": r"口腔|嘴|舌|溃疡",
    "呼吸": r"咳|痰|嗓|喉|咽|鼻|感冒|发烧|发热|喘|气短|肺|扁桃|\bcough|\bthroat|기침|감기|열이",
    "颈肩": r"脖子|颈|肩|落枕|\bneck|\bshoulder",
    "胸心": r"胸口|胸闷|胸痛|胸|心慌|心悸|心脏|心口|\bchest|\bheart",
    "消化": r"胃|肚子|腹|肠|拉肚|便秘|大便|恶心|呕吐|吐|反酸|消化|打嗝|\bstomach|\bbelly|\bdiarrh|배가|위가",
    "肛": r"肛|痔疮|便血|屁股",
    "腰背": r"腰|后背|背疼|背痛|背部|脊|\bback (?:pain|ache|hurts)|허리",
    "腿膝": r"腿|膝|大腿|小腿|抽筋|\bknee|\bleg|무릎|다리",
    "脚": r"脚|踝|脚趾|灰指甲|\bfoot|\bfeet|\bankle|발",
    "手": r"手(?!术|机|淫|续)|胳膊|手腕|肘|\bhand|\bwrist|\barm|\belbow|손",
    "皮肤": r"皮肤|疹|痘|痒|皮炎|荨麻|癣|斑|疣|\bskin|\brash|피부",
    "泌尿": r"尿|肾|膀胱|前列腺|\burin",
    "妇科": r"月经|例假|白带|阴道|痛经|子宫|卵巢|妇科|怀孕",
    "乳": r"乳房|乳头|乳腺|胸部肿块",
    "男科": r"睾丸|阴茎|阴囊|龟头|早泄|阳痿|勃起",
    "睡眠": r"失眠|睡不着|睡眠|入睡|多梦|\bsleep|\binsomnia|불면",
    "毛发": r"头发|脱发|掉发|白发|头皮",
    "指甲": r"指甲",
    "血压": r"血压",
    "血糖": r"血糖|糖尿病",
    "情绪": r"焦虑|抑郁|情绪",
    "甲状腺": r"甲状腺|甲亢|甲减",
}
_COMPLAINT = re.compile(
    r"疼|痛|痒|咳|烧|发热|吐|泻|拉肚|拉稀|便秘|便血|晕|麻|肿|胀|酸|血|流|塞|失眠|睡不|睡眠|睡得|没精神|乏力|没力|疹|红"
    r"|疙瘩|痘|不舒服|不适|难受|不好(?!消化|吃|意思|办|说)|不太好"
    r"|不对劲|喘|闷|慌|尿频|尿急|尿不|月经|推迟|过敏|感冒|抽筋|发炎|炎|溃疡|脱发|掉头发|掉发|扭|摔|烫|咬|高血压|血压"
    r"|血糖|糖尿病|怀孕|干涩|模糊|看不清|发黄|发黑|结节|囊肿|息肉|包|块|癣"
    r"|斑|(?<!这个)(?<!这种)病|骨折|抖|脱臼|伤|蜕皮|脱皮|没胃口|不吃(?:饭|奶|东西)|吃不下|不爱吃|厌食|哭|闹"
    r"|[睛口鼻肤]干|长(?:了|出|个)|起(?:了|来|皮)|耳鸣|听不|出汗|发抖"
    r"|抽搐|打嗝|反酸|恶心|焦虑|抑郁|心情"
    r"|\bpain|\bhurt|\bache|\bitch|\bfever|\bcough|\bdizz|\brash|\bswoll|\bsick|\bsore|\bred\b|\bache|headache|아프"
    r"|아파|통증|열이|기침|가려|어지|부었"
)
_SWITCH = re.compile(
    r"(?:换|問|问|聊|说|讲|咨询|看)(?:一?下|一?个|点|问)*(?:别的|另一?个?|另外|其[他它]|新|不同|不一样)的?(?:一?个"
    r"|一件)?(?:问题|事|情况|毛病|病|话题|症状)|(?:问|说"
    r"|聊|讲)(?:一?下|一?个|一?点)?(?:别|其[他它])的|还有其[他它]的?(?:健康)?(?:问题|毛病|情况)(?:需要|想|要)"
    r"|换(?:一?个|下|一下)?(?:问题|话题|人|部位|病)"
    r"|^(?:不同|不一样)的(?:问题|事)|(?:另一?个?|另外|新)(?:一?个|一件|个|的)*(?:问题|毛病|事情|事儿?(?!实)|病"
    r"|情况)(?:想|要|就|是|需|，|,|：|:|。|$|请|麻烦"
    r"|咨询|问)"
    r"|不(?:说|谈|聊|管)这个|这个(?:先)?不(?:说|谈|管)|与(?:此|这个|刚才)无关|跟(?:这个|刚才|之前)(?:的)?(?:没|无)关"
    r"|不相关"
    r"|\b(?:another|different|new|separate|unrelated) (?:question|problem|issue|complaint|topic|matter)"
    r"|\bsomething else\b|다른 (?:질문|문제|증상)|질문이 하나 더",
    re.IGNORECASE,
)
_BESIDES = re.compile(
    r"还(?:想|要)(?:问|咨询)|另外|此外|除此之外|除了这个|还有(?!点|些|一点|什么|没有|别的|其[他它])|对了|顺便(?:问"
    r"|咨询|请教|想|看|再)|再(?:问|咨询|请教)|也想(?:问|咨询)"
    r"|\balso\b|by the way|besides|그리고|그런데|참,"
)
_ONSET = re.compile(
    r"最近|近来|近期|这几?(?:天|两天|段时间|周|个?月|阵)|这两天|今天|今早|昨天|昨晚|前天|昨|刚刚?(?!才说)|突然|忽然"
    r"|开始|又(?!是)|怎么回事|怎么办|怎么了|是什么(?:原因|病)|已经"
    r"|[一二三四五六七八九十两几半\d]+(?:天|周|个月|年|个星期)(?:了)?|应该挂"
)
_BODY = re.compile(
    r"^(?:医生|大夫|您好|你好|[，,。! ！哦嗯对了那])*(?:我|我的|我这|我左|我右|左|右|双|两|最近|这两天|这几天|今天"
    r"|昨天|昨晚|突然)"
)
# A treatment's effect, or a doubt about its link with the complaint, belongs to the advice already given.
_EFFECT = re.compile(
    r"(?:吃|服|喝|用|涂|抹|敷|贴|打|做|按|泡|热敷|冰敷|滴|喷|停)(?:药|您|你|的)?(?:[一两二三四五六七八九十几\d]+(?:天"
    r"|次|周|片|粒|贴))?(?:了|完|过|上)|(?:吃|服|用"
    r"|停|敷|涂|换|打|做)(?:药|针|了)*(?:之后|以后|后|的时候)|副作用|不良反应|您?[你您]?(?:说|开|推荐|建议)的"
    r"|按[照你您]|这个?药|那个?药|该药"
)
_LINK = re.compile(
    r"会不会|是不是(?:因为|由|跟|和|与)|引起|导致|造成|影响|有关|相关|关系|放射|牵连|伴随|并发|连带|传到|窜到|跟着"
    r"|还会|会传染|传染给|遗传|以前(?:也)?(?:得|有)过|得过|病史|家族史"
    r"|如果|万一|有任何|以防|以免|^检查结果"
)
_BACK = re.compile(r"这(?:些|种|样|个(?!月))|它")
_REPORTED = (
    r"(?:们)?(?:也|都|就|总|老|又|一直|还)?(?:说|问|觉得|认为|让|叫|告诉|建议|劝|担心|给我|帮我|陪|要我|听|怕|推荐"
    r"|不让|(?:也|都)没|没事|没有任何)"
)
_ON_BEHALF = re.compile(r"(?:帮|替|代|给)((?:我|我的|我家)?[一-鿿]{1,3}?)(?:问|咨询|看)(?:一下|下|问|个)?")
_MEDICINE = re.compile(r"(?:感冒|胃|眼|止咳|咳嗽|止[痛疼]|消炎|退[烧热]|降压|降糖|高血压|糖尿病|[妇男]科|安眠)药水?")
_GREETING = re.compile(
    r"^\W*(?:[您你]好|hi|hello)?\W*.{0,12}(?:帮[您你助到]|为[您你]服务|帮忙|哪里不舒服|什么不舒服|help you)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Told:
    """What has been said since a round began, by what it names: each turn is read once, however many follow."""

    persons: set[str] = field(default_factory=set)  # of the visitor's turns, as are the organs
    organs: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)  # three Han characters in a row, of the texts looked through so far

    def visitor(self, text: str) -> None:
        self.persons |= _named(_PERSONS, text)
        self.organs |= _named(_ORGANS, text)
        self.texts.append(text)

    def doctor(self, text: str) -> None:
        self.texts.append(text)

    def names(self, text: str) -> bool:
        """Whether three Han characters in a row of the text have been said."""
        while self.texts:
            self.runs |= _runs(self.texts.pop())
        return not self.runs.isdisjoint(_runs(text))


@dataclass(frozen=True, slots=True)
class Round:
    """The current round of a dialogue: where it begins, the visitor's newest turn, the doctor's turns since."""

    start: int
    newest: str
    spoken: tuple[str, ...]
    phases: tuple[Phase, ...]  # of those turns

    @property
    def asked(self) -> int:
        """How many of its doctor turns have asked."""
        return self.phases.count("asking")


def decide(
    dialogue: Sequence[Message], candidate: str | None = None, *, budget: int = 8, advise_now: bool = False
) -> Decision:
    """Who answers the newest visitor turn; `candidate` is what the asking model would say, None before that."""
    return judge(read(dialogue), candidate, budget=budget, advise_now=advise_now)


def judge(now: Round, candidate: str | None = None, *, budget: int = 8, advise_now: bool = False) -> Decision:
    """The same of a round that has been read."""
    advised = "advising" in now.phases
    if advise_now or _requests_advice(now.newest, asking=bool(now.spoken) and not advised):
        return Decision("advising", "requested")
    if advised:
        return Decision("advising", "after_advice")
    if now.asked >= budget:
        return Decision("advising", "budget")
    opening: Reason = "new_complaint" if now.start and not now.spoken else "question"
    if candidate is None:
        return Decision("asking", opening)
    if not asks(candidate) or not re.search(r"\w", candidate):
        return Decision("advising", "not_question")
    if repeats(candidate, now.spoken):
        return Decision("advising", "repeat")
    return Decision("asking", opening)


def read(dialogue: Sequence[Message]) -> Round:
    """The current round. The work grows with the dialogue's length, and a long one takes a while: not on an event loop."""
    start, told, spoken, phases = None, _Told(), list[str](), list[Phase]()
    for index, message in enumerate(dialogue):
        text = plain(message.content)
        if message.role == "assistant":
            spoken.append(message.content)
            phases.append(_phase(message))
            if start is not None and phases[-1] == "advising":
                told.doctor(text)
        elif start is None or ("advising" in phases and _new_complaint(text, told)):
            start, told, spoken, phases = index, _Told(), [], []
            told.visitor(text)
        else:
            told.visitor(text)
    newest = next((m.content for m in reversed(dialogue) if m.role == "user"), "")
    return Round(start or 0, newest, tuple(spoken), tuple(phases))


def _phase(message: Message) -> Phase:
    """The phase of a doctor turn; a client of the API may have dropped it."""
    if message.phase is not None:
        return message.phase
    greets = len(message.content) <= 40 and _GREETING.search(message.content)
    return "asking" if greets or asks(message.content) else "advising"


def _requests_advice(text: str, *, asking: bool) -> bool:
    text = plain(text)
    return bool(_AT_ONCE.search(text) or _FOREIGN.search(text) or (asking and _BY_NOW.search(text)))


def _named(table: dict[str, str], text: str) -> set[str]:
    return {name for name, words in table.items() if re.search(words, text, re.IGNORECASE)}


def _runs(text: str) -> set[str]:
    runs = re.findall(r"[一-鿿]{3,}", text)
    return {run[i : i + 3] for run in runs for i in range(len(run) - 2)}


def _new_complaint(text: str, told: _Told) -> bool:
    """Whether a visitor turn after advice introduces another person, another organ or another matter."""
    text = _MEDICINE.sub("药", _ON_BEHALF.sub(r"\1", text))
    complains = bool(_COMPLAINT.search(text))
    organs = _named(_ORGANS, text)
    fresh = organs - told.organs
    if _SWITCH.search(text):
        return bool(fresh) or (complains and _other_person(text, told)) or not _about(text, told)
    linked = bool(_EFFECT.search(text) or _LINK.search(text))
    if complains and _other_person(text, told) and not _LINK.search(text):
        return True
    if linked or not complains or not fresh or fresh != organs:
        return False
    return bool(_BESIDES.search(text) or (_ONSET.search(text) and _BODY.search(text)))


def _other_person(text: str, told: _Told) -> bool:
    persons = {
        name for name, words in _PERSONS.items() if re.search(rf"(?:{words})(?!{_REPORTED})", text, re.IGNORECASE)
    }
    oneself = bool(told.persons) and bool(re.search(r"我(?:自己|本人)|我也(?!想|要|不)", text))
    return bool(persons - told.persons) or oneself


def _about(text: str, told: _Told) -> bool:
    """Whether the turn names something that was said before: three Han characters in a row, or a medicine at hand."""
    return told.names(text) or bool(_EFFECT.search(text) or _LINK.search(text) or _BACK.search(text))

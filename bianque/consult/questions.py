"""Whether a doctor's turn asks the patient for information, told by the sentence and not by a word list."""

from __future__ import annotations

import re

SHORT = 25  # characters an unmarked question may have
REQUEST = 80  # characters a request for a description may have

_FOLD = str.maketrans(
    "嗎麼麽沒幾還個時長問請講歲裡裏樣藥體溫這對說説訴後邊種嚴腫熱燒間開們給過會應該數現發醫師處認為爲題別讓結論經歷驗與無關係斷顏聽覺臟適點錯頭痠兒孫媽親國圖報單傷變區輕難號複雜實紅臉腦換壓減頸項齡擔廢話癢"
    "療採總產婦懷預約掛價錢車見誰從來隨幫詳細狀況飲飯議煩諮詢辦蓋爺寶貝暈嚨腳齒視聲鐘腸嘔瀉壞動運嬰濕膚塊痺氣癥歡訊釋讀緩繼續買賣貼塗當兩條極樓讚絡確麵夠決綜絕練鬆簡馬趕緊",
    "吗么么没几还个时长问请讲岁里里样药体温这对说说诉后边种严肿热烧间开们给过会应该数现发医师处认为为题别让结论经历验与无关系断颜听觉脏适点错头酸儿孙妈亲国图报单伤变区轻难号复杂实红脸脑换压减颈项龄担废话痒"
    "疗采总产妇怀预约挂价钱车见谁从来随帮详细状况饮饭议烦咨询办盖爷宝贝晕咙脚齿视声钟肠呕泻坏动运婴湿肤块痹气症欢讯释读缓继续买卖贴涂当两条极楼赞络确面够决综绝练松简马赶紧",
)

_END = re.compile(
    r"(?:[。！!？?；;]|\n)+[”’」』\"')）]*"
    r"|(?<=[一-鿿])\.+(?=\s|[一-鿿]|$)|(?<=[a-z]{2})\.(?=\s|$)"
    r"|(?<=[一-鿿])[ \u3000]+(?=[一-鿿])"  # a space between Han characters stands for a missing stop
    r"|(?<=[^噻哪]吗)(?:[，,]|(?=[一-鿿]))(?![啡叮丁洛替啉呀啊哈哦呢]|有|没有)"  # and so does 吗 with more behind it
)
_NUMBER = re.compile(r"^[\s\-*•·#]*(?:[（(]?\d{1,2}(?:[.、)）](?!\d)|\s+))?[\s*]*")
_MARK = re.compile(r"[?？]")

_MORE = r"(?:什么|啥|别的|其他的?|其它的?|任何|不?清楚|哪些|哪里|我能|我可以|想|要|需要|地方|方面|相关)"
_COURTESY = re.compile(
    rf"(?:有没有|是否|还有|有){_MORE}*(?:的)?(?:问题|疑问|疑惑|顾虑|不明白|不清楚|不懂|想问|要问|想了解|要了解|想咨询"
    rf"|要咨询|需要咨询|想知道)"
    r"(?:的地方|的问题|需要(?:我)?(?:帮助|解答|咨询|解决|了解|的)*|想(?:要)?(?:问|咨询|了解)|要(?:问|咨询)|可以帮|的"
    r"|没有|没|吗|么|呢|我)*(?:[，,](?:都)?(?:可以"
    r"|随时).{0,14})?$"
    r"|需要我?(?:的|来|再|为[您你]|帮[您你]|给[您你])*(?:更多|进一步|其他|什么|哪些)*(?:的)?(?:帮助|帮忙|推荐|介绍"
    r"|联系|挂号|解答|解释|协助|安排|预约)"
    r"|(?:可以|能)帮(?:助|到)?[您你](?:什么|些什么|做什么|做些什么)?(?:的)?(?:吗|呢)?$"
    r"|(?:^|[，, ：:])(?:但|可|其实|那|这样)*(?:[您你](?:看|觉得)?)?(?:这样|那)?(?:可以|好|行|好不好|行不行|可不可以"
    r"|好的|明白|知道|清楚|了解|懂|记住|记得"
    r"|听懂)了?(?:吗|么|吧|嘛)?$"
    r"|^(?:[您你]说)?(?:对|是|对不对|是不是)(?:吗|么|吧|嘛|呀)?$"
    r"|(?:anything else|any (?:other|more|further) questions?|does that help|ok(?:ay)?)$",
    re.IGNORECASE,
)

_PARTICLE = re.compile(r"(?:(?:[^哪噻]吗|[^那什这要怎多]么|嘛|没有|了没|过没|[^还]没|[^谢可客]不|否)[呀啊哈哦的]*|呢)$")
_FALSE_FINAL = re.compile(
    r"(?:才|还|正|着|可|都|多|好|所以|因为|建议|需要|考虑).{0,14}呢$|(?:的|了)呢$(?<!几天了呢)(?<!多久了呢)"
    r"|^(?:[嗯哦噢好对那还]|都|就|也|我|这|他|她|它|个人)*(?:是)?(?:没有|没|不|否)[的呀啊哦]*$"
    r"|(?:都|也|还|说|就|觉得|感觉|应该|可能|肯定|如果|要是|一般|目前|现在|暂时)没有?$"
)
WH = re.compile(
    r"多久|多长时间|多少|多大|多高|多重|几(?=天了|天干净|天一次|次[了啊呀]|岁|个月了|年了|周了|点|号|月份|度|级|胎"
    r"|[天次年回遍个]$)"
    r"|什么|啥|哪里|哪儿|哪些|哪个|哪种|哪边|哪方面|哪一|哪块|哪位|哪天|哪年|怎么|如何|怎样|咋"
)
_YES_NO = re.compile(
    r"有没有|有无|是不是|是否|能不能|会不会|可不可以|要不要|([一-鿿]{1,2})(?<![谢时动气])不\1|([一-鿿]{1,2})没\2"
    r"|[一-鿿]过.{0,6}没有?$"
    r"|(?<!不)是[^，,]{1,8}还是"
    r"|(?<=[一-鿿])(?<!最好)(?<!建议)(?<!应该)(?<!需要)(?<!考虑)(?<!可能)(?<!觉得)(?<!不过)(?<!所以)(?<!目前)(?<!现在)(?<!如果)(?<![你您我他她它这那也但就病])还是"
    r"(?=[^会要很可建比有没不得需应去挺能先尽考以用，,])"
)
# An interrogative in these places asks nothing: 没什么, 什么都, 过几天, 无论多久, 看看有没有, 多少会.
_IDLE = re.compile(
    r"(?:没有?|不是|不算|不用|无|不太|不|并)(?:有)?(?:什么|啥|怎么|多少|多大|多久|几)|什么都|什么也|怎么都|怎么也|任何"
    r"|多少(?:都|会|有[点些]|也)|什么的$|什么之类"
    r"|(?:为|说|干)什么(?!.{0,8}$)|如何(?:治疗|预防|处理|护理|调理|应对|选择|判断|避免)|怎么(?:会|可能|能)|(?:一|百"
    r"|十)多"
)
_LED = re.compile(  # ... nor behind a verb that takes the question as its object
    r"(?:无论|不管|不论|随便|多么|看|看看|看下|看一下|查|查查|明确|排除|判断|确定|确认|搞清|弄清|清楚|知道|取决于|根据"
    r"|决定|观察|注意|留意|评估|检查|了解|咨询|检验|化验|关键是|主要是?看"
    r"|[不没]知道?)(?:一下|医生)?[^，,]{0,8}$"
)
# Some questions stay questions even when a patient writer ended them with 。
_STOPPED = re.compile(
    r"(?:[^哪噻先]吗|多久了?|多长时间了?|[^过]几天了|多大了?|^(?:您好|你好|请问|[，,]|现在|[您你])*(?:是否|有没有"
    r"|有无)[^是]{1,9})$"
)
_MOOT = re.compile(  # ... nor before a verdict on it: 吃什么都行, 多久吃一次要看说明书
    r"^.{0,8}(?:都|也)(?:要|得|行|可以|能|没|会|不|是)|没关系|无关|要看|取决|因人而异|不一定|不好说|说不准"
    r"|怎么.{1,4}怎么|方便怎么|怎么.{0,2}$(?<=怎么来)|什么.{1,4}什么"
)
_WELCOME = re.compile(r"什么[^，,]{0,10}(?:再|随时|来|联系|咨询|找)[^，,]{0,4}(?:问|找|我|咨询)|的话")

_TELL = re.compile(
    r"(?<![邀申])请(?!教|注意|放心|随时|及时|务必|遵|按|相信|记住|记得|根据|在|尽快|尽早|立即|就|继续|保持|避免|咨询"
    r"|与|向|于|前往|到|去|使用|医生|假|坚持|参考|不要|勿|谅|理解"
    r"|允许|确保|提前|仔细|求|对方|负责|他|她)"
    r"[^，,]{0,12}(?:描述|提供|说明|说一下|说下|说说|讲一下|讲讲|补充|回答|告知|介绍|列出)"
    r"|请[^。]{0,24}(?:告诉|告知)我(?!们?的(?:是|信息))|(?:^|[，,])(?:[你您]|可以|能|先|再|那|现在|麻烦|试着)*(?:详细"
    r"|具体)?地?(?:告诉|告知)我(?!们)"
    r"|(?:详细|具体)(?:地|的)?(?:说|讲|描述)(?:一?下|说|讲|一说)"
    r"|(?:描述|说|介绍|补充|讲)一?下(?:自己的|[您你]的?|具体的?|现在的?|目前的?|孩子的?)*(?:症状|情况|病情|病史|感受"
    r"|问题|表现)"
    r"|^(?!如果|建议|可能|有可能).{0,14}(?:发给?我|发来|发过来|拍[给照]|传给?我|发上来|传过来|上传).{0,8}$"
    r"|^(?:please )?(?:tell me|describe)",
    re.IGNORECASE,
)
_NOT_TELL = re.compile(
    r"(?:告诉|告知)(?:[您你]的?|当地的?|主治)*(?:医生|医师|大夫|药师|医护|医务|护士|他|她|孩子|家人|自己|对方|父母)"
    r"|(?:向|给|与|跟|和)(?:专业|专科|[您你]的?|主治|面诊|家庭|当地)*(?:的)?(?:医生|医师|大夫|药师|医护|咨询师|专家)"
    r"|(?:根据|感谢|谢谢|按照|基于|从|由于|因为|正如)[您你]?(?:的|所|能)*(?:提供|描述|告诉|补充|回答|说明)"
    r"|有(?!其[他它](?:伴随|的?症状))(?:什么|任何|更多|新的|进一步|不|需要|问题|疑问|变化|进展|异常|好转|加重|想"
    r"|[^，,]{0,14}(?:问题|疑问|帮助|需要|担忧|困惑|变化"
    r"|进展))[^。]{0,24}告[诉知]我"
    r"|(?:疑问|问题|帮助|需要|担忧|变化|不适|加重|缓解|好转)[^。]{0,12}告[诉知]我|(?:疑问|问题)，我会"
    r"|(?:我|我们|可以|能够?|会)(?:会|将|可以|能)?(?:为|给|向|帮)(?:[您你]|患者)(?:详细|具体)?(?:提供|描述|说明|介绍)"
    r"|随时|务必|[来后再]告[诉知]我"
)
# News of an examination still to come is an appointment, not a question.
_LATER = re.compile(
    r"(?:做完|完成|进行|去做|去检查|安排|预约|医院|一旦|等[您你]|收到|拿到|下次|之后|以后|结果后|记得"
    r"|后，?将).{0,40}(?:告[诉知]|提供|反馈)|建议[您你]|[您你]可以(?:去|试|尝试|到)"
)
_ALREADY = re.compile(r"过|已经|之前|曾经")


def plain(text: str) -> str:
    """The text with the common traditional characters of consultations written in simplified script."""
    return text.translate(_FOLD)


def sentences(text: str) -> list[str]:
    """The sentences of a turn, each with its own final punctuation."""
    found, start = [], 0
    for end in _END.finditer(text):
        found.append(text[start : end.end()])
        start = end.end()
    found.append(text[start:])
    return [s.strip() for s in found if s.strip()]


def _is_question(sentence: str) -> bool:
    body = _NUMBER.sub("", plain(sentence)).strip()
    core = body.strip("。！!？?；;.…~～ 　\n”’」』\"')）（(“‘，,、：:")
    if _MARK.search(body):
        return not (core and _COURTESY.search(core))
    if _requests(core):
        return True
    if body.endswith(("。", ".")):
        return len(core) <= SHORT and bool(_STOPPED.search(core)) and not _idle(core)
    return not body.endswith(("：", ":", "！", "!", "；", ";")) and _asks_unmarked(core)


def _idle(core: str) -> bool:
    return bool(_COURTESY.search(core) or _WELCOME.search(core) or _LED.search(core[:-1]) or _IDLE.search(core))


def _asks_unmarked(core: str) -> bool:
    """A short sentence without a stop that ends in a question particle or holds an interrogative."""
    if not core or len(core) > SHORT or _COURTESY.search(core) or _WELCOME.search(core):
        return False
    if _PARTICLE.search(core) and not _FALSE_FINAL.search(core):
        return True
    for found in (*_YES_NO.finditer(core), *WH.finditer(core)):
        around, after = core[max(0, found.start() - 3) : found.end() + 3], core[found.start() :]
        if not (
            _IDLE.search(around)
            or _IDLE.match(core, found.start())
            or _LED.search(core[: found.start()])
            or _MOOT.search(after)
        ):
            return True
    return False


def _requests(core: str) -> bool:
    """A request that the patient describe or hand over something, addressed to nobody else."""
    later = _LATER.search(core) and not _ALREADY.search(core)
    return len(core) <= REQUEST and bool(_TELL.search(core)) and not _NOT_TELL.search(core) and not later


def questions(text: str) -> list[str]:
    """The sentences of a doctor's turn that ask the patient for information."""
    return [sentence for sentence in sentences(text) if _is_question(sentence)]


def asks(text: str) -> bool:
    """True if the doctor's turn asks the patient for information: the definition behind question_rate."""
    return any(_is_question(sentence) for sentence in sentences(text))

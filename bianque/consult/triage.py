"""Red-flag notices: rules over the newest patient turn that run before any model and depend on none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

Level = Literal["emergency", "crisis"]

LABEL = "内容由人工智能生成，仅供参考"
DISCLAIMER = "不能替代医生诊疗，不开具处方"
_EMERGENCY = (
    "您描述的情况可能需要紧急救治。请立即拨打 120 或前往最近的急诊，不要等待本系统回复，不要自行驾车。（识别到：{sign}）"
    " (This may be an emergency: call 120 in mainland China or your local emergency number now; do not wait for a reply here.)"
)
_CRISIS = (
    "听起来您现在非常难受，您的安全最重要。请现在就联系身边可信任的人，或拨打 12356 心理援助热线；"
    "如已受伤、服药或处境危险，请立即拨打 120 或 110。"
    " (Your safety comes first: reach someone you trust now, or in mainland China call 12356 to talk, 120 or 110 in danger.)"
)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a visitor is told at once; `sign` is the short name of what was recognised."""

    level: Level
    text: str
    sign: str


@dataclass(frozen=True, slots=True)
class _Rule:
    sign: str
    needs: tuple[str, ...]
    unless: str

    def met(self, text: str) -> bool:
        """Whether every need is found near one match of the first, and the excuse is not."""
        first, *others = self.needs
        for match in _gapped(first).finditer(text):
            near = text[max(0, match.start() - 80) : match.end() + 120]
            excused = self.unless and _gapped(self.unless).search(near)
            if not excused and all(_gapped(need).search(near) for need in others):
                return True
        return False


@cache
def _re(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile at first use: all patterns at once would hold up every start by a seventh of a second."""
    return re.compile(pattern, flags)


@cache
def _gapped(pattern: str) -> re.Pattern[str]:
    """Compile with gaps: `_` within a clause, `~` within a sentence, `@` for English; none crosses a cancelled span (#)."""
    gaps = {"_": "(?:[^，。？#]{0,8}?)", "~": "(?:[^。？#]{0,16}?)", "@": "(?:[^。？#]{0,40}?)"}
    return _re(re.sub("[_~@]", lambda m: gaps[m[0]], pattern), re.ASCII)


def _rule(sign: str, *needs: str, unless: str = "") -> _Rule:
    return _Rule(sign, needs, unless)


# Reading: one script, one width, one clause mark.

_SIMPLE = str.maketrans(
    "殺樓遺書輕結離開腦無沒嗎麼臉頭說話講脣過氣農藥嬰兒個發髮燒懷劇後邊體動齒點壓緊悶痠暈觸電車禍斷燙傷誤鈕嘔噴腫嚨嗆熱週歲紅產帶蟲樣來這們對為會時間舉陰視覺聽見關難婦寶貝媽爺親現請問幾從還讓給當場總獨憂鬱續繼癲癇癥顫衛濕濃淚"
    "裡裏張陽臺橋絕滅傾訴劃膚顏麵掛號費價錢醫師檢應該實際風癱溫頸兩隻條塊進門鎖藍絞腸處與將別嚇壞運輸濺鹼廁靈側絲幫長經歷認識輪駕駛隱約擔負歡語腳膽腎臟啞癢擠掙紮終於復興業課學藝閱戲蘋買賣飯鮮魚蝦蠍軟強裝燈煙薑參覆飛幹樹圍墜樑"
    "嚥瘡瘋鬧殘傳濟獄闆鐵軌繩準備顆錠閥針創縫紗瀉猶蠟擊爐驚慘窮繳邁確擾攤豎蕁塗檯嗚歐鬆聾懸懼減壽債戀愛異線麽徵狀鑽漲脹墊撐鍵灑蓋滾囪髒攪歸謝論審訊編輯報導雞鴨罵戰鬥韌膿潰瘍驟蘇搶護撥儘諮詢躍縱蹤衝溝淵潑倉庫貓陳層圖貼碼糧兇險"
    "痙攣術態況節貫緩縮顱內鉤蟄膠飲漿湯輛擁縣隊齡滿樂掃膩癒鬍鬚夠噁變窩",
    "杀楼遗书轻结离开脑无没吗么脸头说话讲唇过气农药婴儿个发发烧怀剧后边体动齿点压紧闷酸晕触电车祸断烫伤误纽呕喷肿咙呛热周岁红产带虫样来这们对为会时间举阴视觉听见关难妇宝贝妈爷亲现请问几从还让给当场总独忧郁续继癫痫症颤卫湿浓泪"
    "里里张阳台桥绝灭倾诉划肤颜面挂号费价钱医师检应该实际风瘫温颈两只条块进门锁蓝绞肠处与将别吓坏运输溅碱厕灵侧丝帮长经历认识轮驾驶隐约担负欢语脚胆肾脏哑痒挤挣扎终于复兴业课学艺阅戏苹买卖饭鲜鱼虾蝎软强装灯烟姜参复飞干树围坠梁"
    "咽疮疯闹残传济狱板铁轨绳准备颗锭阀针创缝纱泻犹蜡击炉惊惨穷缴迈确扰摊竖荨涂台呜欧松聋悬惧减寿债恋爱异线么征状钻涨胀垫撑键洒盖滚囱脏搅归谢论审讯编辑报导鸡鸭骂战斗韧脓溃疡骤苏抢护拨尽咨询跃纵踪冲沟渊泼仓库猫陈层图贴码粮凶险"
    "痉挛术态况节贯缓缩颅内钩蛰胶饮浆汤辆拥县队龄满乐扫腻愈胡须够恶变窝",
)
_HIDDEN = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe0e\ufe0f\ufeff]"
_SPELT_OUT = r"(?<![一-鿿])[一-鿿](?:[\s.·•*_/|~+,，。、-]{1,3}[一-鿿](?![一-鿿])){2,}"
_INSIDE_WORD = r"(?<=[一-鿿])[\s.·•*_/|~+^=#-]+(?=[一-鿿])"
_STOP = r"(?<!\d)[.;!]|[.;!](?!\d)|[\n\r]"
_PAUSE = r"(?<!\d)[,:]|[,:](?!\d)|(?<=[一-鿿])\s+(?=[一-鿿])"


def _fold(text: str) -> str:
    """Lower-case NFKC in simplified characters, with letters that were spelt out one by one joined again."""
    text = _re(_HIDDEN).sub("", unicodedata.normalize("NFKC", text)).lower().translate(_SIMPLE).replace("’", "'")
    return _re(_SPELT_OUT).sub(lambda m: re.sub(r"[^一-鿿]", "", m[0]), text)


def _punctuate(text: str) -> str:
    return _re(_PAUSE).sub("，", _re(_STOP).sub("。", text)).replace("?", "？")


# Context: what is denied, past, supposed or only asked about is blanked before the rules look.

_CONTRAST = (
    r"但是?|可是|不过(?![气来])|只是|就是|而是|却|反而|结果|突然|突发|忽然|现在|今[天早晚]|刚[才刚]"
    r"|\b(?:but|however|although|suddenly|now|yet|just)\b"
)
_CLAUSE = rf"([，。？]|{_CONTRAST})"
_BODILY = (
    r"呼吸(?!困难|急|不|费)|气[了，。]|意识(?!到)|反应|脉|心跳|知觉|[力劲用效好停缓吃喝睡退止消醒说哭人钱]|感觉|胎动|动静|尿|办法|血色|声音|出声"
    r"|什么?反应|任何?反应|任何意义|意义|意思|勇气|告诉|想到|活|我|退路|盼头|希望"
)
_DENIED = (
    rf"(?<!有)(?<!不是)没有(?!了?(?:{_BODILY}))"
    r"|(?<!不是)没(?=什么(?!反应|用|意)|啥|任何(?!反应)|出现|再|发[烧热作]|吐|喘|出[血汗]|流|晕|昏|抽|胸|头|[疼痛]|咳|呕|拉|便|肿|过敏"
    r"|受伤|摔|触|中[毒风]|嘴|碰|吃过|喝过|误|被|得过|自[杀残伤]|轻生|想过|[^，。]{0,6}(?:念头|想法|打算|倾向))"
    rf"|(?<![有毫])无(?!{_BODILY}|[法意故缘论声助])|否认|未(?![满足熟缓好止愈清醒婚煮成停见退到消来知必遂])"
    r"|(?<!不能)(?<![没未先])(?<!无法)排除(?!不)|(?<!是)不是(?!故意|开玩笑|想吓)|并非|(?<!会)不会(?![说动走笑哭吃喝吸认醒呼叫])|不算|不像|不觉得"
    r"|(?<!有)从来?[没不](?!这|那|有这|有过?这)|(?:千万|可)?别(?=自杀|轻生|跳楼|割腕)"
    r"|\b(?:no(?! (?:pulse|breath|reason|longer|response|one|point|way|hope|will))"
    r"|not(?! (?:breath|respond|wak|mov|fad|blanch|stop|conscious|able|want|going to|only|sure|worth|feel))"
    r"|without|den(?:y|ies|ied)|never|ruled out|isn't|wasn't|don't have|doesn't have|haven't had|hasn't had)\b"
)
_SUPPOSED = (
    r"会不会(?![是死有])|会(?:引起|导致|造成|出现|发生|增加)|可能(?:会|引起|导致|出现|造成)|容易(?:引起|导致|出现)|是否会|说明书|副作用|不良反应"
    r"|担心|害怕|生怕|[就只]怕|怕(?=孩子|宝宝|老人|家人|[他她](?!是))|预防|防止|避免|以防|以免|如果|万一|假如|要是|假设|听说|据说|听讲|新闻|电视[里上剧]|电影|小说|视频里|怎么[^，。]{0,4}才"
    r"|(?<![就都还才社机学一不])会(?=[^，。？#]{1,14}(?:吗|么|嘛|？))|\bif\b|\bside effects?\b|\b(?:can|does|could|will) \w+(?: \w+)? cause\b"
)
_SMALL_NO = (  # a bare 不 denies the next word only
    r"(?<![得要])不(?:怎么|太|再|大)?(?:发烧|发热|烧|喘(?!气)|疼|痛|胸[闷痛]|憋|吐|头?晕|发?麻|抽|出血|流血|流|咳|呕|恶心|发紫|出汗|冒汗|头[疼痛]|气[促短喘]|心慌|肿|拉|便血)"
)
# Examples and additions stay in the scope of what they belong to.
_LISTED = r"，(?=比如|例如|譬如|诸如|包括|也没有?|也无|以及|或者?)"
_SCOPE_DENIED = f"(?s:(?:{_DENIED}).*)"
_SCOPE_ANY = f"(?s:(?:{_DENIED}|{_SUPPOSED}).*)"

_PAST = (
    r"小时候|[年月]前|去年|前年|前[几两]年|那几年|那段时间|(?<![饭睡])以前(?!从|没|都没|也没|不)|曾|既往|从前|当年|早年|年轻的?时候|上次|上回|上一胎|头胎|病史|家族|去世|过世|死于|遗传"
    r"|(?:抽|晕|昏|惊厥|中风|发作|出血|自杀|轻生|割腕|自残|触电|溺水|中毒|休克)过(?![去来])|(?:19|20)\d\d年|\b(?:years? ago|last year|used to|history of|as a child|died of)\b"
)
_NOW = r"现在(?!.{0,6}(?:恢复|好|没|稳定|康复|不))|刚|今[天早晚]|此刻|目前又|这次|又|正在|昨|\bnow\b|\btoday\b"
_CLOSED = r"恢复|后遗症|康复|去世|过世|走了|走的|遗传|复查|复发|治好|痊愈|出院|好[了多转]|没再?[犯发]|没事|稳定|走出来|想[通开]了|成年|长大"
_MENDED = r"(?:现在|如今|目前|后来)[^。？]{0,8}(?:好多了|好转|好起来|恢复|康复|走出来|想[通开]了|不想了|没事了)"
_QUIZ = (
    r"科普|了解一?下|想了解|学习一?下|学一下|考试|考题|论文|作业|课件|讲座|培训|小说|剧本|电影|电视剧|新闻|什么是|(?:怎么|如何|怎样)(?:才能)?(?:预防|避免|防止)"
    r"|预防自杀|区别|原理|机制|急救知识|为什么叫|(?:症状|前兆|先兆|表现|征兆|信号|副作用|不良反应)(?:一般|通常|主要|都|大概)*(?:有|是|包括)(?:哪|什么|啥)"
    r"|有(?:哪些|什么|啥)(?:早期|典型|常见|主要|明显)*的?(?:症状|前兆|先兆|表现|征兆|信号|副作用|不良反应|危害)"
    r"|(?<![子宝人我他她])的(?:早期|典型|常见)?(?:症状|表现|前兆|征兆)(?:都|一般|通常)?(?:是|有|包括|会)"
    r"|(?:患者|病人|的人|人们|青少年)[^，。]{0,6}(?:为什么|为何)|(?:自杀|死亡|致死|发病)率|合法吗"
    r"|\bwhat (?:are|is)\b.{0,60}?\b(?:symptom|sign|stroke|side effect|anaphyl|heart)|\bwhat causes\b|\bhow (?:to|do i|can i) prevent\b|\bdefinition\b"
)
_OWN = (
    r"[我咱俺](?:家|们)?的?(?:爸|妈|爷|奶|外|老|儿|女|孩|宝|娃|哥|姐|弟|妹|朋友|同[事学]|胸|头|[左右]|也|就?[想要]死|不想活)"
    r"|(?<!会)突然|刚[才刚]|今[天早晚]|正在|我现在|\b(?:i|my) (?:am|have|feel|just|\w+ (?:is|has|was))\b"
)


def _blank(text: str) -> str:
    return "#" * len(text)


def _without_quiz(text: str) -> str:
    """Blank the sentences that ask for knowledge and show nobody ill; when nobody is ill anywhere, blank it all."""
    if _re(_QUIZ).search(text) and not _re(_OWN).search(text):
        return _blank(text)
    parts = re.split(r"(?<=[。？])", text)
    return "".join(_blank(part) if _re(_QUIZ).search(part) and not _re(_OWN).search(part) else part for part in parts)


def _without_past(text: str) -> str:
    """Blank clauses set in the past, and those after them up to the present when the story is closed."""
    if not _re(_PAST).search(text):
        return text
    closed, past, kept = bool(_re(_CLOSED).search(text)), False, []
    for clause in re.split(r"(?<=[，。？])", text):
        now = bool(_re(_NOW).search(clause))
        past = not now and (bool(_re(_PAST).search(clause)) or (past and closed))
        kept.append(_blank(clause) if past else clause)
    return "".join(kept)


def _without(scope: str, text: str) -> str:
    """Blank from each word of denial to the end of its clause."""
    clauses = _re(_CLAUSE).split(_re(_LISTED).sub("、", text))
    return "".join(_re(scope).sub(lambda m: _blank(m[0]), clause) for clause in clauses)


# Crisis: a wish is believed whatever else is denied; an act, plan or topic may be past, denied or only asked about.

_KIN = "[孙儿女老妈爸爷奶姥宝家姐哥弟妹]"
_IDIOM = (
    rf"想死(?:我[了啦吧]|[你您它]|[他她](?:了|啦|们了)|大家|{_KIN}|[磕扛撑守记])|[热困饿馋丑冷笑羞糗尬][得到的]{{1,2}}(?:都|我|真)*(?:想死|不想活)|不想活[动跃血检成得]|死海"
    r"|紫砂(?=[壶锅杯煲茶罐盆泥养陶])|跳楼[机价]|跳楼大|细胞自杀|自杀(?:式|细胞|基因|干预|率|热线|倾向是什么)|不作死|作死|求死不"
)
_KILL = r"自殺|自杀|自[鲨刹沙尽缢]|紫[砂沙鲨]|轻生|zi ?sha\b|自s\b|寻短见|寻死|suicid(?:e|al)"
_JUMP = r"跳(?:下去|楼|河|江|海|桥|轨|井|崖)"
_HURT = r"自残|自伤|自虐|(?:(?<!对方)(?<!别人)(?<!他人)伤害|弄伤|(?<![规计策筹谋])[划割烫扎捅砍])自己|割腕|割脉|划手腕|把手腕_割|割了_手腕"
_POISON = (
    r"农药|百草枯|敌敌畏|敌草快|除草剂|杀虫[剂水]|鼠药|鼠强|洁厕|84|消毒[液水]|漂白|硫酸|盐酸|烧碱|强[酸碱]|草酸|甲醇|工业酒精|假酒|汽油|柴油|煤油|防冻液"
    r"|蟑螂药|有机磷|氰|砒霜|水银|管道疏通|去污|洗衣[凝液]|洗洁精|花露水|风油精|香水|洗甲水|指甲油|染发|干燥剂|脱毛膏|油漆|清洁剂|香蕉水|松节油|石灰|干冰|毒药|灭蚊"
)
# fmt: off
_WISHES = (
    _rule("轻生念头", r"(?<!没有)(?<!没)(?<!不是)不(?:怎么|太|是很)?想(?:再|继续|接着)?活(?![动跃血检成得])|(?<!花)活不下去|活够|活腻|死_是_(?:出路|解脱|办法|选择)|要不是~早就?_死了|不想_见_明天|(?:永远|再也)[别不]_醒|不如_死|不如早点走"
        r"|不配活"),
    _rule("轻生念头", r"(?<![不没别])(?<!不[是要])(?<!没有)(?<!并不)想(?:要)?(?:去)?(?:死|4了?(?=[，。？]|$)|亖|s(?![a-z])|si\b|屎了|鼠(?!标))|想[嘎噶]了?(?!腰)|一死了之|死了算|生不如死"),
    _rule("轻生念头", r"死了(?:才|就|更|会|是不是|反而|是|也)*(?:好|解脱|清净|清静|干净|轻松|不[痛疼累难]|没人|一了)|勇气(?:自杀|去?死)|一了百了|早死早|(?:等|求|盼着)死(?:[了吧，。？]|$)"),
    _rule("轻生念头", r"活(?:着|下去|在世上)_(?:没|没有|无|毫无|失去)_(?:意思|意义|希望|劲|必要|奔头|盼头|价值|动力|理由)|不想再?撑|结束_一切|活着_(?:[好太真]累|遭罪|痛苦|煎熬|折磨|受罪|多余|为了什么|干什么|干嘛)"),
    _rule("轻生念头", r"没有?_活(?:下去|着)的_(?:勇气|动力|理由|意义|念头|希望|必要)|(?<!不)(?:想|要|好想|准备)_(?:离开|告别)_(?:世界|人世|人间)|再见了?_世界|(?:来生|下辈子|来世)_(?:再见|见|再|做)"),
    _rule("轻生念头", r"(?:不想|不要|别|不用|永远不|再也不|别再让我)_醒(?:来|过来|了)|(?:永远|一直|就这样|就这么)_(?:睡过去|睡下去|长眠|沉睡)|睡过去_(?:不醒|别醒|算了)|一睡不[醒起]|(?:希望|要是|如果|真想|能)~(?:醒不_来|不_醒)"),
    _rule("轻生念头", r"想_(?:从_)?(?:消失|不存在)(?:[了吧算就，。？]|$)|[想求]_解脱(?:[了吧算，。？]|$)|没有?我_(?:更好|会好|就好|轻松|过得)|(?:真的|快要?|实在|已经)_[撑熬]不下去(?!.{0,6}(?:减肥|节食|训练))|人间不值得"),
    _rule("轻生念头", r"(?:活着|我|自己)_(?:拖累|累赘|负担|多余)~(?:死|走|消失|不在)|(?<!不)想(?:早点走|就?这[样么]走|走了(?=[，。？]|$))|想_(?:安乐死|重开)|我(?:要是)?死了_(?:会|他|她|谁|大家|孩子|就)|我走了_(?:你们|他们|大家"
        r"|家里)|想~死掉(?!的)|(?<![你他它])(?:就|要|只想|真想)去死|bu ?xiang ?huo|xiang ?si\b"),
    _rule("轻生念头", r"\b(?:wants?|wanna|wish|going|ready|rather|hope|just)\b.{0,14}\b(?:die|be dead|was dead|were dead|end my life|end it all|not wake up"
        r"|disappear forever)\b|\b(?:don't|do not|dont|doesn't|no longer) (?:really )?(?:want to|wanna) (?:live|be alive|exist|wake up|be here any)"),
    _rule("轻生念头", r"\bend(?:ing)? it all\b|\bkill(?:ing)? (?:my|him|her|them|our)self|\bkms\b|\b(?:end|ending|take|taking) (?:my|his|her|their) (?:own )?life"
        r"|\bbetter off (?:dead|without me)|\b(?:no|any) (?:reason|point) (?:to live|(?:in )?living)|\btired of (?:living|being alive)|\bnothing to live for"
        r"|\blife is(?:n't| not) worth"),
    _rule("轻生念头", r"[要想]_[跟随陪]着?[他她爸妈老]?_(?:去|走)了?(?=[，。？]|$)", r"去世|过世|走了|没了|死"),
    _rule("询问死亡方法", r"(?:不|没有?|无)_(?:痛苦|痛|疼|难受)_(?:死(?!了)|自杀|离开)(?![于因机])|(?:无痛|不痛苦|没有痛苦)_(?:结束|了结)", unless=r"[狗猫鱼花虫鼠]|死[皮角]|胎死"),
    _rule("要求伤害自己的声音", r"(?:声音|耳边|耳朵里|幻听)~(?:叫|让|命令|要|喊|催|劝|说)_(?:去死|死|跳|杀|伤害|割|自残)"),
    _rule("带家人轻生的想法", r"[想要]_[和跟]_(?:孩子|娃|宝宝|他|她|爸|妈)_一[起块]_(?:死|走(?=[，。？]|$))|[带抱拉领]_(?:孩子|娃|宝宝|儿子|女儿|闺女|全家|他们|她|他|你)_(?:一起|一块|一同)?_(?:走了?(?=[，。？的]|$)|死|[跳]|离开)"
        r"|同归于尽"),
)
_ACTS = (
    _rule("自杀", _KILL, unless=r"(?:增加|引起|导致|诱发)_自杀"),
    _rule("自伤", _HURT, unless=r"不小心|切菜|做饭|削|干活|疤_(?:祛|去|淡|修复)|医保"),
    _rule("自伤", r"(?:用|拿|拿着)_(?:刀|刀片|玻璃|烟头|圆规|剪刀|针)_(?:[划割烫扎戳刺]了?)_(?:自己|手[腕臂]|手$|胳膊|大?腿)", unless=r"不小心|切|做饭|削|干活|修|剪指甲|刮毛|挑"),
    _rule("自伤", r"(?:手腕|手臂|胳膊|大腿|手上)_(?:一[道条]|全是|好多|很多|都是|新的?|密密麻麻)_(?:刀痕|刀疤|割痕|划痕|划的|割的|刀口|口子|伤痕)", unless=r"[猫狗抓]|荨麻疹|树枝|摔|被(?!自己|[他她]自己)"),
    _rule("自杀计划", rf"{_JUMP}(?![机价绳])", r"想|要(?!求|求)|准备|打算|冲动|站在|坐在|说|怕|控制不住|命令|不如|闹", unless=r"恐高|跳(?:河|江|海|井)?救人|游泳|蹦极|跳水"),
    _rule("自杀计划", r"(?:楼顶|天台|桥[上边]|窗[台边户]|江边|河边|铁轨|阳台|悬崖|海边)~(?:想|要不要|准备|打算|冲动|就要)_(?:跳|下去|结束|走下去|死)"),
    _rule("自杀计划", r"(?:结束|了结|终结|放弃)_(?:生命|性命|这条命|(?:自己|我)的?一生|这一切|我的一切|我自己)|遗书|(?:后事|身后事)_(?:安排|交代|准备)|死法|卧轨|致死[剂量]|多少_致死|[弄勒掐毒淹撞打捅]死自己|(?:自我|早点|想_)了断|上吊(?!一样|似)"
        r"|自挂|吞枪|开煤气自|烧炭自|(?:打算|准备|想要?)_烧炭(?!_(?:烤|取暖|火锅))"),
    _rule("自杀计划", r"(?:怎么|怎样|如何|什么_方法|什么_办法|哪种方法)_(?:死|去死|离开世界|自我了断)(?![于因机])_(?:快|不痛|不疼|痛苦|好|才|最|没|容易|不被)", unless=r"胃镜|肠镜|分娩|拔牙|人流|[狗猫鱼花虫鼠]"),
    _rule("自杀计划", r"(?:吃|喝|吞|服)_(?:多少|几)(?:[片颗粒瓶克口]|毫升)?_(?:安眠药|安定|药|农药|地西泮|佐匹克隆)?_(?:会死|能死|才死|才能死|致死|致命|死人|就死|走了)|(?:吃|喝)_(?:什么|啥|哪种)_[会能就]死|(?:怎么|如何|怎样)_能_(?:快"
        r"|马上|早)_死|(?:吃|喝)_(?:就?能|可以)死(?:的|得|掉|吗)?_(?:药|东西)?(?=[，。？]|$)", unless=r"误|不小心|[狗猫]|孩子吃|宝宝吃"),
    _rule("自杀计划", r"(?:攒|囤|藏|存|准备|买)了?_(?:安眠药|安定|一瓶药|很多药|几十[片颗粒]|农药|百草枯|敌敌畏|氰化|毒药|炭|绳子|刀片)~(?:吃下|吃完|吃掉|全部|全吃|吞|喝下|上吊|结束|解脱|死|走)"),
    _rule("已过量服药或服毒", r"(?:吞|吃|喝|服)[了下完]?_(?:整|一|两|半|好几|几)(?:整|大)?[瓶盒板把]_(?:安眠|安定|地西泮|佐匹克隆|艾司唑仑|抗抑郁|褪黑素|止痛|药)|(?:吞|吃|喝|服)[了下]?_(?:\d{2,}"
        r"|[一二两三四五六七八九几]?[十百]多?)[片颗粒]_(?:安眠|安定|地西泮|佐匹克隆|艾司唑仑)", unless=rf"误|孩子|宝宝|小孩|娃|岁|偷|不小心|拿错|以为|当成|疗程|没好|没效|好转|效果|避孕|感冒|降[压糖脂]|{_POISON}"),
    _rule("已过量服药或服毒", r"(?:安眠药|安定|地西泮|佐匹克隆|抗抑郁药|药)_(?:全部?|都|一次|整瓶|一口气|一把)_(?:吃|吞|喝)(?:下|了|完|光|掉)|吞了?_安眠药",
        unless=r"误|孩子|宝宝|小孩|娃|岁|偷|不小心|疗程|效|没好|按时|医嘱|[早晚]饭|降[压糖脂]|感冒|避孕|忘|管用|作用"),
    _rule("已过量服药或服毒", rf"(?:吞|吃|喝|服)[了下]?_(?:{_POISON}|安眠药)", r"吵架|吵了|赌气|想不开|故意|闹别扭|分手|离婚|不想", unless=r"误|不小心"),
    _rule("自杀风险", r"(?:怕|担心|一时|千万别|会不会)_想不开|想不开_(?:要|去|喝|吃|跳|割)|(?:绳子|煤气|炭|刀)~(?:今晚|现在|不再)_(?:上吊|醒|解脱|结束)"),
    _rule("自伤", r"\bself[- ]?harm|\bcut(?:ting)? (?:my|her|him)self(?! (?:shaving|cooking|on|while|by))|\bslit (?:my|her|his) wrist|\bhang(?:ing)? (?:my|him"
        r"|her)self|\b(?:hurt|hurting|harm|harming|injure) (?:my|her|him)self(?! (?:play|at|while|run|lift))"),
    _rule("自杀计划", r"\bjump(?:ing)? off (?:a|the|this|my)|\b(?:goodbye|suicide) (?:note|letter)|\boverdose (?:on purpose|myself)|\b(?:took|taken|swallowed) (?:a"
        r"|the) (?:whole|entire) bottle of (?:pill|sleep)|\b(?:how many|painless).{0,30}\b(?:to die|way to die)\b",
        unless=r"my (?:kid|son|daughter|toddler|baby|child)|bungee"),
)
# fmt: on

# Emergencies: words for parts and qualities, then one line a sign.

_CHEST = r"胸(?:口|部|前区?|骨后?|中间|腔)?[^，。？#脯罩]{0,8}?(?:[疼痛闷压憋堵]|发紧|勒|揪)|(?:心口|心前区|心脏|心窝|心里)_(?:[疼痛绞闷压]|发紧|揪)|心绞痛|胸闷"
_SWEAT = r"(?<!盗)汗(?![腺斑疹毛蒸])"
_RADIATE = r"(?:左[侧边]?(?:手|臂|肩|半|小指|上肢)|胳膊|手臂|[左右]手|肩|后背|背[上部心]|下巴|下颌|牙|脖子|咽)_(?:麻|[疼痛酸]|放射|[串窜]|也|抬不)|(?:[疼痛][到得]|[串窜]到|放射|牵扯?到|连着|扯着)_(?:左|胳膊|臂|肩|背|下巴|牙|脖子|手)"
_CHEST_SEVERE = r"压榨|像?压[着了]_(?:石|砖|山|千斤)|攥|撕裂|撕开|刀割|(?<!心)绞痛|剧[痛烈]|濒死|快?要死|[疼痛]得_(?:厉害|受不了|打滚|直不起|冒汗|说不出)|硝酸甘油|救心丸|半个?小时|不缓解"
_BREATHLESS = r"[喘透上]_不_[上过]来?_气|[喘透吸]不[上过]来?气?|喘不来气|上不来气|呼吸(?:不上来|不过来|不了|不畅)|(?:无法|不能|没法)呼吸|呼吸_(?:困难|费力|费劲|急促|衰竭)|气促|窒息|要?憋死"
_AIRWAY = rf"(?:喉咙?|嗓子|咽喉|喉头|气管)_(?:发紧|紧|肿|堵|憋|水肿)|说不出话|声音_[哑嘶]|舌头_[肿大]|{_BREATHLESS}|(?<!哮)喘|呼吸(?![道科系内])|胸闷|憋气|休克|血压_(?:低|下降|掉|测不)|苍白|眼前_黑|晕[倒过厥]|昏"
_ALLERGEN = (
    r"过敏|[蜇蛰螫]|马蜂|黄蜂|蜜蜂|胡蜂|海蜇|水母|风团|荨麻疹|起_疹|全身_(?:疹|痒|红)|花生|海鲜|[虾蟹]|芒果|坚果|牛奶|鸡蛋|青霉素|头孢|造影剂|(?:打|输)_(?:针|液|疫苗|吊瓶|点滴)|疫苗|(?:吃|喝|服|用|抹)[了完过]?_(?:后|以后|之后|没多久|分钟|不一会"
    r"|一会儿)"
)
_BLUE = r"(?:嘴唇|口唇|嘴巴?|唇|脸|指甲|面色|脸色|全身)_(?:[发变憋成]?_[紫青乌](?![春])|发绀|发蓝|发黑)|发绀"
_WEAK = r"(?:发?麻|没力|没劲|没有?_[力劲]|无力|乏力|动不了|抬不|举不|不能动|使不上|不听使唤|没有?知觉|没有?感觉|动弹不|瘫|不灵|不会动)"
_FACE = rf"(?:嘴(?!硬)|口[角眼]|脸|面部)[角巴唇]?_(?:[歪斜]|耷拉|往一边)|口[歪眼]|半[边张]脸_(?:{_WEAK}|[垮塌耷垂僵木瘫])|嘴角_漏|口角流涎"
_SPEECH = (
    r"(?:说话|讲话|话|口齿|吐字|言语|发音|讲的)_(?:不清|不太清|含糊|含含|不利[索落]|不灵|不明|听不清|大舌头|打结|磕磕巴巴|颠三倒四)|[说讲]_不[出清][楚]?_话?|话_[说讲]不|舌头_(?:大了|发大|发硬|僵|不听使唤|打结|捋不直|歪)|大舌头|失语|[说讲]不了话|不会说话"
    r"|不能说话|听不懂_[话说讲]|答非所问|问_话_不答|[话就]_不会说|颠三倒四"
)
_LIMB = (
    rf"(?:半边|半[个身]|一[侧边]|单侧|偏侧|同侧|[左右]半?[边侧身]?)_(?:身[子体上]?|胳膊|手|臂|腿|脚|肢|膀)_{_WEAK}|半[边身]_{_WEAK}|一[只条]_(?:手|腿|胳膊|眼)_(?:垂|{_WEAK})|(?:胳膊|手|腿)[都也]?(?:抬不起|举不起|不听使唤)|偏瘫"
    r"|半身不遂|(?:拿|端|握|夹)_(?:筷|杯|东西|碗|勺|手机|笔)_(?:掉|不住|不稳)|(?:拿|端|握)不[了住稳起]|(?:筷子?|杯子?|碗|勺)_掉"
)
_SUDDEN = r"突然|突发|忽然|一下子|刚[才刚]|一觉醒|睡醒|分钟|今[天早晨]|瞬间|秒"
_CHRONIC = r"[年月周]了|多年|半年|几年|长期|老毛病|颈椎病|腰椎|腕管|鼠标手|睡觉_压|[压枕]_[麻着]|甩_好|后遗症|麻药|拔牙|补牙|从小|天生|蹲"
_OUT = (
    r"叫不_醒|[喊唤摇推拍弄]不醒|怎么[叫喊唤推拍摇晃]|叫不_应|昏迷|昏[过死]去?|昏厥|昏倒|[晕栽]倒|晕[过厥]|晕在|晕了过去|人_晕了(?!车)|倒地|倒在_(?:地|厕|路|床|浴|房|门)|人_没有?反应|不省人事|人事不省|失去?_意识|意识_(?:丧失|不清|模糊|没|障碍)|神志不清"
    r"|没有?了?_(?:意识|呼吸|脉搏|心跳)|没气了|[叫喊拍推]_(?:没|无|毫无)_(?:反应|应答|回应)|无_(?:意识|呼吸|脉搏)|心脏?骤停|休克"
)
_TOXIC = rf"{_POISON}|纽扣_电池|电池|磁力珠|巴克球|磁铁|樟脑|卫生球|刀片|[大缝]?头?针(?=[，。？]|$)|有毒|毒药|毒物"
_GULP = r"(?:误[喝吃吞服食饮咽吸]|[喝吞咽饮灌](?!的水)|吃(?!的)|服下|服了|服用)"
_FEVER38 = r"(?<![\d./])(?:3[89]|4[0-2])(?:[.点]\d)?(?=[，。？]|$|[度°c摄]|多|[^\d.天周个岁斤分日m%/次小秒元块])|三十[八九]|四十度"
_YOUNG_N = r"(?<![\d.一二三四五六七八九十岁零又])(?:(?:[012]|[一两俩二]|半)(?:个半?|个?多)?月龄?|(?:[1-8]?\d|[一二两三四五六七八]?十?[一二两三四五六七八九])(?:多)?天|(?:\d|1[0-2]|[一二两三四五六七八九十]|十[一二])周)"
_BABY = r"(?:宝宝?|宝贝|婴儿|孩子|娃娃?|女儿|儿子|闺女|小孩|[女男]宝|[女男]婴|孙[子女]|小家伙)"
_INFANT = (
    rf"{_YOUNG_N}(?:半)?(?:大|龄|零|多?的?_{_BABY})|{_BABY}(?:现在|今天|才|刚|快|还|出生|生下来|满|是|目前|，)*{_YOUNG_N}(?=[，。？大多的]|发|高|烧|体温|$)"
    rf"|出生_(?:才|刚|第|后)?{_YOUNG_N}|新生儿|[未没刚]满月|满月_{_BABY}|刚出生|早产儿|(?:不到|未满|没满|不足|快|还没[到满]|未足|差_)(?:3|三)个月|[一二两12]月龄"
)
_PREGNANT = r"羊水|破水|怀孕|孕(?![前]|激)|怀[着了]_(?:孩子|宝宝|胎)|胎(?!盘素)|预产期|临产|停经|(?:月经|大姨妈)_(?:推迟|没来)|验孕|产后|生完孩子|刚生[完产]|宫外孕|流产|剖宫产后|剖腹产后"
_BLEED = r"(?:大|狂)出血|血_(?:[喷飙涌滋]|呲|直冒|往外冒|不止|不停|压不住|[^，。？#]{0,12}止不住|哗哗|一地|一股一股|水龙头|自来水|喷泉|一滩|浸透|湿透)|(?:止不住|[喷涌飙]|哗哗|哗啦)_血|[流出失]血_(?:不止|过多|很多|止不住)|血_按_(?:不住|还)"
_BURN_BIG = r"大片|大面积|一大片|整[条个只片]|全身|一身|半[边身]|后背|胸|脸|脖子|会阴|皮[^，。？#]{0,3}[掉破脱烂]|脱皮|发白|[焦糊]|百分之|%|起_很多_泡|呛|熔"
_LOST = r"吐|呕|昏|迷糊|嗜睡|[叫喊]不|意识|不认|抽|[犯发]困|想睡|一直睡|胡话|记不|想不起|说胡|(?:耳朵?|鼻)_(?:流|血|水)|瞳孔|没反应|不清醒|神志|精神_(?:差|不好|不振)|血_(?:多|不止)"

# fmt: off
_EMERGENCIES = (
    _rule("胸痛伴出汗或放射", _CHEST, rf"{_SWEAT}|{_RADIATE}|{_CHEST_SEVERE}|脸_(?:白|灰)|面色苍白|[晕昏][倒过厥]|要晕|眼前发黑|(?:心[率跳])_(?:1[5-9]\d|2\d\d)",
        unless=r"痘|疙瘩|皮疹|带状疱疹|乳[房腺头]|拉伤|健身|痱|食管反流|焦虑_(?:时候|发作)|更年期|潮热|紧张[就时]|深呼吸就|心里[闷难]受"),
    _rule("胸痛伴呼吸困难", _CHEST, _BREATHLESS, unless=r"偶尔|有时|时不时|经常|常常|鼻塞|焦虑|深呼吸就|[半几]年|心里"),
    _rule("突发撕裂样胸背痛", r"(?:胸|背|心口|肚子|腹)_(?:撕裂|撕开|刀割)"),
    _rule("过敏伴气道或循环症状", _ALLERGEN, _AIRWAY, unless=r"鼻炎|咽炎|打喷嚏|发炎"),
    _rule("过敏伴气道或循环症状", r"(?:脸|嘴唇|眼睛?|头)_(?:和|跟|、|都)?_肿", rf"{_BREATHLESS}|(?:喉咙?|嗓子)_(?:紧|堵)|过敏性?休克"),
    _rule("异物卡住气道", r"[呛噎卡](?:到|住|着|了|在)", rf"{_BLUE}|{_BREATHLESS}|[憋青紫]|[哭咳说]不出|出不了声|发不出声|[抓掐]_(?:脖子|喉咙)|翻白眼|[喘窒]|果冻|花生|坚果|汤圆|年糕|气管", unless=r"鱼刺|咳出来了|已经出来|吐出来了"),
    _rule("异物卡住气道", r"噎(?:住|着|到)|(?:卡|堵)在?_(?:喉咙|气管|嗓子)", r"孩子|宝宝|老人|[爷奶爸妈娃]|救命", unless=r"鱼刺|好了|下去了|出来了|痰|预防"),
    _rule("化学物质入眼或灼伤", r"(?:烧碱|碱|石灰|水泥|[洁洗]厕|84|消毒|硫酸|盐酸|[强王硝]酸|酸液|酒精|胶水|502|农药|漂白|油漆|氨水|清洁剂|去污|化学|干燥剂|电池液|剂)~(?:[溅进入弄喷崩滴]_眼|(?:溅|泼|洒|喷|浇|烧)_(?:脸|身|手|腿|皮肤))"
        r"|眼_(?:溅|进|喷|弄|滴|崩)_(?:烧碱|碱|石灰|水泥|酸|消毒|84|酒精|胶水|502|农药)", unless=r"消毒_(?:眼镜|隐形)|酒精棉片擦"),
    _rule("误服有毒物或异物", rf"{_GULP}_(?:{_TOXIC})|(?:{_TOXIC})_(?:被|给|让)?_{_GULP}(?:[了掉下进]|$)",
        unless=rf"(?:[打喷洒撒]|残留)了?过?_(?:{_POISON})|[洗泡]干净|(?:猫|狗)_[吃喝舔]|毒性|解毒|排毒|消毒碗|有毒吗|电池厂"),
    _rule("一氧化碳或燃气中毒", r"煤气|瓦斯|一氧化碳|[烧炭]炭|炭[火盆炉]|煤炉|蜂窝煤|燃气|天然气|热水器|[烧生]炉子|火锅_(?:炭|包间)|车里_空调", rf"头[晕疼痛昏]|恶心|吐|[晕昏]|没力|中毒|泄[漏露]|外[泄洩]|樱桃红|{_OUT}"),
    _rule("吸入有毒气体", r"混[用合着在]|毒气|沼气|氯气|硫化氢|氨气|浓烟|火灾|着火|化粪池|窨井|下水井|地窖", rf"呛|咳|{_BREATHLESS}|胸闷|头晕|[晕昏]|流泪|嗓子"),
    _rule("蘑菇或食物中毒", r"蘑菇|菌子|野生菌|见手青|毒菌|河豚|乌头|草乌|附子|四季豆|发芽_(?:土豆|马铃薯)|蟾蜍|鱼胆|假酒|甲醇|曼陀罗", r"吐|拉|泻|幻|小人|看[到见]|跳舞|头?晕|麻|难受|恶心|中毒|抽|模糊|昏", unless=r"麻辣|拉面"),
    _rule("过量用药", r"(?:吃|吞|服|喝)[了下]?_(?:[2-9]\d|\d{3}|[二两三四五六七八九]十|上百|几?十[几来多])_[片粒颗板]|一口气_(?:吃|吞)|(?:吃|吞|服|喝)了?_(?:整瓶|一整瓶|一瓶|半瓶|一大把|大把)_(?:药|片|丸|胶囊|布洛芬|退烧|对乙酰|止痛"
        r"|安眠)|(?:药|片)_(?:整瓶|一瓶|一大把|过量|一次|全部?|都)_[吃吞](?:下|了|完|光)|偷吃_药|一整板|(?:孩子|宝宝|娃|小孩|儿子|女儿|闺女)_把_(?:药|糖浆|片|丸|胶囊|冲剂)_[吃喝吞舔]|误[吃服食]_(?:药|片|避孕|降压|降糖)|(?:药物?|用药"
        r"|服药)过量|胰岛素_(?:打[多错]|多打|过量|重复)|(?:多打|打[多错])了?_胰岛素", unless=r"每[天日次]|一天|疗程|一共吃|总共|没效|没好|不见好|好转|维生素|维c|钙片|益生菌|健胃消食|早晚"),
    _rule("意识丧失", _OUT, unless=r"赖床|起床|上学|闹钟|晕血|晕针|低血糖_好|睡得?[沉香死]|[自就已]经?_好了|胎|囊|没事了|昏迷指数|电脑|手机|仙人掌"),
    _rule("抽搐", r"抽搐|抽[风疯]|惊厥|癫痫_(?:犯了|发作[了中，。]|大发作)|羊癫疯|羊角风|口吐白沫|[全浑四]_抽|[一直在刚又]抽(?:了|着|个|$|，)|[抽]了?_分钟|双?眼[^，。？#]{0,3}上翻|翻白眼|牙关紧|抽起来",
        unless=r"(?:眼[皮角]|嘴角|面肌|面部|脸上|小?腿肚?|肌肉|脚)_抽|抽[筋血烟查检动屉]"),
    _rule("疑似中风", _FACE, rf"{_SPEECH}|{_LIMB}|{_SUDDEN}|流口水|含不住|漏水", unless=rf"{_CHRONIC}|整容|瘦脸|肉毒|睡觉|歪着睡"),
    _rule("疑似中风", _SPEECH, rf"{_LIMB}|{_WEAK}|(?:走路|站)_(?:[偏歪倒]|不稳)|(?:头|眼)_(?:剧痛|看不)", unless=_CHRONIC),
    _rule("疑似中风", _LIMB, r"突然|突发|忽然|一下子|刚才|一觉醒|分钟", unless=rf"{_CHRONIC}|打球|健身|举铁|抱孩子|搬|骨折|拉伤"),
    _rule("疑似中风", r"突然|突发|忽然|刚才|一觉醒|分钟|说着说着", _SPEECH, unless=rf"{_CHRONIC}|[嗓哑咽喉]|感冒|发炎|紧张|害羞|溃疡"),
    _rule("疑似中风", r"突然|突发|忽然|一下子", r"(?:走路|走|站|身子)_(?:往一边|[歪偏]|不稳|东倒西歪|直不住)|(?:眼睛?|视力|视野)~(?:看不见|失明|看不到|一片黑|全黑|黑蒙|重影|复视)|重影|走路_喝醉|(?:眼睛?|左眼|右眼)_(?:瞎|没了视力)",
        unless=r"翻身|耳石|起床时"),
    _rule("突发剧烈头痛", r"(?:头|脑袋|脑子|后脑勺?)_(?:[炸裂劈]|雷|剧[痛烈]|爆|像?被_[打敲砸劈锤]|[疼痛]_(?:厉害|要命|受不了|不行|打滚|到顶))|(?:剧烈|炸裂样|霹雳样|最_)_头[疼痛]",
        r"突然|突发|忽然|一下子|瞬间|秒|喷射|(?:脖子|颈)_(?:硬|强|僵)|从[来没]|这辈子|有生以来|意识|看不清|抽", unless=r"颈椎病|宿醉|熬夜|偏头痛_(?:老|多年)|工作太"),
    _rule("突发剧烈头痛", r"这辈子|有生以来|从[来没]", r"头[^，。？#]{0,3}[疼痛裂炸]"),
    _rule("脑膜炎样表现", r"发烧|高烧|高热|发热|烧到|头[疼痛]", r"(?:脖子|颈[项部]?)_(?:发硬|硬|强直|僵硬|弯不|低不)", unless=r"颈椎病|落枕|低头"),
    _rule("压之不褪色的皮疹", r"疹|斑|紫癜|[瘀淤]点|出血点|[红紫小血][色]?[小]?点|[紫红]_点子?", r"[按压]_(?:不|没)_(?:褪|退|消|变|掉)|不褪色|不退色|不变白", unless=r"痣|血管瘤|老年|[年]了|多年"),
    _rule("发热伴出血点", r"发烧|高烧|高热|发热|烧到", r"出血点|[瘀淤][点斑]|紫[红色黑]{0,2}的?小?[点斑疹]|紫癜"),
    _rule("三个月以下婴儿发热", _INFANT, _FEVER38),
    _rule("三个月以下婴儿发热", _INFANT, r"发烧|发高?热|高烧|高热|滚烫|很烫|发烫|烧得", unless=r"3[5-7](?:[.点]\d)?(?:度|°|，|。|$)|低[烧热]"),
    _rule("脐带脱垂", r"脐带_(?:掉[在出]|脱(?!落)|露|出来)|(?:破水|羊水)~(?:带子|绳子|条东西)"),
    _rule("孕产期出血或剧痛", _PREGNANT,
        rf"{_BLEED}|(?:流|出|见)了?_(?:好多|很多|大量|鲜|不少|一滩|一大滩)_[血红]|(?<!少量)(?:流血|出血)(?!吗)|大量_血|鲜血|湿透|(?:肚子|腹|小腹|腹部)_(?:[绞剧撕]|刀割|[疼痛][得到的]|很[疼痛]|[疼痛]_(?:厉害|不行|受不了|要命)|硬)"
        r"|剧烈_(?:腹|肚)|撕裂|胎动_(?:没|消失|停|不动|少|减|感觉不)|(?:没|不)_胎动|羊水_(?:破|流|绿|浑)|破水", unless=r"牙龈|刷牙|[流鼻]鼻|痔|褐色|一点[点血]|少量|血丝|胎教|(?:狗|猫)|检查正常|假性"),
    _rule("疑似子痫", r"怀孕|孕[^前]|孕$|产后|胎", r"抽搐|抽了|眼[前睛]?_(?:[花冒]|看不清|模糊|金星)|看不清|血压_(?:1[6-9]\d|2\d\d)|昏|上腹_剧?痛|(?:全身|浑身)_抽"),
    _rule("大出血", _BLEED, unless=r"刷牙|已经止|止住了|不流了|月经_[稍有]点|量有点多|(?:狗|猫)"),
    _rule("大出血", r"(?:月经|姨妈|下面|下身|阴道|血)_(?:一|半|每)_个?(?:小时|钟头)~(?:湿透|[片张]|换)|血块_(?:大|鸡蛋|拳头)", r"血|卫生[巾棉]|湿透"),
    _rule("大出血", r"动脉_[破断割伤]|割到_动脉|大口子|深口子|口子_(?:深|见骨)", r"血|骨"),
    _rule("呕血或咯血", r"(?:吐|呕|咳|咯)(?:出|了|的|出来|出来的)?_(?:[口碗盆杯滩鲜暗红全都]|好多|很多|大量|咖啡)_(?:血|咖啡|渣)|[吐呕]_血|大[量口]_[咳咯]血|[咳咯]血_(?:[口碗盆杯]|不止|很多|好多)|[吐呕]_咖啡",
        unless=r"刷牙|牙龈|血丝|鼻血|口水|痰里|[气累想快要]得?_吐血|吐血_[推整贡]|喝_咖啡"),
    _rule("黑便或大量便血", r"黑便|柏油|沥青|(?:便|拉|屎|粪|马桶|大便)_(?:暗红|[全都]是_血|鲜血|大量_血|一[摊滩]_血|[一好]_血)|(?:大便|屎|便便|拉)_(?:乌黑|漆黑|发黑|黑)~(?:[晕黏粘臭稀糊]|心慌|没[力劲]|冷汗|[无乏]力|胃|好几次)"
        r"|便血_(?:[大多]|不止|一[摊滩])", unless=r"铁[剂]?|猪血|鸭血|鸡血|血豆腐|火龙果|桑[葚椹]|铋|胎便|蓝莓|巧克力|一点|少许|几滴|一丝|纸上"),
    _rule("呼吸困难", _BREATHLESS, unless=r"鼻[塞炎子]|[爬上]_[楼山]|跑[完步]|运动[后完]|打呼|潜水|口罩|焦虑_(?:好|就)|缓_就好|[笑哭][得到]|戏|压力|环境|生活|工作|家庭|让我_喘|压得我?喘"),
    _rule("呼吸困难", r"(?<!哮)喘_(?:特别|非常|很|太|不行|厉害|严重)|(?<!哮)喘得_|说不成|说话_断断续续|坐起来_喘|坐着_才能?喘|吸气_(?:费[力劲]|声)|(?:狗叫|犬吠)_咳|粉红?色?_泡沫|[躺平]_(?:不下|不了|不能|喘)|说_个字_[停喘歇]|(?:肋|胸"
        r"|锁骨|脖子)_[陷凹]|三凹征|鼻翼_[扇煽]|没有?_呼吸|端坐|喘[气息]?_有?声音|咽不下口水|呼吸_(?:暂停|停|微弱|很慢|太慢)|哮喘_(?:犯|发作)~(?:没用|不管用|不缓解)", unless=r"[爬上]_[楼山]|跑[完步]|睡眠呼吸暂停|打呼|打鼾|鼻[塞炎]|痔|腰"),
    _rule("口唇发紫", _BLUE, unless=r"冻|天冷|[怕游]冷?泳|天生|口红|涂|冬天|磕|撞|摔|淤青|紫外|紫菜|染|胎记|灰指甲|黑眼圈|指甲油|火龙果|蓝莓"),
    _rule("断肢或大外伤", r"(?:手指头?|脚趾|手|脚|腿|胳膊|指头|指)_(?:被)?_(?:切断|截断|轧断|绞断|切掉|削掉|砍[断掉]|压断|剁[断掉]|[绞卷]进|夹断|断了|断掉)|断[指肢]|断了_(?:手指|脚趾|指头)|(?:手|脚|腿|胳膊|头发)_被_[绞卷碾轧]|(?:指头?"
        r"|趾)_没了|骨头_(?:[露戳刺]|看[得]?见|穿)|见骨|开放性骨折|血肉模糊|肠子_[流露出]|肠子(?:流|露|出)", unless=r"[要快像]_断|断了一样|断断续续|断奶"),
    _rule("断肢或大外伤", r"捅[了伤进一]|(?:刀|钢筋|铁[棍钉]|玻璃|剪刀|树枝)_(?:[捅插扎刺]|砍)_(?:肚|胸|背|脖|腹|眼|头|进|穿)|[扎刺贯]穿|(?:被|让)_(?:捅|砍)|枪[伤击]|中枪|爆炸|炸伤|(?:被|让)_雷|雷[击劈]|坍塌|(?:压|埋|夹)在_(?:机器"
        r"|墙|土|石|车|废墟|楼板|重物)|割喉", unless=r"[像如]遭?雷[击劈]|雷[击劈](?:一样|似)"),
    _rule("高处坠落或车祸伤", r"(?:从|打)_(?:楼(?!梯)|[高树梯屋]|脚手架|阳台|悬崖|坡|米|马[上背]|山|窗|架子)_(?:[摔掉坠跌栽滚]|下来)|坠[楼落]|高坠", unless=r"没_事"),
    _rule("高处坠落或车祸伤", r"车祸|(?:被|让)_(?:车|货车|汽车|摩托|电动车|三轮)_(?:撞|碾|压|轧|刮)|车_?撞了|撞[飞车]|翻车|头破血流", rf"血|[疼痛]|动不了|不能动|[昏晕断]|骨|变形|卡在|苍白|冷汗|肚子_胀|{_BREATHLESS}|{_LOST}",
        unless=r"擦破|蹭破|后遗症"),
    _rule("头部外伤伴警示症状", r"(?:头|后脑勺?|脑袋|脑门|额头)_(?:着地|[撞磕摔砸碰]|被_打|挨)|(?:摔|撞|磕|砸|碰)_(?:头|脑|后脑)|(?:摔|掉|跌|滚)(?:下来?|倒|了|到)", _LOST, unless=r"晕车|手机"),
    _rule("疑似脊髓损伤", r"摔|撞|砸|车祸|跌|掉下来|跳水|扭", r"(?:下半身|下肢|双[腿脚手]|两[条只]_腿|腿|四肢|脖子以下)_(?:没有?知觉|动不了|不能动|没有?感觉|不会动|不听使唤)"),
    _rule("大面积或特殊部位烧烫伤", r"(?<!滚)烫|滚烫的?[粥汤水油茶]|烧[伤着到]|着火|火烧|热油|开水|沸水|热汤|热粥|蒸汽|油锅|煤气爆|岩浆|钢水", _BURN_BIG, unless=r"黄豆|米粒|一小[块点片]|小水?泡|有点红|烫发|额头|发[烧热]|烫脚"),
    _rule("电击伤", r"触[了]?电|电击|高压电|被_电(?:到|倒|击|打|晕|了)|雷[击劈]|[摸插捅]_插座|电线_电|漏电|电倒", unless=r"静电|触电[般一样感似的]|像[触过]电|[像似]_电|除颤|心电|电疗"),
    _rule("溺水", r"溺水|落水|淹(?:了|着|到|水|在|没)|[掉跌落][进到入在下]_(?:河|水|池|井|湖|塘|[粪泳]池|水缸|浴[缸盆])(?!_没事)|捞(?:上来|起来|出来)", unless=r"手机|鱼苗|淹没在|花"),
    _rule("蛇咬伤", r"蛇_咬|咬_蛇|(?:竹叶青|银环|眼镜蛇|蝮蛇|五步蛇|毒蛇)_[咬啃]", unless=r"玩具|^蛇咬伤(?:是|的|有)"),
    _rule("热射病", r"中暑|热射病|太阳|暴晒|高温|工地|车[里内]|户外|[闷太大]热|桑拿|军训", rf"{_OUT}|胡话|胡言|抽|皮肤_[烫干]|不出汗|(?:体温|烧|烧到)_4[0-3]|(?<!\d)4[0-2](?:[.]\d)?度|锁在|说不清|颠三倒四|烫得",
        unless=r"出汗多"),
    _rule("高热伴意识改变", r"4[0-2](?:[.点]\d)?度|高烧|高热", r"胡话|胡言|神志|迷糊|意识|说胡", unless=r"烧糊涂了吧"),
    _rule("心律失常伴晕厥", r"心[跳率]~(?:1[5-9]\d|2\d\d|[23]\d(?!\d)|停)", r"晕|黑[蒙矇]|眼前发黑|胸|喘"),
    _rule("误服有毒物或异物", r"误[喝服吞饮]", unless=r"过期|发霉|[籽核]|口香糖|维生素|一[片粒颗]|没事"),
    _rule("休克表现", r"[脸面]色?_(?:苍白|惨白|煞白|蜡黄|灰白)", r"冷汗|大汗|汗|冰凉|血压_(?:低|测不|下降)", r"晕|意识|冰凉|血压|湿冷|迷糊|倒", unless=r"低血糖|晕针|晕血"),
    _rule("血糖急症", r"糖尿病|血糖|胰岛素|烂苹果", rf"{_OUT}|迷糊|迷迷糊糊|胡话|意识|烂苹果", unless=r"就好了"),
    _rule("急性剧烈腹痛", r"(?:肚子|腹|胃)_(?:[疼痛绞]|硬)", r"大汗|冷汗|打滚|苍白|直不起|硬得?像_[板石木]|板状", unless=r"便秘|腹肌|痛经|月经|例假|腹泻|拉肚|放屁"),
    _rule("胸痛伴出汗或放射", r"\bchest\b@(?:pain|pressure|tight|hurt|crush|squeez|heav|discomfort)|(?:pain|pressure|tightness|squeezing|crushing|elephant)@\bchest",
        r"sweat|arm\b|jaw|shoulder|back\b|radiat|spread|breath|crush|nause|faint|squeez|dizz|clammy|ripping|tearing|elephant",
        unless=r"cough(?:ing)? only|muscle strain"),
    _rule("疑似中风", r"\b(?:face|mouth|smile)\b@(?:droop|numb|crooked|uneven|one side)|slurr|(?:can't|cannot|unable to|couldn't|trouble|difficulty) (?:speak"
        r"|talk|get (?:her|his|my) words)|\b(?:arm|leg|side|half)\b@(?:weak|numb|paraly|can't move|limp)|garbled",
        r"sudden|droop|slurr|speak|talk|words|one side|(?:left|right) side|minutes|this morning|just|woke", unless=r"\byears\b|months|slept on|dentist|carpal"),
    _rule("突发剧烈头痛", r"worst headache|thunderclap|headache@(?:sudden|explo|of my life|stiff neck)|sudden@(?:severe|terrible|intense"
        r"|explosive)@headache|stiff neck@(?:fever|headache)|fever@stiff neck"),
    _rule("呼吸困难", r"(?:can't|cannot|can not|unable to|couldn't|could not|hard to|struggling to|trouble|difficulty|not|stopped"
        r"|barely)(?: \w+)? breath(?:e|ing)?\b|gasping|chok(?:ing|ed)|(?:lips?|face|fingers)@(?:turn\w* |going |are |is |went )?(?:blue|purple)|blue lips"
        r"|severe shortness of breath|suffocat", unless=r"stuffy nose|stairs|exercise|running"),
    _rule("过敏伴气道或循环症状", r"anaphyla|throat@(?:clos|swell|swollen|tight)|tongue@(?:swell|swollen)|(?:hives|bee|wasp|sting|peanut|allerg|shrimp|shellfish)@(?:breath"
        r"|wheez|throat|faint|swollen face)|epipen"),
    _rule("大出血", r"bleed\w*@(?:won't stop|heav|a lot|profus|uncontroll|not stop|everywhere|doesn't stop|badly)|(?:won't|can't|cannot"
        r"|not) stop(?: the)? bleeding|blood@(?:spurt|gush|pour|everywhere)|(?:spurt|gush)\w*@blood|(?:vomit|throw|puk|cough)\w*(?: up)?@\bblood|hemorrhag"
        r"|(?:black|tarry)@(?:stool|poop)", unless=r"\biron\b|bismuth|streak|gums|tinge"),
    _rule("中毒或过量用药", r"(?:drank|drink\w*|swallow\w*|ingest\w*|ate|eaten|took|taken)\b@(?:bleach|batter|pesticide|poison|cleaner|detergent|antifreeze"
        r"|magnet|mushroom|paraquat|gasoline|too many|whole bottle|entire bottle|(?:[2-9]\d|hundred|handful of) (?:\w+ )?(?:pills|tablets|capsules))|overdos(?:e"
        r"|ed)\b|carbon monoxide|gas leak", unless=r"\bdog\b|\bcat\b|detector"),
    _rule("意识丧失或抽搐", r"unconscious|unresponsive|(?:not|isn't|stopped) respond|passed out|blacked out|(?:won't|can't|not|doesn't)@(?:wake|waking)"
        r"|no (?:pulse|breathing|heartbeat)|not breathing|seizure|convuls|collaps|fainted@(?:chest|won't|not)", unless=r"seizure free|sleep through"),
    _rule("严重外伤", r"(?:fell|fall)@(?:floor|roof|ladder|height|balcony|stor(?:y|ey)|tree)|(?:hit|run over) by a (?:car|truck|bus)|sever(?:ed)\b|amputat"
        r"|(?:finger|hand|toe)@cut off|cut off@(?:finger|hand|toe)|stabbed|gunshot|electrocut|electric shock|drown|(?:bone)@(?:sticking|through)|head injur"
        r"|hit (?:his|her|my) head@(?:vomit|confus|drows|pass)|burn\w*@(?:face|large|whole|body|third|blister)|boiling water", unless=r"sunburn|heartburn|phantom"),
    _rule("三个月以下婴儿发热", r"\b(?:[1-9]|1[0-2]|two|three|four|five|six|seven|eight|nine|ten)[- ]weeks?[- ]old|\b(?:1|2|one|two)[- ]months?[- ]old"
        r"|\b[1-8]?\d[- ]days?[- ]old|newborn", r"fever|\b(?:38|39|40|41)\b|\b10[0-5]\b"),
    _rule("压之不褪色的皮疹", r"rash@(?:not|doesn't|won't|non)[- ]?(?:fad|blanch|go away when press|disappear when)|purple (?:spots|rash)@fever"
        r"|fever@purple (?:spots|rash)"),
    _rule("孕产期出血或剧痛", r"pregnan|weeks along|trimester",
        r"bleed|severe@(?:pain|cramp|headache)|cord|no movement|not moving|stopped moving|blurr|gush|seizure", unless=r"gums|nose|spotting"),
    _rule("蛇咬、中暑或化学伤", r"(?:snake)@(?:bit|bite)|bitten by@snake|heat ?stroke|(?:acid|bleach|lye|chemical|alkali|cement|ammonia)@\beyes?\b"),
)
# fmt: on


def _first(rules: Iterable[_Rule], text: str) -> str | None:
    return next((rule.sign for rule in rules if rule.met(text)), None)


def check(text: str) -> Notice | None:
    """Judge the newest patient turn: a crisis before an emergency, None where neither shows."""
    folded = _fold(text)
    wish = _punctuate(_re(_IDIOM).sub("#", _re(_INSIDE_WORD).sub("", folded)))
    stated = _without_quiz(_without_past(wish))
    wish = _without_past(wish) if _re(_MENDED).search(wish) else wish
    if sign := _first(_WISHES, wish) or _first(_ACTS, _without(_SCOPE_DENIED, stated)):
        return Notice("crisis", _CRISIS, sign)
    present = _re(_SMALL_NO).sub(lambda m: _blank(m[0]), _punctuate(folded))
    present = _without(_SCOPE_ANY, _without_quiz(_without_past(present)))
    if sign := _first(_EMERGENCIES, present):
        return Notice("emergency", _EMERGENCY.format(sign=sign), sign)
    return None

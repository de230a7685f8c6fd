"""What the page and the terminal say, in four languages. Chinese is written first; a missing word falls back to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

from bianque.types import Progress

Lang = Literal["zh-CN", "zh-TW", "en", "ko"]

WORDS: dict[str, tuple[str, str, str, str]] = {  # zh-CN, zh-TW, en, ko
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
    "compare": ("对比", "比較", "Compare", "비교"),
    "compare_why": (
        "一条消息发给每一列，各列同时作答，各自记着自己的对话。", "一則訊息發給每一欄，各欄同時作答，各自記著自己的對話。",
        "One message goes to every column; they answer at the same time, each with its own history.",
        "메시지 하나가 모든 열로 가고, 각 열은 자기 대화를 기억하며 동시에 답합니다.",
    ),
    "columns": ("列数", "欄數", "Columns", "열 수"),
    "some_columns": ("{count} 列", "{count} 欄", "{count} columns", "{count}열"),
    "contender": ("由谁回答", "由誰回答", "Who answers", "답변자"),
    "bits": ("精度", "精度", "Precision", "정밀도"),
    "some_bits": ("{bits} 位", "{bits} 位元", "{bits} bit", "{bits}비트"),
    "drawing": ("采样", "取樣", "Sampling", "샘플링"),
    "shared_seed": ("共同的随机种子", "共同的隨機種子", "Shared seed", "공통 시드"),
    "message_all": ("发给每一列的消息", "發給每一欄的訊息", "Message to every column", "모든 열에 보낼 메시지"),
    "retry_all": ("全部重答", "全部重答", "Retry all", "모두 다시"),
    "adopt": ("各列都接着这一列", "各欄都接著這一欄", "Carry into all", "모든 열에 적용"),
    "share": ("分享设置的链接", "分享設定的連結", "Share the setup", "설정 링크"),
    "link": (
        "链接：模型、采样和消息；消息在 # 之后，不会发给服务器", "連結：模型、取樣和訊息；訊息在 # 之後，不會發給伺服器",
        "Link to the models, the sampling and the message, which stands behind # and is sent to no server",
        "모델, 샘플링, 메시지의 링크. 메시지는 # 뒤에 있어 서버로 보내지지 않습니다",
    ),
    "answering": ("正在作答：{columns}", "正在作答：{columns}", "Answering: {columns}", "답변 중: {columns}"),
    "answered": ("已答完", "已答完", "All have answered", "답변 완료"),
    "turns": (
        "内存一次容不下所有列的模型，各列轮流作答。{columns} 在等。", "記憶體一次容不下所有欄的模型，各欄輪流作答。{columns} 在等。",
        "Memory cannot hold the models of all columns at once, so they take turns. Waiting: {columns}.",
        "모든 열의 모델을 한꺼번에 메모리에 올릴 수 없어 차례로 답합니다. 대기 중: {columns}.",
    ),
    "first_token": ("首词 {seconds} 秒", "首詞 {seconds} 秒", "first token {seconds} s", "첫 토큰 {seconds}초"),
    "load_seconds": ("其中等待加载 {seconds} 秒", "其中等待載入 {seconds} 秒", "{seconds} s of it loading", "그중 로딩 {seconds}초"),
    "speed": ("{rate} 词元/秒", "{rate} 詞元/秒", "{rate} tokens/s", "초당 {rate}토큰"),
    "characters": ("{count} 字", "{count} 字", "{count} characters", "{count}자"),
    "badge_asks": ("问", "問", "asks", "질문"),
    "badge_answers": ("答", "答", "answers", "답변"),
    "arena": ("竞技场", "競技場", "Arena", "아레나"),
    "battle": ("对战", "對戰", "Battle", "대결"),
    "leaderboard": ("排行榜", "排行榜", "Leaderboard", "순위표"),
    "arena_why": (
        "一条消息同时发给两个匿名模型，可以聊几轮；两边都答完后投票，投了票才知道谁是谁。",
        "一則訊息同時發給兩個匿名模型，可以聊幾輪；兩邊都答完後投票，投了票才知道誰是誰。",
        "One message goes to two models without names, for as many rounds as you like. Vote once both have replied; then you "
        "learn who is who.",
        "메시지 하나가 이름을 가린 두 모델에게 갑니다. 여러 차례 이어 갈 수 있고, 둘 다 답한 뒤 투표하면 누구인지 알 수 있습니다.",
    ),
    "nameless": ("投票之前不知道是谁", "投票之前不知道是誰", "Nobody knows who this is before the vote", "투표 전에는 누구인지 모릅니다"),
    "message_both": ("发给两边的消息", "發給兩邊的訊息", "Message to both", "양쪽에 보낼 메시지"),
    "skip": ("换一对", "換一對", "Skip this pair", "다른 상대로"),
    "next_battle": ("下一场", "下一場", "Next battle", "다음 대결"),
    "pairing": ("正在抽取两个模型…", "正在抽取兩個模型…", "Drawing two models …", "두 모델을 뽑는 중…"),
    "preparing": ("正在准备… {percent}%", "正在準備… {percent}%", "Getting ready … {percent}%", "준비 중… {percent}%"),
    "in_line": ("排队中…", "排隊中…", "Waiting in line …", "대기 중…"),
    "writing": ("正在作答…", "正在作答…", "Writing …", "답변 작성 중…"),
    "a_better": ("A 更好", "A 更好", "A is better", "A가 낫다"),
    "b_better": ("B 更好", "B 更好", "B is better", "B가 낫다"),
    "tie": ("不相上下", "不相上下", "Tie", "비슷하다"),
    "both_bad": ("都不好", "都不好", "Both are bad", "둘 다 나쁘다"),
    "reasons": ("理由（可不选）", "理由（可不選）", "Reasons (optional)", "이유 (선택)"),
    "category": ("科别", "科別", "Category", "분야"),
    "consent": (
        "同意同时保存这场对话的文字，供研究使用", "同意同時保存這場對話的文字，供研究使用",
        "I agree that the text of this conversation is stored too, for research", "이 대화의 글도 연구용으로 저장하는 데 동의합니다",
    ),
    "consent_why": (
        "不勾选，投票只存时间、两个模型和它们的设置、科别、您的选择，以及对话的 SHA-256 摘要。",
        "不勾選，投票只存時間、兩個模型和它們的設定、科別、您的選擇，以及對話的 SHA-256 摘要。",
        "Without it a vote stores the time, the two models and their settings, the category, your choices, and a SHA-256 of the "
        "conversation.",
        "동의하지 않으면 시간, 두 모델과 설정, 분야, 선택한 것, 대화의 SHA-256 값만 저장합니다.",
    ),
    "vote_now": (
        "两边都答完了：可以投票，也可以接着聊。", "兩邊都答完了：可以投票，也可以接著聊。", "Both have replied: vote, or go on talking.", "둘 다 답했습니다. 투표하거나 대화를 이어 가세요.",
    ),
    "voted": (
        "已记下：{verdict}。A 是 {a}，B 是 {b}。", "已記下：{verdict}。A 是 {a}，B 是 {b}。",
        "Your vote is kept: {verdict}. A was {a}, B was {b}.", "투표를 저장했습니다: {verdict}. A는 {a}, B는 {b}입니다.",
    ),
    "vote_unwritten": (
        "这一票没有写进磁盘，请稍后再投一次。", "這一票沒有寫進磁碟，請稍後再投一次。",
        "Your vote could not be written to disk; please try again shortly.", "투표를 디스크에 쓰지 못했습니다. 잠시 후 다시 해 주세요.",
    ),
    "duel_stopped": (
        "已停止。这一轮没有答完，还不能投票：可以重新发送，或换一对。", "已停止。這一輪沒有答完，還不能投票：可以重新傳送，或換一對。",
        "Stopped. This round is unfinished, so no vote yet: send the message again, or skip this pair.",
        "중지했습니다. 이번 차례가 끝나지 않아 투표할 수 없습니다. 다시 보내거나 다른 상대로 바꾸세요.",
    ),
    "duel_failed": (
        "{side} 没能作答，这一对不计票：{why}。消息还在，再发一次就是新的一对。", "{side} 沒能作答，這一對不計票：{why}。訊息還在，再發一次就是新的一對。",
        "{side} could not reply, so this pair counts for nothing: {why}. Your message is still there; sending it draws another pair.",
        "{side}가 답하지 못해 이 대결은 세지 않습니다: {why}. 메시지는 그대로 있으니 다시 보내면 새 상대가 정해집니다.",
    ),
    "duel_lost": (
        "这场对战已经不在了（服务重开过，或放了太久）。再发一条消息就是新的一场。", "這場對戰已經不在了（服務重開過，或放了太久）。再發一則訊息就是新的一場。",
        "This battle is gone: the server was restarted, or it was left too long. A new message begins another.",
        "이 대결은 이미 사라졌습니다(서버가 다시 시작되었거나 오래 두었습니다). 메시지를 보내면 새로 시작합니다.",
    ),
    "refresh": ("刷新", "重新整理", "Refresh", "새로 고침"),
    "save_votes": ("下载投票（不含文字）", "下載投票（不含文字）", "Download the votes (no text)", "투표 내려받기 (글 제외)"),
    "all_categories": ("全部科别", "全部科別", "All categories", "모든 분야"),
    "no_votes": (
        "还没有投票。去“对战”里投下第一票吧。", "還沒有投票。去「對戰」裡投下第一票吧。",
        "No votes yet. Be the first: have a battle.", "아직 투표가 없습니다. '대결'에서 첫 표를 던져 보세요.",
    ),
    "some_votes": (
        "{count} 票；不相上下 {tie}，都不好 {bad}；分出高下的票里，先出现的一边（A）赢 {first}。",
        "{count} 票；不相上下 {tie}，都不好 {bad}；分出高下的票裡，先出現的一邊（A）贏 {first}。",
        "Votes: {count}; ties {tie}, both bad {bad}; of those with a winner the side shown first (A) won {first}.",
        "{count}표. 비슷함 {tie}, 둘 다 나쁨 {bad}. 승부가 난 표 중 먼저 보인 쪽(A)의 승리 {first}.",
    ),
    "board_rank": ("名次", "名次", "Rank", "순위"),
    "board_name": ("模型", "模型", "Model", "모델"),
    "board_rating": ("得分 [{share} 区间]", "得分 [{share} 區間]", "Rating [{share} interval]", "점수 [{share} 구간]"),
    "board_elo": ("在线 Elo", "線上 Elo", "Online Elo", "온라인 Elo"),
    "board_votes": ("票数", "票數", "Votes", "표"),
    "board_wins": ("胜", "勝", "Won", "승"),
    "board_losses": ("负", "負", "Lost", "패"),
    "board_ties": ("平", "平", "Tied", "무"),
    "board_both_bad_share": ("都不好", "都不好", "Both bad", "둘 다 나쁨"),
    "board_how": (
        "得分：Bradley–Terry，换算到 Elo 的尺度，平均 1000，平局算各半；区间由重采样得到，名次只数区间整个在上面的。带 * 的票数还定不出得分，"
        "借助了弱先验。在线 Elo：K = 4，从 1000 起。",
        "得分：Bradley–Terry，換算到 Elo 的尺度，平均 1000，平手算各半；區間由重抽樣得到，名次只數區間整個在上面的。帶 * 的票數還定不出得分，"
        "借助了弱先驗。線上 Elo：K = 4，從 1000 起。",
        "Rating: Bradley–Terry on Elo's scale with a mean of 1000, a tie as half a win each; intervals by bootstrap; the rank "
        "counts those whose whole interval lies above. With *, votes alone fix no rating and a weak prior helped. Online Elo: "
        "K = 4, from 1000.",
        "점수: Bradley–Terry를 Elo 척도로 나타낸 것(평균 1000, 무승부는 반씩). 구간은 부트스트랩, 순위는 구간 전체가 위에 있는 모델만 셉니다. "
        "*는 표만으로 점수가 정해지지 않아 약한 사전 분포를 쓴 것입니다. 온라인 Elo: K = 4, 1000에서 시작.",
    ),
    "win_rates": (
        "行对列的胜率（平局算半，括号里是场数）", "列對欄的勝率（平手算半，括號裡是場數）",
        "Share won by row over column (ties half; battles in brackets)", "행이 열을 이긴 비율 (무승부는 반, 괄호는 대결 수)",
    ),
    "in_group": ("{name}（第 {group} 组）", "{name}（第 {group} 組）", "{name} (group {group})", "{name} ({group}그룹)"),
    "votes_here": ("投票只保存在这台机器上。", "投票只保存在這台機器上。", "Votes are kept on this machine alone.", "투표는 이 컴퓨터에만 저장됩니다."),
    "votes_pushed": (
        "投票保存在这台机器上，并定时推送到数据集 {repo}。", "投票保存在這台機器上，並定時推送到資料集 {repo}。",
        "Votes are kept here and pushed to the dataset {repo} every few minutes.", "투표는 여기에 저장되고 몇 분마다 데이터셋 {repo}에 올라갑니다.",
    ),
    "last_pushed": ("上次推送：{time}。", "上次推送：{time}。", "Last pushed: {time}.", "마지막 전송: {time}."),
    "push_failed": ("推送失败：{error}。", "推送失敗：{error}。", "Pushing failed: {error}.", "전송 실패: {error}."),
    "no_vote_lines": (
        "有 {count} 行不是投票，已略过。", "有 {count} 行不是投票，已略過。", "Lines that hold no vote, left out: {count}.", "투표가 아닌 줄 {count}개를 건너뛰었습니다.",
    ),
    "evaluate": ("评测", "評測", "Evaluate", "평가"),
    "eval_why": (
        "上传医患对话，由模型作答，得到指标和可逐条阅读的报告。一次最多 {rows} 条回答，评录制的回答最多 {recorded} 条；"
        "文件和结果在服务器的临时文件夹里保存至多一天，只有这个浏览器能打开，也可以随时删除。",
        "上傳醫患對話，由模型作答，得到指標和可逐條閱讀的報告。一次最多 {rows} 條回答，評錄製的回答最多 {recorded} 條；"
        "檔案和結果在伺服器的暫存資料夾裡保存至多一天，只有這個瀏覽器能打開，也可以隨時刪除。",
        "Upload dialogues, let models reply, and get figures and a report in which every row can be read. At most {rows} replies "
        "a run, or {recorded} recorded ones; file and results stay in a temporary folder of the server for a day at most, open to "
        "this browser alone, and can be deleted at any time.",
        "대화를 올리면 모델이 답하고, 지표와 모든 항목을 읽을 수 있는 보고서가 나옵니다. 한 번에 답변 {rows}개, 기록된 답변은 {recorded}개까지이며, "
        "파일과 결과는 서버의 임시 폴더에 최대 하루 보관되고 이 브라우저에서만 열 수 있으며 언제든 지울 수 있습니다.",
    ),
    "eval_file": (
        "对话文件：JSONL、JSON、CSV、.gz，20 MB 以内", "對話檔案：JSONL、JSON、CSV、.gz，20 MB 以內",
        "Dialogues: JSONL, JSON, CSV, .gz, up to 20 MB", "대화 파일: JSONL, JSON, CSV, .gz, 20 MB까지",
    ),
    "eval_tasks": ("任务", "任務", "Tasks", "과제"),
    "task_next": ("下一轮", "下一輪", "Next turn", "다음 차례"),
    "task_consultation": ("整段问诊", "整段問診", "Whole consultation", "전체 상담"),
    "task_recorded": ("录制的回答", "錄製的回答", "Recorded outputs", "기록된 답변"),
    "eval_tasks_why": (
        "下一轮：给出人类的对话，回答每一轮。整段问诊：患者的话照原样说，医生的话由模型说。",
        "下一輪：給出人類的對話，回答每一輪。整段問診：患者的話照原樣說，醫生的話由模型說。",
        "Next turn: the human dialogue up to each turn is given. Whole consultation: the patient's words stay, the model is the doctor.",
        "다음 차례: 각 차례까지 사람의 대화를 줍니다. 전체 상담: 환자의 말은 그대로이고 모델이 의사입니다.",
    ),
    "eval_who": ("由谁回答", "由誰回答", "Who answers", "답변자"),
    "eval_who_why": (
        "可以多选；也可以写上设置，如 ask-mini@8:temperature=0,seed=1", "可以多選；也可以寫上設定，如 ask-mini@8:temperature=0,seed=1",
        "One or more; with settings if you type them, as ask-mini@8:temperature=0,seed=1",
        "여럿 선택 가능; ask-mini@8:temperature=0,seed=1 처럼 설정을 적을 수 있습니다",
    ),
    "eval_limit": ("对话数（空：全部）", "對話數（空：全部）", "Dialogues (empty: all)", "대화 수 (빈칸: 전체)"),
    "eval_at_once": ("同时作答", "同時作答", "Replies at a time", "동시 답변"),
    "eval_start": ("开始评测", "開始評測", "Start", "평가 시작"),
    "eval_continue": ("继续评测", "繼續評測", "Continue", "이어서 평가"),
    "eval_cancel": ("取消", "取消", "Cancel", "취소"),
    "eval_forget": ("删除文件和结果", "刪除檔案和結果", "Delete file and results", "파일과 결과 삭제"),
    "eval_found": (
        "{name} · 格式 {kind} · {count} 段对话 · {turns} 个医生轮次", "{name} · 格式 {kind} · {count} 段對話 · {turns} 個醫生輪次",
        "{name} · format {kind} · {count} dialogues · {turns} doctor's turns", "{name} · 형식 {kind} · 대화 {count}개 · 의사 차례 {turns}개",
    ),
    "eval_problems": (
        "{count} 处有误。改好后请重新上传；在那之前什么也不会运行。", "{count} 處有誤。改好後請重新上傳；在那之前什麼也不會執行。",
        "Problems: {count}. Mend them and upload the file again; nothing runs before.", "오류 {count}개. 고쳐서 다시 올려 주세요. 그 전에는 실행되지 않습니다.",
    ),
    "eval_where": ("位置", "位置", "Where", "위치"),
    "eval_field": ("字段", "欄位", "Field", "필드"),
    "eval_wrong": ("问题", "問題", "Problem", "문제"),
    "eval_remedy": ("怎么改", "怎麼改", "Remedy", "해결"),
    "eval_line": ("第 {number} 行", "第 {number} 行", "line {number}", "{number}번째 줄"),
    "eval_row": ("第 {number} 行", "第 {number} 列", "row {number}", "{number}번째 행"),
    "eval_item": ("第 {number} 项", "第 {number} 項", "item {number}", "{number}번째 항목"),
    "eval_more": ("还有 {count} 处。", "還有 {count} 處。", "And {count} more.", "외 {count}개."),
    "eval_first": ("前 {count} 段对话", "前 {count} 段對話", "The first {count} dialogues", "처음 대화 {count}개"),
    "patient": ("患者", "患者", "Patient", "환자"),
    "doctor": ("医生", "醫生", "Doctor", "의사"),
    "eval_waiting": (
        "排队中，轮到时自动开始…", "排隊中，輪到時自動開始…", "Waiting for its turn …", "차례를 기다리는 중…",
    ),
    "eval_running": (
        "正在评测。关闭页面会停下，完成的都在。", "正在評測。關閉頁面會停下，完成的都在。",
        "Running. Closing the page stops it; what is done is kept.", "평가 중입니다. 페이지를 닫으면 멈추며 끝난 것은 남습니다.",
    ),
    "eval_counting": ("正在计算指标…", "正在計算指標…", "computing the figures …", "지표 계산 중…"),
    "eval_progress": ("{done} / {total} 条回答", "{done} / {total} 條回答", "{done} of {total} replies", "답변 {done} / {total}"),
    "eval_failed": ("失败 {count}", "失敗 {count}", "{count} failed", "실패 {count}"),
    "eval_left": ("还要 {clock}", "還要 {clock}", "{clock} left", "{clock} 남음"),
    "eval_stopped": (
        "已停下，完成的 {count} 条都在。按“继续评测”接着做；改了设置会从头开始。", "已停下，完成的 {count} 條都在。按「繼續評測」接著做；改了設定會從頭開始。",
        "Stopped; the {count} replies that were done are kept. Continue goes on with them; other settings begin anew.",
        "멈췄습니다. 끝난 답변 {count}개는 남아 있습니다. '이어서 평가'로 계속하며, 설정을 바꾸면 처음부터 시작합니다.",
    ),
    "eval_done": ("评测完成，共 {count} 条回答。", "評測完成，共 {count} 條回答。", "Done: {count} replies.", "완료: 답변 {count}개."),
    "eval_done_failed": (
        "评测完成；{count} 条里有 {failed} 条失败，不计入分数。按“继续评测”只重试这些。", "評測完成；{count} 條裡有 {failed} 條失敗，不計入分數。按「繼續評測」只重試這些。",
        "Done, but {failed} of {count} replies failed, which are no scores. Continue tries only these again.",
        "완료. 답변 {count}개 중 {failed}개는 실패하여 점수에 넣지 않습니다. '이어서 평가'로 이것만 다시 시도합니다.",
    ),
    "eval_gone": (
        "文件已不在服务器上（保存至多一天），请重新上传。", "檔案已不在伺服器上（保存至多一天），請重新上傳。",
        "The file is no longer on the server, which keeps it for a day at most: please upload it again.",
        "파일이 서버에 없습니다(최대 하루 보관). 다시 올려 주세요.",
    ),
    "eval_elsewhere": (
        "这份评测正在另一个页面里进行，请等它结束。", "這份評測正在另一個頁面裡進行，請等它結束。",
        "This evaluation is running in another page: wait until it ends.", "이 평가는 다른 페이지에서 진행 중입니다. 끝날 때까지 기다려 주세요.",
    ),
    "eval_forgotten": ("文件和结果已删除。", "檔案和結果已刪除。", "File and results are deleted.", "파일과 결과를 지웠습니다."),
    "eval_figure": ("指标", "指標", "Figure", "지표"),
    "eval_replies": ("回答", "回答", "replies", "답변"),
    "eval_errors": ("失败", "失敗", "failed", "실패"),
    "eval_legend": ("指标的定义", "指標的定義", "What the figures mean", "지표의 뜻"),
    "eval_report": ("评测报告", "評測報告", "Evaluation report", "평가 보고서"),
    "eval_own": ("在新页面里打开报告", "在新頁面裡打開報告", "Open the report as a page of its own", "보고서를 새 페이지에서 열기"),
    "save_report": ("下载 report.html", "下載 report.html", "Download report.html", "report.html 저장"),
    "save_rows": ("下载 rows.jsonl", "下載 rows.jsonl", "Download rows.jsonl", "rows.jsonl 저장"),
    "save_metrics": ("下载 metrics.json", "下載 metrics.json", "Download metrics.json", "metrics.json 저장"),
    "now_please": ("请直接给出建议。", "請直接給出建議。", "请直接给出建议。", "请直接给出建议。"),
}  # fmt: skip
LANGS: tuple[Lang, ...] = ("zh-CN", "zh-TW", "en", "ko")


def say(lang: str, key: str, **values: object) -> str:
    words = WORDS[key]
    return words[LANGS.index(cast(Lang, lang))].format(**values)


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

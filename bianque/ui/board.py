"""The leaderboard: ratings as a table and a plot, who won against whom, and where the votes are."""

from __future__ import annotations

import asyncio
import html
import threading
from collections.abc import Callable, Iterable, Sequence

import gradio as gr

from bianque.arena import ratings
from bianque.arena.battle import CATEGORIES, BadLine, written
from bianque.arena.feedback import Share
from bianque.arena.ratings import Ranking, Standing
from bianque.arena.votes import Votes, Where
from bianque.i18n import say
from bianque.ui.events import QUICK, saved
from bianque.ui.i18n import lang_of, t
from bianque.ui.render import paragraph

ALL = ""  # the choice of no category
COLUMNS = ("rank", "name", "rating", "elo", "votes", "wins", "losses", "ties", "both_bad_share")


class Board:
    """The leaderboard over the kept votes. Votes are counted once, however many look at them."""

    def __init__(self, votes: Votes, where: Callable[[], Where]) -> None:
        self.votes, self.where = votes, where
        self.counting = threading.Lock()
        self.counted: dict[str, tuple[tuple[int, int], Ranking, list[BadLine]]] = {}

    def layout(self) -> None:
        with gr.Accordion(t("leaderboard"), open=False, elem_id="bq-board-fold") as self.fold:
            with gr.Row(elem_id="bq-board-line"):
                self.category = gr.Dropdown(
                    categories("zh-CN"), value=ALL, label=t("category"), show_label=False, container=False,
                    filterable=False, min_width=160, elem_id="bq-board-category",
                )  # fmt: skip
                self.refresh = gr.Button(t("refresh"), size="sm")
                self.save = gr.Button(t("save_votes"), size="sm")
            self.table = gr.HTML(empty("zh-CN"), padding=False, elem_id="bq-board")
        self.text, self.filename = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def wire(self) -> None:
        for ask in (self.fold.expand, self.refresh.click, self.category.input):
            ask(self.show, [self.category], [self.table], **QUICK)
        saved(self.save.click(self.lines, None, [self.text, self.filename], **QUICK), self.text, self.filename)

    async def show(self, category: str, request: gr.Request) -> str:
        lang, where = lang_of(request), self.where()
        found, problems = await asyncio.to_thread(self.count, category or ALL)
        liked = await asyncio.to_thread(self.votes.feedback.shares)
        return board_html(found, where, problems, lang) + liked_html(liked, lang)

    async def lines(self) -> tuple[str, str]:
        """All votes as lines of JSON, without what was said."""
        votes, _ = await asyncio.to_thread(self.votes.read)
        return "".join(written(vote, text=False).decode() for vote in votes), "bianque-votes.jsonl"

    def count(self, category: str) -> tuple[Ranking, list[BadLine]]:
        """The ranking of a category, computed anew only where votes have come; takes a second for thousands."""
        with self.counting:
            mark, known = self.votes.mark(), self.counted.get(category)
            if known is None or known[0] != mark:
                votes, problems = self.votes.read()
                known = self.counted[category] = (mark, ratings.rank(votes, category or None), problems)
            return known[1:]


def categories(lang: str) -> list[tuple[str, str]]:
    return [(say(lang, "all_categories"), ALL), *((say(lang, f"category_{name}"), name) for name in CATEGORIES)]


def board_html(found: Ranking, where: Where, problems: Sequence[BadLine], lang: str) -> str:
    """The whole board as HTML; names in votes may come from anywhere and are escaped."""
    if not found.votes:
        return empty(lang) + votes_place(where, problems, lang)
    parts = [counted(found, lang), standings(found, lang), ratings.plot(found, lang)]
    if len(found.standings) > 1:
        parts.append(matrix(found, lang))
    return "".join(parts) + small(say(lang, "board_how", few=ratings.FEW)) + votes_place(where, problems, lang)


def liked_html(found: Sequence[Share], lang: str) -> str:
    """The share of 👍 by model; nothing while nobody has said."""
    if not found:
        return ""
    heads = ("name", "liked", "liked_share")
    rows = [
        (
            share.model,
            f"{share.liked} / {share.count}",
            f"{share.liked / share.count:.0%} [{share.low:.0%}, {share.high:.0%}]",
        )
        for share in found
    ]
    words = [say(lang, f"board_{head}", share="95%") for head in heads]
    return scroll_table(say(lang, "liked_replies"), words, rows, {0})


def empty(lang: str) -> str:
    return f'<p class="bq-empty">{html.escape(say(lang, "no_votes"))}</p>'


def counted(found: Ranking, lang: str) -> str:
    return small(say(
        lang, "some_votes", count=found.votes, tie=percent(found.tie), bad=percent(found.both_bad),
        first=percent(found.first),
    ))  # fmt: skip


def standings(found: Ranking, lang: str) -> str:
    words = [say(lang, f"board_{column}", share=f"{found.confidence:.0%}") for column in COLUMNS]
    several = any(standing.group > 1 for standing in found.standings)
    return scroll_table(
        say(lang, "leaderboard"), words, [row(standing, lang, several) for standing in found.standings], {0, 1}
    )


def row(standing: Standing, lang: str, several: bool) -> list[str]:
    known = standing.counts
    name = say(lang, "in_group", name=standing.name, group=standing.group) if several else standing.name
    ends = f" [{standing.low:.0f}, {standing.high:.0f}]" if standing.interval else ""
    rating = f"{standing.rating:.0f}{ends}{' *' if standing.prior else ''}"
    counts = (known.votes, known.wins, known.losses, known.ties)
    bad = percent(known.both_bad / known.votes if known.votes else None)
    return [str(standing.rank), name, rating, f"{standing.elo:.0f}", *map(str, counts), bad]


def matrix(found: Ranking, lang: str) -> str:
    """The share of row over column, a tie as half, with how often the two met."""
    names = [standing.name for standing in found.standings]
    rows = [
        [name, *(cell(share, met) for share, met in zip(shares, games, strict=True))]
        for name, shares, games in zip(names, found.shares, found.games, strict=True)
    ]
    return scroll_table(say(lang, "win_rates"), [say(lang, "board_name"), *names], rows, {0})


def cell(share: float | None, games: int) -> str:
    return "–" if share is None else f"{percent(share)} ({games})"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def scroll_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], texts: set[int]) -> str:
    """A table that scrolls sideways by itself where the window is narrow; columns not in `texts` are numbers."""
    kind = lambda column: "" if column in texts else ' class="bq-number"'
    top = "".join(f'<th scope="col"{kind(i)}>{html.escape(head)}</th>' for i, head in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{html.escape(value)}</td>" for i, value in enumerate(values)) + "</tr>"
        for values in rows
    )
    name = html.escape(caption)
    return (
        f'<div class="bq-scroll" tabindex="0" role="region" aria-label="{name}"><table><caption>{name}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def votes_place(where: Where, problems: Sequence[BadLine], lang: str) -> str:
    """Where votes go, what failed there, and how many lines of the files are none."""
    parts = [say(lang, "votes_pushed", repo=where.repo) if where.repo else say(lang, "votes_here")]
    if where.pushed:
        parts.append(say(lang, "last_pushed", time=where.pushed))
    if where.error:
        parts.append(say(lang, "push_failed", error=where.error))
    if problems:
        parts.append(say(lang, "no_vote_lines", count=len(problems)))
    return small(" ".join(parts))


def small(text: str) -> str:
    return paragraph(text, "bq-small")

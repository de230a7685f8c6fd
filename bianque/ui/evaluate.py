"""The Evaluate tab: a file of dialogues, who replies to them, and figures and a report one can open and read.

The visitor's browser keeps the name of a folder on the server, in which the file and all finished rows are: after a
cancel, a reload or a restart of the server the same question goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides
from bianque.data import readers
from bianque.errors import BadInput, Busy
from bianque.evaluate import quota
from bianque.evaluate.evaluation import TASKS, Outcome, RunRequest, evaluate
from bianque.evaluate.quota import MOST_AT_ONCE, MOST_RECORDED, MOST_ROWS, RESULTS, RUNS_AT_ONCE, Folders
from bianque.evaluate.run import RunProgress
from bianque.evaluate.store import METRICS, REPORT, ROWS, read
from bianque.i18n import say
from bianque.ui import column, script, settings_panel, sheets
from bianque.ui.i18n import lang_of, t

Changes = dict[Any, Any]  # component → what it becomes
FEW = "5"  # dialogues, unless the visitor wants more
ADDRESS = "evaluations/{name}/report.html"  # as the page sees it
SAVED = {"save_report": REPORT, "save_rows": ROWS, "save_metrics": METRICS}


class Evaluate:
    """The tab over a session. Built once; of visitors it keeps what is in their folders."""

    def __init__(self, session: Session, folders: Folders | None = None) -> None:
        self.session = session
        self.folders = folders or Folders()
        self.running = set[Path]()  # folders in which a run is on its way

    def build(self) -> None:
        """Lay out and wire the tab; called inside the page's `gr.Tabs`."""
        with gr.Tab(t("evaluate"), id="evaluate", elem_id="bq-evaluate-tab") as tab:
            self.layout()
        self.wire(tab)

    def layout(self) -> None:
        self.kept = gr.BrowserState({}, storage_key="bianque-evaluate", secret="bianque-keeps-nothing")
        self.seen = gr.State(False)
        self.export, self.filename = gr.Textbox(visible=False), gr.Textbox(visible=False)
        self.why = gr.HTML(why("zh-CN"), padding=False, elem_id="bq-eval-why")
        self.drop = gr.File(label=t("eval_file"), height=120, elem_id="bq-eval-file")
        self.preview = gr.HTML("", padding=False, elem_id="bq-eval-preview")
        with gr.Row(elem_classes="bq-eval-form"):
            self.tasks = gr.CheckboxGroup(
                tasks("zh-CN"), value=["next"], label=t("eval_tasks"), info=t("eval_tasks_why"), min_width=280,
            )  # fmt: skip
            self.who = gr.Dropdown(
                column.names(self.session.cards, "zh-CN"), value=["auto"], multiselect=True, allow_custom_value=True,
                label=t("eval_who"), info=t("eval_who_why"), min_width=280, elem_id="bq-eval-who",
            )  # fmt: skip
        with gr.Row(elem_classes="bq-eval-form"):
            short: dict[str, Any] = {"max_lines": 1, "max_length": 20, "min_width": 120}
            self.limit = gr.Textbox(FEW, label=t("eval_limit"), **short)
            self.at_once = gr.Dropdown(
                list(range(1, MOST_AT_ONCE + 1)), value=2, label=t("eval_at_once"), filterable=False, min_width=120
            )
            self.seed = gr.Textbox("0", label=t("seed"), placeholder=t("default"), **short)
            self.most = gr.Textbox(label=t("max_new_tokens"), placeholder=t("default"), **short)
        with gr.Row(elem_id="bq-eval-actions", elem_classes="bq-actions"):
            off: dict[str, Any] = {"size": "sm", "interactive": False}
            self.start = gr.Button(t("eval_start"), variant="primary", elem_id="bq-eval-start", **off)
            self.cancel = gr.Button(t("eval_cancel"), **off)
            self.forget = gr.Button(t("eval_forget"), **off)
        self.note = gr.HTML("", padding=False, elem_id="bq-eval-note")
        self.bar = gr.HTML("", padding=False, elem_id="bq-eval-bar")
        self.figures = gr.DataFrame(
            visible=False, interactive=False, label=t("eval_figure"), max_height=2000, pinned_columns=1,
            elem_id="bq-eval-figures",
        )  # fmt: skip
        self.legend = gr.HTML("", padding=False, elem_id="bq-eval-legend")
        with gr.Row(visible=False, elem_classes="bq-actions") as self.saves:
            self.save = {name: gr.Button(t(name), size="sm") for name in SAVED}
        self.files = {name: gr.State(file) for name, file in SAVED.items()}  # here: beside tabs it would count as one
        self.frame = gr.HTML("", padding=False, elem_id="bq-eval-report")

    @property
    def form(self) -> list[Any]:
        """What `asked` reads, in its order."""
        return [self.tasks, self.who, self.limit, self.at_once, self.seed, self.most]

    def wire(self, tab: gr.Tab) -> None:
        quick: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
        turn = quick | {"queue": True, "concurrency_id": "evaluate", "concurrency_limit": RUNS_AT_ONCE}
        results = [
            self.start,
            self.cancel,
            self.forget,
            self.note,
            self.bar,
            self.figures,
            self.legend,
            self.saves,
            self.frame,
        ]
        every = [self.kept, self.seen, self.why, self.drop, self.preview, *self.form, *results]
        tab.select(self.greet, [self.kept, self.seen], every, **quick)
        self.drop.upload(self.take, [self.drop, self.kept], every, **quick)
        begun = self.start.click(self.begin, [self.kept, *self.form], every, **quick)
        run = begun.then(self.run, [self.kept, *self.form], every, **turn)
        stopped = self.cancel.click(None, None, None, cancels=[run], **quick)
        stopped.then(self.show, [self.kept], every, **quick)
        self.forget.click(self.remove, [self.kept], every, **quick)
        for name, button in self.save.items():
            written = button.click(self.written, [self.kept, self.files[name]], [self.export, self.filename], **quick)
            written.then(None, [self.export, self.filename], None, js=script.js("save"), api_visibility="private")

    # --- a file ---------------------------------------------------------------------------------------------------

    def take(self, path: str | None, kept: Any, request: gr.Request) -> Changes:
        """A file has come: it goes into a folder of its own, and the one before it goes away."""
        lang = lang_of(request)
        if not path:
            return {self.drop: None}
        self.folders.remove(name_of(kept))
        try:
            kept = {"folder": self.folders.add(Path(path))}
        except Exception as error:
            wrong = sheets.alert(str(quota.failure(error, self.folders.root)))
            return self.blank(lang) | {self.kept: {}, self.preview: wrong}
        looked, ready = self.look(kept, lang)
        can = {self.start: gr.Button(interactive=ready), self.forget: gr.Button(interactive=True)}
        return self.blank(lang) | {self.kept: kept} | looked | can

    def look(self, kept: Any, lang: str) -> tuple[Changes, bool]:
        """What is in the file, and whether it can be used: not while there is a problem."""
        path = self.folders.data(name_of(kept))
        try:
            if path is None:
                raise BadInput(say(lang, "eval_gone"))
            found = readers.preview(path)
        except Exception as error:
            return {self.preview: sheets.alert(str(quota.failure(error, self.folders.root)))}, False
        recorded = any(case.recorded is not None for case in found.dialogues)
        given = ["recorded"] if recorded else chosen_tasks(kept) or ["next"]
        return {
            self.preview: sheets.preview(path.name, found, lang), self.who: self.names(kept, lang, not recorded),
            self.tasks: gr.CheckboxGroup(choices=tasks(lang, recorded), value=given, interactive=not recorded),
        }, bool(found.dialogues) and not found.problems  # fmt: skip

    def remove(self, kept: Any, request: gr.Request) -> Changes:
        lang = lang_of(request)
        self.folders.remove(name_of(kept))
        return self.blank(lang) | {self.kept: {}, self.note: sheets.line(say(lang, "eval_forgotten"))}

    def blank(self, lang: str) -> Changes:
        """No file, no results."""
        off = gr.Button(interactive=False)
        return {
            self.seen: True, self.drop: gr.File(None), self.preview: "", self.note: "", self.bar: "", self.frame: "",
            self.figures: gr.DataFrame(visible=False), self.legend: "", self.saves: gr.Row(visible=False), self.cancel: off, self.forget: off,
            self.start: gr.Button(t("eval_start"), interactive=False),
            self.tasks: gr.CheckboxGroup(choices=tasks(lang), value=["next"], interactive=True),
            self.who: self.names({}, lang),
        }  # fmt: skip

    def names(self, kept: Any, lang: str, visible: bool = True) -> gr.Dropdown:
        """Who can reply, and who was chosen for the last run."""
        form = form_of(kept)
        return gr.Dropdown(
            choices=column.names(self.session.cards, lang), value=form[1] if form else ["auto"], visible=visible
        )

    # --- a run ----------------------------------------------------------------------------------------------------

    def begin(self, request: gr.Request, kept: Any, *form: Any) -> Changes:
        """It waits for its turn; nothing else can be begun meanwhile."""
        off = gr.Button(interactive=False)
        note = sheets.line(say(lang_of(request), "eval_waiting"))
        kept = {"folder": name_of(kept), "form": list(form)}
        return {
            self.kept: kept, self.start: off, self.forget: off, self.cancel: gr.Button(interactive=True),
            self.drop: gr.File(visible=False), self.note: note, self.bar: "", self.legend: "", self.frame: "",
            self.figures: gr.DataFrame(visible=False),
            self.saves: gr.Row(visible=False),
        }  # fmt: skip

    async def run(self, request: gr.Request, kept: Any, *form: Any) -> AsyncGenerator[Changes, None]:
        """Progress, and at last the results. What is done stands on the disk at each step, so a stop loses nothing."""
        lang, throttle, last = lang_of(request), Throttle(), None
        wrong, folder = "", self.folders.find(name_of(kept))
        try:
            path = self.folders.data(name_of(kept))
            if folder is None or path is None:
                raise BadInput(say(lang, "eval_gone"))
            asked = await asyncio.to_thread(self.asked, path, form)
            asked = await asyncio.to_thread(quota.resumed, asked, self.session, folder / RESULTS)
            steps = evaluate(self.session, asked, folder / RESULTS)
            async with self.alone(folder, lang), aclosing(with_heartbeat(steps)) as heard:
                async for step in heard:
                    if isinstance(step, RunProgress) and (last is None or throttle.ready() or step.done == step.total):
                        note = {} if last else {self.note: sheets.line(say(lang, "eval_running"))}
                        last = step
                        yield {self.bar: sheets.progress(step, lang)} | note
                    elif not isinstance(step, Outcome):
                        yield {self.seen: True}
        except Exception as error:
            wrong = sheets.alert(str(quota.failure(error, folder)))
        ended = await asyncio.to_thread(self.ended, folder, lang)
        yield ended | ({self.note: wrong} if wrong else {})

    @asynccontextmanager
    async def alone(self, folder: Path, lang: str) -> AsyncGenerator[None, None]:
        """Busy if a run is on its way in this folder, from another page of the same browser."""
        if folder in self.running:
            raise Busy(say(lang, "eval_elsewhere"))
        self.running.add(folder)
        try:
            yield
        finally:
            self.running.discard(folder)

    def asked(self, path: Path, form: Sequence[Any]) -> RunRequest:
        """What the form says; BadInput names the field."""
        chosen, who, limit, at_once, seed, most = form
        drawn = SamplingOverrides(
            max_new_tokens=settings_panel.number("max_new_tokens", most, int), seed=settings_panel.number("seed", seed, int)
        )  # fmt: skip
        count = settings_panel.number("limit", limit, int)
        return quota.ask(path, chosen or (), list(map(str, who or ())), drawn, count, int(at_once or 1))

    def show(self, kept: Any, request: gr.Request) -> Changes:
        return self.ended(self.folders.find(name_of(kept)), lang_of(request))

    def ended(self, folder: Path | None, lang: str) -> Changes:
        """No run is on its way: what the folder has of it, and what can be done next."""
        can, off = gr.Button(interactive=True), gr.Button(interactive=False)
        changes = {
            self.cancel: off, self.drop: gr.File(visible=True), self.start: can if folder else off,
            self.forget: can if folder else off,
        }  # fmt: skip
        if not folder:
            return changes
        again, rows = gr.Button(t("eval_continue"), interactive=True), read(folder / RESULTS)
        failed = sum(row.error is not None for row in rows)
        if not all((folder / RESULTS / name).exists() for name in (REPORT, METRICS)):
            if not rows:
                return changes | {self.note: ""}
            return changes | {self.start: again, self.note: note_line(lang, "eval_stopped", count=len(rows) - failed)}
        metrics = json.loads((folder / RESULTS / METRICS).read_text("utf-8"))
        count, failed = metrics["rows"], sum(metrics["errors"].values())
        done = note_line(lang, "eval_done_failed" if failed else "eval_done", count=count, failed=failed)
        return changes | {
            self.start: again if failed else gr.Button(t("eval_start"), interactive=True), self.note: done,
            self.bar: sheets.bar(count, count, lang), self.legend: sheets.legend(metrics, lang),
            self.figures: gr.DataFrame(sheets.figures(metrics, lang), visible=True),
            self.frame: sheets.frame(ADDRESS.format(name=folder.name), lang),
            self.saves: gr.Row(visible=True),
        }  # fmt: skip

    # --- the rest -------------------------------------------------------------------------------------------------

    def greet(self, kept: Any, seen: bool, request: gr.Request) -> Changes:
        """The tab is opened for the first time: the words Gradio does not translate, and what the folder has."""
        lang = lang_of(request)
        if seen:
            return {self.seen: True}
        changes = {
            self.seen: True, self.why: why(lang), self.tasks: gr.CheckboxGroup(choices=tasks(lang)),
            self.who: self.names(kept, lang),
        }  # fmt: skip
        folder = self.folders.find(name_of(kept))
        if not folder:
            lost = {self.kept: {}, self.note: note_line(lang, "eval_gone")} if name_of(kept) else {}
            return changes | lost
        state, (looked, ready) = self.ended(folder, lang), self.look(kept, lang)
        if not ready:
            state[self.start] = gr.Button(interactive=False)
        changes |= state | looked
        if form := form_of(kept):
            changes |= dict(zip(self.form[2:], form[2:], strict=True))
        return changes

    def written(self, kept: Any, name: str) -> tuple[str, str]:
        """A file of the results, to be saved."""
        folder = self.folders.find(name_of(kept))
        path = folder / RESULTS / name if folder and name in SAVED.values() else None
        return (path.read_text("utf-8", "replace"), name) if path and path.exists() else ("", name)


def reports(folders: Folders) -> list[Route]:
    """Where a visitor's own report is read; whoever knows the folder's name may. It is no part of this page's origin."""
    headers = {
        "Content-Security-Policy": f"sandbox {sheets.SANDBOX}", "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex",
    }  # fmt: skip

    def report(request: Request) -> Response:
        folder = folders.find(request.path_params["name"])
        path = folder / RESULTS / REPORT if folder else None
        if not path or not path.exists():
            return PlainTextResponse("没有这份报告，或已删除 (no such report, or it is deleted)", 404, headers)
        return FileResponse(path, headers=headers, media_type="text/html")

    return [Route("/" + ADDRESS, report)]


def why(lang: str) -> str:
    return sheets.line(say(lang, "eval_why", rows=MOST_ROWS, recorded=MOST_RECORDED))


def note_line(lang: str, key: str, **values: object) -> str:
    return sheets.line(say(lang, key, **values))


def tasks(lang: str, recorded: bool = False) -> list[tuple[str, str]]:
    return [(say(lang, f"task_{task}"), task) for task in (("recorded",) if recorded else TASKS)]


def name_of(kept: Any) -> Any:
    """The name of the visitor's folder, as the browser says; whoever finds it checks it."""
    return kept.get("folder") if isinstance(kept, dict) else None


def form_of(kept: Any) -> list[Any]:
    """The form of the last run as a browser kept it; empty if it is none."""
    form = kept.get("form") if isinstance(kept, dict) else None
    if not isinstance(form, list) or len(form) != 6 or not all(texts(part) for part in form[:2]):
        return []
    return form if all(part is None or isinstance(part, str | int) for part in form[2:]) else []


def chosen_tasks(kept: Any) -> list[str]:
    return [task for task in TASKS if form_of(kept) and task in form_of(kept)[0]]


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)

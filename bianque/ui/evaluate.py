"""The Evaluate tab: a file of dialogues or scripted patients, who replies to them, and figures and a report to read.

The visitor's browser keeps the name of a folder on the server, in which the file and all finished rows are: after a
cancel, a reload or a restart of the server the same question goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from bianque.consult.pacing import Throttle, with_heartbeat
from bianque.consult.session import Session
from bianque.consult.spec import SamplingOverrides
from bianque.data import readers
from bianque.errors import BadInput, Busy
from bianque.evaluate import quota
from bianque.evaluate.evaluation import TASKS, evaluate
from bianque.evaluate.quota import MOST_AT_ONCE, RUNS_AT_ONCE, Folders
from bianque.evaluate.run import RunProgress
from bianque.i18n import say
from bianque.ui import column, script, settings_panel, sheets
from bianque.ui.events import PRIVATE, QUICK, saved
from bianque.ui.i18n import lang_of, t
from bianque.ui.render import alert, paragraph
from bianque.ui.results import ADDRESS, KINDS, SAMPLE, Result, RunKind, form_of, kind_of, name_of

Changes = dict[Any, Any]  # component → what it becomes
FEW = "5"  # dialogues, unless the visitor wants more
FILES = 3  # of a result that can be saved


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
        source = gr.Radio(
            sources("zh-CN"),
            value="file",
            label=t("eval_source"),
            show_label=False,
            container=False,
            elem_id="bq-eval-source",
        )
        with gr.Column() as self.filed:
            self.drop = gr.File(label=t("eval_file"), height=120, elem_id="bq-eval-file")
            self.format = gr.HTML(sheets.format_html("zh-CN"), padding=False, elem_id="bq-eval-format")
            with gr.Row(elem_classes="bq-actions"):
                self.sample = gr.Button(t("eval_sample"), size="sm", elem_id="bq-eval-sample")
        self.preview = gr.HTML("", padding=False, elem_id="bq-eval-preview")
        with gr.Row(elem_classes="bq-eval-form"):
            asked = gr.CheckboxGroup(
                tasks("zh-CN"), value=["next"], label=t("eval_tasks"), info=t("eval_tasks_why"), min_width=280,
            )  # fmt: skip
            who = gr.Dropdown(
                column.names(self.session.cards, "zh-CN"), value=["auto"], multiselect=True, allow_custom_value=True,
                label=t("eval_who"), info=t("eval_who_why"), min_width=280, elem_id="bq-eval-who",
            )  # fmt: skip
        with gr.Row(elem_classes="bq-eval-form"):
            short: dict[str, Any] = {"max_lines": 1, "max_length": 20, "min_width": 120}
            limit = gr.Textbox(FEW, label=t("eval_limit"), **short)
            at_once = gr.Dropdown(
                list(range(1, MOST_AT_ONCE + 1)), value=2, label=t("eval_at_once"), filterable=False, min_width=120
            )
            seed = gr.Textbox("0", label=t("seed"), placeholder=t("default"), **short)
            most = gr.Textbox(label=t("max_new_tokens"), placeholder=t("default"), **short)
        # What a run is asked for, by the name under which the browser keeps it.
        self.fields: dict[str, Any] = {
            "source": source, "tasks": asked, "who": who, "limit": limit, "at_once": at_once, "seed": seed, "most": most,
        }  # fmt: skip
        with gr.Row(elem_id="bq-eval-actions", elem_classes="bq-actions"):
            off: dict[str, Any] = {"size": "sm", "interactive": False}
            self.start = gr.Button(t("eval_start"), variant="primary", elem_id="bq-eval-start", **off)
            self.cancel = gr.Button(t("eval_cancel"), **off)
            self.forget = gr.Button(t("eval_forget"), **off)
        self.results()

    def results(self) -> None:
        """Where progress stands, and then, in its place, what came of it."""
        self.note = gr.HTML("", padding=False, elem_id="bq-eval-note")
        self.bar = gr.HTML("", padding=False, elem_id="bq-eval-bar")
        self.figures = gr.DataFrame(
            visible=False, interactive=False, label=t("eval_figure"), max_height=2000, pinned_columns=1,
            elem_id="bq-eval-figures",
        )  # fmt: skip
        self.legend = gr.HTML("", padding=False, elem_id="bq-eval-legend")
        with gr.Row(visible=False, elem_classes="bq-actions") as self.saves:
            self.save = [gr.Button("", size="sm") for _ in range(FILES)]
            self.places = [gr.State(place) for place in range(FILES)]  # here: beside tabs it would count as one
        self.frame = gr.HTML("", padding=False, elem_id="bq-eval-report")

    def wire(self, tab: gr.Tab) -> None:
        turn: Any = {**QUICK, "queue": True, "concurrency_id": "evaluate", "concurrency_limit": RUNS_AT_ONCE}
        form, results = (
            list(self.fields.values()),
            [self.note, self.bar, self.figures, self.legend, self.saves, self.frame],
        )
        every = [self.kept, self.seen, self.why, self.format, self.filed, self.drop, self.preview, *form, *results]
        every += [self.start, self.cancel, self.forget, *self.save]
        given: Any = {self.kept, *form}
        tab.select(self.greet, [self.kept, self.seen], every, **QUICK)
        self.fields["source"].input(self.choose, [self.fields["source"], self.kept], every, **QUICK)
        self.drop.upload(self.take, [self.drop, self.kept], every, **QUICK)
        begun = self.start.click(self.begin, given, every, **QUICK)
        begun.then(None, None, None, js=script.js("to_results"), **PRIVATE)
        run = begun.then(self.run, given, every, **turn)
        run.then(None, None, None, js=script.js("to_results"), **PRIVATE)
        stopped = self.cancel.click(None, None, None, cancels=[run], **QUICK)
        stopped.then(self.show, [self.kept], every, **QUICK)
        self.forget.click(self.remove, [self.kept], every, **QUICK)
        files: Any = [self.export, self.filename]
        saved(self.sample.click(self.sampled, None, files, **QUICK), *files)
        for place, button in zip(self.places, self.save, strict=True):
            saved(button.click(self.written, [self.kept, place], files, **QUICK), *files)

    # --- what is asked --------------------------------------------------------------------------------------------

    def choose(self, source: str, kept: Any, request: gr.Request) -> Changes:
        """Dialogues of a file, or scripted patients, who need none."""
        lang = lang_of(request)
        if source == "patients":
            ready = gr.Button(say(lang, "eval_start"), interactive=True)
            return self.sourced(source, lang) | {
                self.preview: "",
                self.start: ready,
                self.fields["who"]: gr.Dropdown(visible=True),
            }
        looked, ready_ = self.look(kept, lang) if self.folders.data(name_of(kept)) else ({}, False)
        return (
            self.sourced(source, lang) | looked | {self.start: gr.Button(say(lang, "eval_start"), interactive=ready_)}
        )

    def sourced(self, source: str, lang: str) -> Changes:
        filed = source != "patients"
        return {
            self.filed: gr.Column(visible=filed), self.fields["tasks"]: gr.CheckboxGroup(visible=filed),
            self.fields["limit"]: gr.Textbox(label=say(lang, "eval_limit" if filed else "eval_patients")),
        }  # fmt: skip

    def take(self, path: str | None, kept: Any, request: gr.Request) -> Changes:
        """A file has come: it goes into a folder of its own, and the one before it goes away."""
        lang = lang_of(request)
        if not path:
            return {self.drop: None}
        self.folders.remove(name_of(kept))
        try:
            kept = {"folder": self.folders.add(Path(path))}
        except Exception as error:
            wrong = self.wrong(error, lang)
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
            return {self.preview: self.wrong(error, lang)}, False
        recorded = any(case.recorded is not None for case in found.dialogues)
        before = [task for task in TASKS if task in form_of(kept).get("tasks", ())]
        given = ["recorded"] if recorded else before or ["next"]
        return {
            self.preview: sheets.preview(path.name, found, lang), self.fields["who"]: self.names(kept, lang, not recorded),
            self.fields["tasks"]: gr.CheckboxGroup(
                choices=tasks(lang, recorded), value=given, interactive=not recorded, visible=True
            ),
        }, bool(found.dialogues) and not found.problems  # fmt: skip

    def wrong(self, error: Exception, lang: str) -> str:
        return alert(str(quota.failure(error, self.folders.root)), lang)

    def remove(self, kept: Any, request: gr.Request) -> Changes:
        lang = lang_of(request)
        self.folders.remove(name_of(kept))
        return self.blank(lang) | {self.kept: {}, self.note: paragraph(say(lang, "eval_forgotten"))}

    def blank(self, lang: str) -> Changes:
        """No file, no results."""
        off = gr.Button(interactive=False)
        return {
            **self.sourced("file", lang), self.seen: True, self.drop: gr.File(None), self.preview: "", self.note: "", **self.empty(),
            self.cancel: off, self.forget: off, self.start: gr.Button(say(lang, "eval_start"), interactive=False),
            self.fields["source"]: "file", self.fields["who"]: self.names({}, lang),
            self.fields["tasks"]: gr.CheckboxGroup(choices=tasks(lang), value=["next"], interactive=True, visible=True),
        }  # fmt: skip

    def empty(self) -> Changes:
        """No results."""
        return {
            self.bar: "", self.legend: "", self.frame: "", self.figures: gr.DataFrame(visible=False),
            self.saves: gr.Row(visible=False),
        }  # fmt: skip

    def names(self, kept: Any, lang: str, visible: bool = True) -> gr.Dropdown:
        """Who can reply, and who was chosen for the last run."""
        return gr.Dropdown(
            choices=column.names(self.session.cards, lang), value=form_of(kept).get("who", ["auto"]), visible=visible
        )

    # --- a run ----------------------------------------------------------------------------------------------------

    def begin(self, request: gr.Request, data: Mapping[Any, Any]) -> Changes:
        """It waits for its turn; nothing else can be begun meanwhile."""
        off, lang, form = gr.Button(interactive=False), lang_of(request), self.form(data)
        name = name_of(data[self.kept])
        if form["source"] == "patients" and not self.folders.find(name):
            try:
                name = self.folders.new()
            except Exception as error:
                return {self.note: self.wrong(error, lang)}
        return {
            self.kept: {"folder": name, "form": form}, self.start: off, self.forget: off, **self.empty(),
            self.cancel: gr.Button(interactive=True), self.drop: gr.File(visible=False),
            self.note: paragraph(say(lang, "eval_waiting")),
        }  # fmt: skip

    def form(self, data: Mapping[Any, Any]) -> dict[str, Any]:
        return {name: data[field] for name, field in self.fields.items()}

    async def run(self, request: gr.Request, data: Mapping[Any, Any]) -> AsyncGenerator[Changes, None]:
        """Progress, and at last the results. What is done stands on the disk at each step, so a stop loses nothing."""
        lang, throttle, last, form = lang_of(request), Throttle(), None, self.form(data)
        kind = KINDS[form["source"]]
        wrong, folder = "", self.folders.find(name_of(data[self.kept]))
        try:
            if folder is None:
                raise BadInput(say(lang, "eval_gone"))
            steps = await asyncio.to_thread(self.steps, folder, form, lang)
            async with self.alone(folder, lang), aclosing(with_heartbeat(steps)) as heard:
                async for step in heard:
                    if not isinstance(step, RunProgress):
                        yield {self.seen: True}
                    elif last is None or throttle.ready() or step.done == step.total:
                        note = {} if last else {self.note: paragraph(say(lang, "eval_running"))}
                        last = step
                        yield {self.bar: sheets.progress(step, kind.unit, lang)} | note
        except Exception as error:
            wrong = self.wrong(error, lang)
        ended = await asyncio.to_thread(self.ended, folder, kind, lang)
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

    def steps(self, folder: Path, form: Mapping[str, Any], lang: str) -> AsyncGenerator[Any, None]:
        """The run that the form asks for, not yet begun; BadInput names the field that is wrong."""
        number = lambda name, key: settings_panel.field_number(name, form[key], int, lang)
        drawn = SamplingOverrides(max_new_tokens=number("max_new_tokens", "most"), seed=number("seed", "seed"))
        limit, at_once, who = number("limit", "limit"), int(form["at_once"] or 1), list(map(str, form["who"] or ()))
        if form["source"] == "patients":
            return quota.examine(self.session, who, drawn, limit, at_once, folder / quota.PATIENTS)
        if (path := self.folders.data(folder.name)) is None:
            raise BadInput(say(lang, "eval_gone"))
        asked = quota.ask(path, form["tasks"] or (), who, drawn, limit, at_once)
        asked = quota.resumed(asked, self.session, folder / quota.RESULTS)
        return evaluate(self.session, asked, folder / quota.RESULTS)

    def show(self, kept: Any, request: gr.Request) -> Changes:
        return self.ended(self.folders.find(name_of(kept)), kind_of(kept), lang_of(request))

    def ended(self, folder: Path | None, kind: RunKind, lang: str) -> Changes:
        """No run is on its way: what the folder has of it, and what can be done next."""
        can, off = gr.Button(interactive=True), gr.Button(interactive=False)
        changes = {
            self.cancel: off, self.drop: gr.File(visible=True), self.start: can if folder else off,
            self.forget: can if folder else off,
        }  # fmt: skip
        if not folder:
            return changes
        again, found = gr.Button(say(lang, "eval_continue"), interactive=True), kind.read(folder / kind.folder, lang)
        if not isinstance(found, Result):  # how many are done
            if not found:
                return changes | {self.note: ""}
            return changes | {self.start: again, self.note: note_line(lang, "eval_stopped", count=found)}
        key = "eval_done_failed" if found.failed else f"eval_done_{kind.unit}"
        done = note_line(lang, key, count=found.count, failed=found.failed)
        labels = [gr.Button(say(lang, "save_file", name=file)) for file in kind.files]
        return changes | dict(zip(self.save, labels, strict=True)) | {
            self.start: again if found.failed else gr.Button(say(lang, "eval_start"), interactive=True), self.note: done,
            self.bar: sheets.bar(found.count, found.count, lang), self.legend: found.legend,
            self.figures: gr.DataFrame(found.figures, visible=True),
            self.frame: sheets.frame(ADDRESS.format(name=folder.name, file=kind.files[0]), lang),
            self.saves: gr.Row(visible=True),
        }  # fmt: skip

    # --- the rest -------------------------------------------------------------------------------------------------

    def greet(self, kept: Any, seen: bool, request: gr.Request) -> Changes:
        """The tab is opened for the first time: the words Gradio does not translate, and what the folder has."""
        lang, form, kind = lang_of(request), form_of(kept), kind_of(kept)
        if seen:
            return {self.seen: True}
        changes = {
            self.seen: True, self.why: why(lang), self.format: sheets.format_html(lang),
            self.fields["source"]: gr.Radio(choices=sources(lang)), self.fields["who"]: self.names(kept, lang),
            self.fields["tasks"]: gr.CheckboxGroup(choices=tasks(lang)),
        }  # fmt: skip
        folder = self.folders.find(name_of(kept))
        if not folder:
            lost = {self.kept: {}, self.note: note_line(lang, "eval_gone")} if name_of(kept) else {}
            return changes | lost
        state = self.ended(folder, kind, lang)
        if kind.unit == "patients":
            changes |= self.sourced("patients", lang) | {
                self.fields["source"]: gr.Radio(choices=sources(lang), value="patients")
            }
        else:
            looked, ready = self.look(kept, lang)
            changes |= looked | ({} if ready else {self.start: gr.Button(interactive=False)})
            state = {name: value for name, value in state.items() if ready or name is not self.start}
        changes |= state
        for name in ("limit", "at_once", "seed", "most"):
            if name in form:
                label = {"label": say(lang, "eval_patients")} if name == "limit" and kind.unit == "patients" else {}
                changes[self.fields[name]] = type(self.fields[name])(value=form[name], **label)
        return changes

    def written(self, kept: Any, place: int) -> tuple[str, str]:
        """A file of the results, to be saved."""
        folder, kind = self.folders.find(name_of(kept)), kind_of(kept)
        path = folder / kind.folder / kind.files[place] if folder else None
        text = path.read_text("utf-8", "replace") if path and path.exists() else ""
        return text, kind.files[place]

    def sampled(self) -> tuple[str, str]:
        """A file as it may look."""
        return SAMPLE.read_text("utf-8"), SAMPLE.name


def why(lang: str) -> str:
    limits = {"rows": quota.MOST_ROWS, "recorded": quota.MOST_RECORDED, "patients": quota.MOST_PATIENTS}
    return paragraph(say(lang, "eval_why", **limits))


def note_line(lang: str, key: str, **values: object) -> str:
    return paragraph(say(lang, key, **values))


def tasks(lang: str, recorded: bool = False) -> list[tuple[str, str]]:
    return [(say(lang, f"task_{task}"), task) for task in (("recorded",) if recorded else TASKS)]


def sources(lang: str) -> list[tuple[str, str]]:
    return [(say(lang, f"eval_source_{source}"), source) for source in KINDS]

"""The knowledge base: every entry holds, an error names file, line, value and remedy, nothing to examine with is taught."""

from __future__ import annotations

import pytest
import yaml

from bianque.data import knowledge
from bianque.data.further import asides, further_openings
from bianque.data.knowledge import Complaint, Examination, Medicines, Opening, Pairs, Rule, bundled, examination
from bianque.data.strict_yaml import LOADER, load, plain
from bianque.errors import BadInput

PATH = knowledge.FOLDER / "complaints" / "insomnia.yaml"


@pytest.fixture
def entry():
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def written(tmp_path, entry):
    path = tmp_path / "insomnia.yaml"
    path.write_text(yaml.safe_dump(entry, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def test_every_bundled_complaint_is_read():
    found = bundled()
    assert len(found.complaints) >= 312 and len(found.generic.symptoms) >= 170
    assert all(name == entry.id for name, entry in found.entries.items())


def test_every_complaint_is_of_one_kind_and_a_family_names_nothing_it_is_not_told():
    found = bundled()
    like = [name for family in found.families.values() for name in family.like]
    assert sorted(like) == sorted(found.complaints)
    assert not any("{x}" in text for text in knowledge.texts(found.families))


def test_a_rule_holds_only_on_what_was_told():
    rule = Rule.model_validate({"if": {"a": "x", "b": ["y", "z"]}, "say": ["好"]})
    assert rule.holds({"a": "x", "b": "z"})
    assert not rule.holds({"a": "x"}) and not rule.holds({"a": "x", "b": "w"})


def test_an_opening_may_be_a_bare_text():
    assert Opening.model_validate("头疼").has == {}


def wrong_condition(entry):
    entry["advice"][1]["if"] = {"trigger": "nonsense"}


def no_such_slot(entry):
    entry["urgent"][0]["if"] = {"nowhere": "x"}


def last_with_condition(entry):
    entry["assess"][-1]["if"] = {"trigger": "stress"}


def twice(entry):
    entry["slots"][1]["key"] = entry["slots"][0]["key"]


def hidden(entry):
    wide, narrow = {"trigger": ["stress", "phone"]}, {"trigger": "stress"}
    entry["doctor"][:0] = [{"if": when, "say": ["去看看。"]} for when in (wide, narrow)]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (wrong_condition, ("trigger", "'nonsense'", "stress, phone, none")),
        (no_such_slot, ("no slot 'nowhere'", "duration, type")),
        (last_with_condition, ("assess", "leave out its `if`")),
        (twice, ("twice", "its own key")),
        (hidden, ("doctor", "'trigger': 'stress'", "never reached behind", "put it before")),
    ],
)
def test_what_contradicts_itself_is_named_with_its_remedy(entry, tmp_path, spoil, words):
    spoil(entry)
    with pytest.raises(BadInput) as caught:
        load(written(tmp_path, entry), Complaint)
    assert str(caught.value).startswith(str(tmp_path))
    for word in words:
        assert word in str(caught.value)


def test_a_wrong_field_is_named_with_its_line(entry, tmp_path):
    entry["slots"][2]["ask"] = "一句话"
    path = written(tmp_path, entry)
    line = path.read_text(encoding="utf-8").split("\n").index("  ask: 一句话") + 1
    with pytest.raises(BadInput, match=rf"insomnia\.yaml:{line}: slots\.2\.ask='一句话'"):
        load(path, Complaint)


def test_a_byte_order_mark_is_no_fault(entry, tmp_path):
    path = written(tmp_path, entry)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path, Complaint).id == "insomnia"


def test_a_misspelt_field_is_refused(entry, tmp_path):
    entry["follows"] = entry.pop("follow")
    with pytest.raises(BadInput, match="follow"):
        load(written(tmp_path, entry), Complaint)


def test_what_is_no_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("id: x\nname: [失眠\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"x\.yaml:3: not valid YAML"):
        load(path, Complaint)


MEDICINE, PAIR = "medicines:\n- names: [布洛芬, 芬必得]\n  say: [好]\n", "pairs:\n- one: [头孢]\n  say: [别]\n  "


@pytest.mark.parametrize(
    ("kind", "wrong", "told"),
    [
        (Medicines, "- 布洛芬", "1: needs to be a mapping; write"),
        (Medicines, MEDICINE + "- names: [美林, ' ']\n  say: [好]", "4: medicines.1.names.1=' ': is empty; write"),
        (
            Medicines,
            MEDICINE + "- names: [美林, 美林]\n  say: [好]",
            "4: medicines.1.names.1: '美林' stands twice; take",
        ),
        (
            Medicines,
            MEDICINE + "- names: [美林, 芬必得]\n  say: [好]",
            "4: medicines.1.names.1: '芬必得' is a name of '布洛芬', too; take one out",
        ),
        (Medicines, MEDICINE + "  say: [不好]", "4: not valid YAML: 'say' stands twice; make them one"),
        (Pairs, PAIR + "other: 酒", "4: pairs.0.other='酒': needs to be a list; write"),
        (
            Pairs,
            PAIR + "other: [酒, 头孢]",
            "4: pairs.0.other.1: '头孢' and '头孢' name the same; leave it on one side",
        ),
        (Examination, "usual: [头疼]\nunusual: {}", "1: usual: needs to be a mapping; write"),
        (Examination, "usual:\n  cold: [咳]\n  cold: [烧]\nunusual: {}", "3: not valid YAML: 'cold' stands twice"),
        (
            Examination,
            "usual:\n  cold:\n  - 咳\n  - {say: 咳}\nunusual: {}",
            "4: usual.cold.1: '咳' stands twice; take",
        ),
    ],
)
def test_a_wrong_list_is_named_with_its_line_and_remedy(tmp_path, kind, wrong, told):
    path = tmp_path / "x.yaml"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load(path, kind)
    assert str(caught.value).startswith(f"{path}:{told}")


def test_an_aside_is_no_empty_line_and_stands_once(tmp_path):
    assert len(asides()) >= 400
    path = tmp_path / "asides.txt"
    for wrong, told in (("我妈\n \n", "2: is empty; write"), ("我妈\n怕\n我妈", "3: '我妈' stands on line 1 already")):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(BadInput) as caught:
            asides(path)
        assert str(caught.value).startswith(f"{path}:{told}")


def test_an_id_is_its_files_name(entry, tmp_path):
    entry["id"] = "sleep"
    written(tmp_path, entry)
    with pytest.raises(BadInput, match=r"'sleep'.*'insomnia'"):
        knowledge.complaints(tmp_path)


def test_an_empty_folder_says_what_is_needed(tmp_path):
    with pytest.raises(BadInput, match="one file a complaint"):
        knowledge.complaints(tmp_path)


def test_nothing_to_examine_with_is_taught():
    taught, kept, further = bundled(), examination(), {row.say for row in further_openings()}
    assert kept.usual.keys() == kept.unusual.keys() == taught.complaints.keys() and len(kept.generic) >= 57
    for name, opening in (
        (n, o) for kind in (kept.usual, kept.unusual, kept.long) for n, each in kind.items() for o in each
    ):
        entry = taught.complaints[name]
        assert opening.say not in {o.say for o in entry.open} | further
        for key, value in opening.has.items():
            values = value if isinstance(value, tuple) else (value,)
            assert set(values) <= set(entry.slot[key].values), f"{name}: {opening.say}"
    assert not {rare.x for rare in kept.generic} & {symptom.x for symptom in taught.generic.symptoms}


def test_no_word_names_both_of_a_pair_and_one_alone_is_none():
    for pair in bundled().pairs:
        for one in pair.one:
            assert not any(other in one or one in other for other in pair.other) and not pair.told(one, one)
        assert pair.told(pair.one[0], pair.other[0]) and pair.told(f"{pair.other[-1]}{pair.one[-1]}", "")
        assert not pair.told("能吃吗", f"{pair.one[0]}{pair.other[0]}")


def test_files_are_read_as_any_yaml_is():
    for path in [*sorted((knowledge.FOLDER / "complaints").glob("*.yaml"))[::20], knowledge.FOLDER / "common.yaml"]:
        text = path.read_text(encoding="utf-8")
        assert plain(yaml.compose(text, Loader=LOADER)) == yaml.load(text, Loader=LOADER)
    assert plain(yaml.compose("a: [1, .5, true, ~, 2026-11-28]\nb: &x {c: d}\ne: *x")) == yaml.safe_load(
        "a: [1, .5, true, ~, 2026-11-28]\nb: &x {c: d}\ne: *x"
    )

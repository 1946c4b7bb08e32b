from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iccld.errors import InputError
from iccld.labels import (
    CAMVID11,
    CITYSCAPES19,
    CITYSCAPES_ID_TO_TRAIN_ID,
    IGNORE,
    LABEL_SPACES,
    PROTOCOLS,
    SYNTHIA16,
    SYNTHIA_ID_TO_TRAIN_ID,
    LabelSpace,
    get_label_space,
    get_protocol,
    protocol_of,
    suggest,
)

spaces = st.sampled_from(list(LABEL_SPACES.values()))
names = st.lists(
    st.one_of(
        st.sampled_from(CITYSCAPES19.names),
        st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=40,
    unique=True,
)


@given(spaces, spaces)
def test_translation_table_sends_labels_to_labels_and_the_rest_to_ignore(
    space: LabelSpace, other: LabelSpace
) -> None:
    table = space.lut_to(other)
    assert len(table) == 256
    assert all(value == IGNORE or 0 <= value < len(other) for value in table)
    assert set(table[len(space) :]) == {IGNORE}


@given(names)
def test_translation_to_itself_changes_nothing(class_names: list[str]) -> None:
    space = LabelSpace.from_names("own", class_names)
    assert space.lut_to(space)[: len(space)] == tuple(range(len(space)))


@given(names)
def test_translation_there_and_back_never_lands_on_another_class(class_names: list[str]) -> None:
    """Classes with a Cityscapes name come back as themselves, others as ignore."""
    space = LabelSpace.from_names("own", class_names)
    there, back = space.lut_to(CITYSCAPES19), CITYSCAPES19.lut_to(space)
    for label, name in enumerate(class_names):
        returned = back[there[label]] if there[label] != IGNORE else IGNORE
        assert returned == (label if name in CITYSCAPES19.names else IGNORE)


@pytest.mark.parametrize("space", [SYNTHIA16, CAMVID11])
def test_coarse_class_survives_the_trip_through_cityscapes(space: LabelSpace) -> None:
    there, back = space.lut_to(CITYSCAPES19), CITYSCAPES19.lut_to(space)
    assert [back[there[label]] for label in range(len(space))] == list(range(len(space)))


def test_cityscapes_folds_into_camvid_as_its_labels_do() -> None:
    table = CITYSCAPES19.lut_to(CAMVID11)
    folded = {name: CAMVID11.names[table[i]] for i, name in enumerate(CITYSCAPES19.names)}
    assert folded["traffic light"] == "sign"
    assert folded["wall"] == "fence"
    assert folded["terrain"] == "vegetation"
    assert {folded[name] for name in ("car", "truck", "bus", "train")} == {"car"}
    assert {folded[name] for name in ("rider", "motorcycle", "bicycle")} == {"bicyclist"}


def test_classes_that_synthia_lacks_are_ignored_not_folded() -> None:
    table = CITYSCAPES19.lut_to(SYNTHIA16)
    ignored = {name for i, name in enumerate(CITYSCAPES19.names) if table[i] == IGNORE}
    assert ignored == {"terrain", "truck", "train"}


@given(names)
def test_space_survives_json(class_names: list[str]) -> None:
    space = LabelSpace.from_names("own", class_names)
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space


def test_custom_space_keeps_known_classes_and_colors_the_rest_apart() -> None:
    space = LabelSpace.from_names("yard", ["forklift", "person", "pallet", "shelf"])
    assert space.classes[1] == CITYSCAPES19.classes[CITYSCAPES19.names.index("person")]
    assert len(set(space.palette)) == 4
    assert space.classes[0].train_ids == ()


def test_custom_colors() -> None:
    space = LabelSpace.from_names("two", ["road", "other"], colors=[[1, 2, 3], [4, 5, 6]])
    assert space.palette == ((1, 2, 3), (4, 5, 6))
    assert space.classes[0].train_ids == (0,)


@pytest.mark.parametrize("color", [[1, 2], [1, 2, 256], [-1, 0, 0]])
def test_colors_are_three_bytes(color: list[int]) -> None:
    with pytest.raises(InputError, match="three numbers from 0 to 255"):
        LabelSpace.from_names("one", ["road"], colors=[color])


def test_generated_colors_are_all_different() -> None:
    space = LabelSpace.from_names("many", [f"class {i}" for i in range(254)])
    assert len(set(space.palette)) == 254
    assert (0, 0, 0) not in space.palette  # black is what unlabeled pixels look like


@pytest.mark.parametrize("count", [0, 255])
def test_space_of_impossible_size(count: int) -> None:
    with pytest.raises(InputError, match=f"has {count} classes"):
        LabelSpace.from_names("odd", [f"c{i}" for i in range(count)])


def test_space_with_a_name_twice() -> None:
    with pytest.raises(InputError, match="names road twice"):
        LabelSpace.from_names("odd", ["road", "sky", "road"])


def test_protocols_average_the_published_number_of_classes() -> None:
    assert {name: len(p.evaluated) for name, p in PROTOCOLS.items()} == {
        "cityscapes19": 19,
        "synthia16": 16,
        "synthia13": 13,
        "camvid11": 11,
    }
    assert set(PROTOCOLS["synthia13"].names) < set(PROTOCOLS["synthia16"].names)
    assert set(PROTOCOLS["synthia16"].names) - set(PROTOCOLS["synthia13"].names) == {"wall", "fence", "pole"}
    assert PROTOCOLS["synthia16"].names == SYNTHIA16.names


def test_custom_protocol_counts_every_class() -> None:
    space = LabelSpace.from_names("two", ["cat", "dog"])
    assert get_protocol("custom", space).names == ("cat", "dog")
    with pytest.raises(InputError, match="needs a class list"):
        get_protocol("custom")


def test_protocols_are_known_by_classes_not_by_the_name_of_a_space() -> None:
    for name, space in LABEL_SPACES.items():
        assert protocol_of(space) is PROTOCOLS[name]
        assert protocol_of(replace(space, name="yard")) is PROTOCOLS[name]
        two = LabelSpace.from_names(name, ["cat", "dog"])
        assert protocol_of(two).names == ("cat", "dog")
        assert protocol_of(replace(space, classes=space.classes[::-1])).space.classes == space.classes[::-1]
        other_ids = tuple(replace(c, train_ids=()) for c in space.classes)
        assert protocol_of(replace(space, classes=other_ids)).name == f"custom:{name}"


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(InputError, match="did you mean 'synthia16'"):
        get_protocol("synthia-16")
    with pytest.raises(InputError, match="did you mean 'camvid11'"):
        get_label_space("CamVid")
    assert get_protocol("camvid11") is PROTOCOLS["camvid11"]
    assert get_label_space("camvid11") is CAMVID11


@given(st.sampled_from(sorted(LABEL_SPACES)), st.data())
def test_one_lost_letter_is_forgiven(name: str, data: st.DataObject) -> None:
    gap = data.draw(st.integers(0, len(name) - 1))
    assert f"did you mean {name!r}" in suggest(name[:gap] + name[gap + 1 :], list(LABEL_SPACES))


def test_far_word_gets_the_list_alone() -> None:
    assert suggest("zzz", ["road", "sky"]) == "choose from road, sky"


@pytest.mark.parametrize("table", [CITYSCAPES_ID_TO_TRAIN_ID, SYNTHIA_ID_TO_TRAIN_ID])
def test_id_tables_give_each_train_id_once(table: dict[int, int]) -> None:
    given_ids = [value for value in table.values() if value != IGNORE]
    assert len(given_ids) == len(set(given_ids))
    assert set(given_ids) <= set(range(19))


def test_synthia_ids_reach_its_16_classes_and_the_three_it_hardly_has() -> None:
    reached = {value for value in SYNTHIA_ID_TO_TRAIN_ID.values() if value != IGNORE}
    assert {c.train_ids[0] for c in SYNTHIA16.classes} <= reached


@pytest.mark.parametrize(
    "change",
    [
        {"color": [1, 2, 256]}, {"color": [1, 2, -1]}, {"color": [1.0, 2, 3]}, {"color": [True, 2, 3]},
        {"color": "red"}, {"color": None}, {"color": [1, 2]}, {"name": ""}, {"name": 7}, {"name": "a\x1b[31m"},
        {"name": "a\nb"}, {"name": "a\ud800"}, {"name": "a" * 201}, {"train_ids": [10**30]}, {"train_ids": [1] * 65},
        {"id": 3},
    ],
)  # fmt: skip
def test_a_stored_class_has_a_name_and_a_color(change: dict[str, object]) -> None:
    stored = CAMVID11.to_dict()
    stored["classes"][4] |= change
    with pytest.raises(InputError) as caught:
        LabelSpace.from_dict(stored)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "value", [None, [], 3, {}, {"name": "x", "classes": {}}, {"name": "x", "classes": [3]}]
)
def test_what_is_no_label_space(value: object) -> None:
    with pytest.raises(InputError):
        LabelSpace.from_dict(value)

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_data import SIZE, make_camvid, random_ids, random_image, save_gray, save_rgb

from iccld.data.datasets import FileDataset, open_dataset
from iccld.data.description import read_description
from iccld.data.folders import FOLLOW_OUTSIDE
from iccld.data.matching import list_images, match_glob
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19

RNG = np.random.default_rng(0)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        action()
    text = str(error.value)
    assert "\n" not in text
    return text


def describe(root: Path, text: str) -> None:
    (root / "dataset.toml").write_text(text, encoding="utf-8")


def add(root: Path, image: str, label: str | None = None, ids: np.ndarray | None = None) -> None:
    save_rgb(root / image, random_image(RNG))
    if label is not None:
        save_gray(root / label, random_ids(RNG, [0, 1]) if ids is None else ids)


def pairs(root: Path, split: str = "train") -> dict[str, str]:
    data = open_dataset("folder", root, split=split)
    assert isinstance(data, FileDataset)
    return {
        pair.image.relative_to(root).as_posix(): pair.label.relative_to(root).as_posix()
        for pair in data.layout.pairs
        if pair.label is not None
    }


# ── without a description ───────────────────────────────────────────────────


def test_a_heap_of_images_works_unlabeled(tmp_path: Path) -> None:
    add(tmp_path, "b.png")
    add(tmp_path, "trip 1/ä.jpg")
    add(tmp_path, ".thumbnails/b.png")
    (tmp_path / "notes.txt").write_text("no image")
    data = open_dataset("folder", tmp_path, needs_labels=False)
    assert [data.file_name(i) for i in range(len(data))] == ["b.png", "trip 1/ä.jpg"]
    assert data.label_space == CITYSCAPES19
    assert "neither images/ and labels/ nor a dataset.toml" in refusal(
        lambda: open_dataset("folder", tmp_path)
    )


def test_images_and_labels_hold_train_ids(tmp_path: Path) -> None:
    ids = random_ids(RNG, [*range(19), 255])
    add(tmp_path, "images/x/1.jpg", "labels/x/1.png", ids)
    add(tmp_path, "images/1.jpg", "labels/1.png")
    data = open_dataset("folder", tmp_path)
    assert [data.file_name(i) for i in range(2)] == ["1.jpg", "x/1.jpg"]
    np.testing.assert_array_equal(data.label(1), ids)


def test_split_folders_need_no_description(tmp_path: Path) -> None:
    raw = make_camvid(tmp_path, "val")
    data = open_dataset("folder", tmp_path, split="val")
    np.testing.assert_array_equal(data.label(2), raw[2])
    # With an unknown split, label maps must not be read as images.
    assert "no split 'test'" in refusal(
        lambda: open_dataset("folder", tmp_path, split="test", needs_labels=False)
    )


def test_empty_folder(tmp_path: Path) -> None:
    assert "there is no image in the folder" in refusal(
        lambda: open_dataset("folder", tmp_path, needs_labels=False)
    )


# ── pairing ─────────────────────────────────────────────────────────────────


def test_pairs_by_what_the_stars_stand_for(tmp_path: Path) -> None:
    add(tmp_path, "images/day/1_img.png", "labels/day/1_lab.png")
    add(tmp_path, "images/night/1_img.png", "labels/night/1_lab.png")
    add(tmp_path, "images/2_img.png", "labels/2_lab.png")
    add(tmp_path, "images/2_depth.png")
    describe(tmp_path, 'images = "images/**/*_img.png"\nlabels = "labels/**/*_lab.png"\nclasses = ["a", "b"]')
    assert pairs(tmp_path) == {
        "images/2_img.png": "labels/2_lab.png",
        "images/day/1_img.png": "labels/day/1_lab.png",
        "images/night/1_img.png": "labels/night/1_lab.png",
    }
    data = open_dataset("folder", tmp_path)
    assert data.file_name(1) == "day/1_img.png"
    assert data.name == tmp_path.name


@pytest.mark.parametrize(
    ("images", "labels", "image", "label"),
    [
        ("*/rgb/*.jpg", "*/seg/*.png", "run1/rgb/5.jpg", "run1/seg/5.png"),
        ("*.{jpg,png}", "masks/*.png", "5.png", "masks/5.png"),
        ("frame_?.jpg", "frame_?_gt.png", "frame_5.jpg", "frame_5_gt.png"),
        ("a+b(c)/*.jpg", "a+b(c)/*.png", "a+b(c)/5.jpg", "a+b(c)/5.png"),
        ("one.jpg", "other.png", "one.jpg", "other.png"),
        ("a,b/*.jpg", "a,b/*.png", "a,b/5.jpg", "a,b/5.png"),
        ("images/**/*.*", "masks/**/*.*", "images/x/5.6.JPG", "masks/x/5.6.png"),
    ],
)
def test_glob_forms(tmp_path: Path, images: str, labels: str, image: str, label: str) -> None:
    add(tmp_path, image, label)
    add(tmp_path, "elsewhere/deep/down/5.jpg")
    describe(tmp_path, f'images = "{images}"\nlabels = "{labels}"\nclasses = ["a", "b"]')
    assert pairs(tmp_path) == {image: label}


def test_globs_leave_the_folder_only_if_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "store/1.png", "truth/1.png")
    (tmp_path / "set").mkdir()
    text = f'images = "../store/*.png"\nlabels = "{tmp_path}/truth/*.png"\nclasses = ["a", "b"]'
    describe(tmp_path / "set", text)
    with pytest.raises(InputError, match=r"store: leads out of the folder .*--follow-outside"):
        open_dataset("folder", tmp_path / "set")
    monkeypatch.setenv(FOLLOW_OUTSIDE, "1")
    assert open_dataset("folder", tmp_path / "set").label(0).shape == SIZE


def test_links_are_followed_but_loops_end(tmp_path: Path) -> None:
    add(tmp_path, "all/1.png", "both/1.png")
    for link in ("images", "more"):
        (tmp_path / link).symlink_to(tmp_path / "all")
    (tmp_path / "both" / "up").symlink_to(tmp_path)
    names = [file.relative_to(tmp_path).as_posix() for file in list_images(tmp_path)]
    assert names == ["all/1.png", "both/1.png", "images/1.png", "more/1.png"]


def test_globs_that_match_nothing_point_to_what_there_is(tmp_path: Path) -> None:
    add(tmp_path, "images/1.PNG")
    describe(tmp_path, 'images = "images/*.png"\n')
    said = refusal(lambda: open_dataset("folder", tmp_path, needs_labels=False))
    assert "there is, for example, images/1.PNG; upper and lower case count" in said


def test_star_does_not_cross_folders(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png")
    add(tmp_path, "images/deep/2.png")
    assert [name for name, _ in match_glob(tmp_path, "images/*.png").values()] == ["1.png"]


def test_ambiguous_pairs_are_refused(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png")
    add(tmp_path, "images/1.jpg")
    describe(tmp_path, 'images = "images/*.{png,jpg}"')
    assert "1.png: has the same name as 1.jpg" in refusal(
        lambda: open_dataset("folder", tmp_path, needs_labels=False)
    )


# ── classes, ids and colors ─────────────────────────────────────────────────


def test_ids_and_ignore(tmp_path: Path) -> None:
    raw = random_ids(RNG, [7, 26, 27, 0, 200])
    add(tmp_path, "images/1.png", "labels/1.png", raw)
    describe(
        tmp_path,
        """
        name = "mine"
        images = "images/*.png"
        labels = "labels/*.png"
        classes = ["drivable", "vehicle"]
        colors = [[1, 2, 3], [4, 5, 6]]
        ignore = [0, 200]
        [ids]
        7 = "drivable"
        26 = "vehicle"
        27 = "vehicle"
        """,
    )
    data = open_dataset("folder", tmp_path)
    assert data.name == "mine"
    assert data.label_space.palette == ((1, 2, 3), (4, 5, 6))
    expected = np.select([raw == 7, (raw == 26) | (raw == 27)], [0, 1], 255)
    np.testing.assert_array_equal(data.label(0), expected)


def test_own_classes_translate_to_other_spaces_by_name(tmp_path: Path) -> None:
    raw = random_ids(RNG, [0, 1, 2, 255])
    add(tmp_path, "images/1.png", "labels/1.png", raw)
    describe(tmp_path, 'images = "images/*"\nlabels = "labels/*"\nclasses = ["car", "mailbox", "road"]')
    label = open_dataset("folder", tmp_path, label_space=CITYSCAPES19).label(0)
    expected = np.select([raw == 0, raw == 2], [CITYSCAPES19.names.index("car"), 0], 255)
    np.testing.assert_array_equal(label, expected)


def test_binary_masks_can_be_described(tmp_path: Path) -> None:
    raw = random_ids(RNG, [0, 255])
    add(tmp_path, "images/1.png", "labels/1.png", raw)
    describe(
        tmp_path,
        'images = "images/*"\nlabels = "labels/*"\nclasses = ["background", "road"]\nignore = []\n'
        'ids = {0 = "background", 255 = "road"}',
    )
    np.testing.assert_array_equal(open_dataset("folder", tmp_path).label(0), raw // 255)


def test_color_coded_labels(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png")
    ids = random_ids(RNG, [0, 1, 2])
    save_rgb(tmp_path / "labels" / "1.png", np.array([(128, 64, 128), (0, 0, 142), (0, 0, 0)], np.uint8)[ids])
    text = 'images = "images/*"\nlabels = "labels/*"\nclasses = ["road", "car"]\ncolor_coded = true\n'
    describe(tmp_path, text + "ignore_colors = [[0, 0, 0]]")
    np.testing.assert_array_equal(open_dataset("folder", tmp_path).label(0), np.array([0, 1, 255])[ids])
    describe(tmp_path, text)
    assert "color (0, 0, 0)" in refusal(lambda: open_dataset("folder", tmp_path).label(0))


def test_classes_by_the_name_of_a_label_space(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png", "labels/1.png")
    describe(tmp_path, 'images = "images/*"\nlabels = "labels/*"\nclasses = "synthia16"')
    assert open_dataset("folder", tmp_path).label_space.name == "synthia16"


def test_unlisted_id_points_to_the_description(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png", "labels/1.png", np.full(SIZE, 9, np.uint8))
    describe(tmp_path, 'name = "n"\nimages = "images/*"\nlabels = "labels/*"\nclasses = ["a"]')
    text = refusal(lambda: open_dataset("folder", tmp_path).label(0))
    assert "id 9 (192 pixels) has no class in n; list it under [ids] or in ignore in dataset.toml" in text


# ── splits ──────────────────────────────────────────────────────────────────


def test_splits(tmp_path: Path) -> None:
    add(tmp_path, "a/1.png", "a_gt/1.png")
    add(tmp_path, "b/2.png", "b_gt/2.png")
    add(tmp_path, "c/3.png")
    describe(
        tmp_path,
        'images = "a/*"\nlabels = "a_gt/*"\nclasses = ["x", "y"]\nrole = "target"\n'
        '[splits.val]\nimages = "b/*"\nlabels = "b_gt/*"\n[splits.test]\nimages = "c/*"',
    )
    assert pairs(tmp_path) == {"a/1.png": "a_gt/1.png"}
    assert pairs(tmp_path, "val") == {"b/2.png": "b_gt/2.png"}
    assert len(open_dataset("folder", tmp_path, split="test", needs_labels=False)) == 1
    assert "has no labels for split 'test'" in refusal(lambda: open_dataset("folder", tmp_path, split="test"))
    assert "did you mean 'val'?" in refusal(lambda: open_dataset("folder", tmp_path, split="vall"))


# ── mistakes in the description ─────────────────────────────────────────────

GOOD = 'images = "images/*.png"\nlabels = "labels/*.png"\nclasses = ["a", "b"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images = ", "is not valid TOML"),
        (GOOD + 'clases = ["a"]', "unknown key 'clases'; did you mean 'classes'?"),
        ('classes = ["a"]', "names no images"),
        ('images = "images/*.jpg"', "images = 'images/*.jpg' matches no image"),
        (GOOD.replace("labels/*", "lab/*"), "labels = 'lab/*.png' matches no file"),
        (GOOD.replace("labels/*", "labels/**/*"), "same number"),
        ("images = 3", "images = 3 must be text"),
        ('images = "images/*.{png,jpg"', "close the brace"),
        (GOOD.replace("labels/*.png", "labels/*.png}"), "'labels/*.png}' has a brace without its partner"),
        ('images = "images/*.}png{"', "close the brace"),
        ('images = "images/*"\nlabels = "labels/*"', "has labels but no classes"),
        (GOOD.replace('["a", "b"]', '"cityscapes"'), "did you mean 'cityscapes19'?"),
        (GOOD.replace('["a", "b"]', "[1, 2]"), "classes = [1, 2] must be text or a list, each text"),
        (GOOD.replace('"b"', '"a"'), "names a twice"),
        (GOOD.replace('["a", "b"]', "[]"), "has 0 classes"),
        (GOOD + "colors = [[0, 0, 0]]", "1 colors for 2 classes"),
        (GOOD + "colors = [[0, 0, 0], [0, 0, 256]]", "colors[1][2] = 256"),
        (GOOD + 'ignore = ["void"]', "ignore[0] = 'void'"),
        (GOOD + '[ids]\nx = "a"', "[ids] has the key 'x'"),
        (GOOD + '[ids]\n5 = "c"', "[ids] 5 = 'c'"),
        (GOOD + 'ignore = [5]\n[ids]\n5 = "a"', "id 5 is both"),
        (GOOD + "[splits.val]\nlabels = 'x'", "splits: 'val': key 'images' is missing"),
        (GOOD + 'role = "sauce"', "did you mean 'source'?"),
        (GOOD + "color_coded = 1", "color_coded = 1 must be true or false"),
        (GOOD + "color_coded = true\nignore = [5]", "ignore has no meaning with color_coded"),
        (GOOD + "color_coded = true\ncolors = [[1, 1, 1], [1, 1, 1]]", "two classes have the same color"),
        (
            GOOD + "color_coded = true\ncolors = [[1, 1, 1], [2, 1, 1]]\nignore_colors = [[2, 1, 1]]",
            "both a class's and in ignore_colors",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    add(tmp_path, "images/1.png", "labels/1.png")
    describe(tmp_path, text)
    message = refusal(lambda: open_dataset("folder", tmp_path))
    assert said in message
    assert message.startswith(str(tmp_path / "dataset.toml"))


@pytest.mark.parametrize("page", ["data.md", "extending.md"])
def test_examples_in_the_docs_are_readable(tmp_path: Path, page: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / page).read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in (text for text in examples if "[builtin" not in text):
        describe(tmp_path, example)
        assert read_description(tmp_path / "dataset.toml").ids


# ── lists, further colors, other sizes ──────────────────────────────────────


def test_a_list_names_the_images_of_a_split(tmp_path: Path) -> None:
    for stem in ("1", "2", "3"):
        add(tmp_path, f"images/{stem}.jpg", f"labels/{stem}.png" if stem != "3" else None)
    globs = 'images = "images/*.jpg"\nlabels = "labels/*.png"\n'
    text = f'{globs}list = "lists/train.txt"\nclasses = ["a", "b"]\n[splits.val]\n{globs}list = "val.txt"\n'
    describe(tmp_path, text)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("1\n\n")
    assert "val.txt: no such file" in refusal(lambda: open_dataset("folder", tmp_path, split="val"))
    (tmp_path / "val.txt").write_text("2.jpg\n1\n")  # with and without extension
    assert pairs(tmp_path) == {"images/1.jpg": "labels/1.png"}
    assert list(pairs(tmp_path, "val")) == ["images/1.jpg", "images/2.jpg"]
    data = open_dataset("folder", tmp_path)
    assert isinstance(data, FileDataset)
    assert data.layout.stray_labels == ()  # the label of image 2 belongs to another split
    (tmp_path / "val.txt").write_text("9\n")
    assert "'9' is no image of 'images/*.jpg'" in refusal(
        lambda: open_dataset("folder", tmp_path, split="val")
    )
    (tmp_path / "val.txt").write_text("\n")
    assert "the list is empty" in refusal(lambda: open_dataset("folder", tmp_path, split="val"))
    (tmp_path / "val.txt").write_bytes(b"\xff\n")
    assert "is no UTF-8 text" in refusal(lambda: open_dataset("folder", tmp_path, split="val"))


def test_several_colors_may_be_one_class(tmp_path: Path) -> None:
    save_rgb(tmp_path / "images/1.png", random_image(RNG, (1, 4)))
    colors = [[(1, 1, 1), (2, 2, 2), (3, 0, 0), (0, 0, 9)]]
    save_rgb(tmp_path / "labels/1.png", np.array(colors, np.uint8))
    text = 'images = "images/*"\nlabels = "labels/*"\nclasses = ["road", "car"]\ncolor_coded = true\n'
    text += "colors = [[1, 1, 1], [2, 2, 2]]\nignore_colors = [[0, 0, 9]]\n[more_colors]\n"
    describe(tmp_path, text + "car = [[3, 0, 0]]")
    assert open_dataset("folder", tmp_path).label(0).tolist() == [[0, 1, 1, 255]]
    describe(tmp_path, text + "cat = [[3, 0, 0]]")
    assert "more_colors has 'cat'; did you mean 'car'?" in refusal(
        lambda: read_description(tmp_path / "dataset.toml")
    )
    describe(tmp_path, text + "car = [[1, 1, 1]]")
    assert "[1, 1, 1] stands for a class already" in refusal(
        lambda: read_description(tmp_path / "dataset.toml")
    )
    describe(tmp_path, text.replace("color_coded = true\n", "").replace("ignore_colors", "#") + "car = []")
    assert "more_colors has a meaning with color_coded" in refusal(
        lambda: read_description(tmp_path / "dataset.toml")
    )


def test_colors_of_a_label_space_keep_its_meaning(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png", "labels/1.png", np.full(SIZE, 5, np.uint8))
    colors = [[i, 0, 0] for i in range(11)]
    describe(tmp_path, f'images = "images/*"\nlabels = "labels/*"\nclasses = "camvid11"\ncolors = {colors}\n')
    data = open_dataset("folder", tmp_path, label_space=CITYSCAPES19)
    assert set(data.label(0).ravel().tolist()) == {7}  # CamVid's sign is the traffic sign of Cityscapes
    assert open_dataset("folder", tmp_path).label_space.palette[5] == (5, 0, 0)


def test_label_maps_of_another_size_are_resized_if_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path, "images/1.png", "labels/1.png", np.ones((SIZE[0] * 2, SIZE[1] * 2), np.uint8))
    text = 'images = "images/*"\nlabels = "labels/*"\nclasses = ["a", "b"]\n'
    describe(tmp_path, text)
    assert "replace the one that is wrong" in refusal(lambda: open_dataset("folder", tmp_path).label(0))
    describe(tmp_path, text + "resize_labels = true")
    assert open_dataset("folder", tmp_path).label(0).shape == SIZE
    assert "the label map is resized" in caplog.text


def test_class_lists_without_a_common_name_are_refused(tmp_path: Path) -> None:
    add(tmp_path, "images/1.png", "labels/1.png")
    describe(tmp_path, 'images = "images/*"\nlabels = "labels/*"\nclasses = ["shed", "barn"]\n')
    said = refusal(lambda: open_dataset("folder", tmp_path, label_space=CITYSCAPES19))
    assert "none of its classes (shed, barn) is one of cityscapes19 (road, sidewalk, building, …)" in said
    assert len(open_dataset("folder", tmp_path, label_space=CITYSCAPES19, needs_labels=False)) == 1
